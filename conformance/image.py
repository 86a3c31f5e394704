"""The image the checks run: a root made of the host's static busybox, packed as ``docker save`` does."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping
from typing import Any

CREATED = "2024-01-02T03:04:05Z"
PASSWD = "root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1000::/home/worker:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
GROUP = "root:x:0:\nworker:x:1000:\nextra:x:2000:worker\nnogroup:x:65534:\n"
DIRECTORIES = {"bin": 0o755, "etc": 0o755, "tmp": 0o1777, "root": 0o700, "home": 0o755, "var": 0o755}


class ArchiveWriter:
    """A tar archive in memory, with entries that look the same each time."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)

    def _entry(self, name: str, mode: int, owner: int) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(name)
        entry.mode, entry.uid, entry.gid, entry.mtime = mode, owner, owner, 1704164645
        return entry

    def directory(self, name: str, mode: int = 0o755, owner: int = 0) -> None:
        entry = self._entry(name, mode, owner)
        entry.type = tarfile.DIRTYPE
        self._tar.addfile(entry)

    def file(self, name: str, data: bytes, mode: int = 0o644, owner: int = 0) -> None:
        entry = self._entry(name, mode, owner)
        entry.size = len(data)
        self._tar.addfile(entry, io.BytesIO(data))

    def link(self, name: str, target: str) -> None:
        entry = self._entry(name, 0o777, 0)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(entry)

    def close(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


def root_layer(busybox: str, marker: str) -> bytes:
    """The base layer; ``marker`` goes into a file, so that each run has an image of its own."""
    tar = ArchiveWriter()
    for name, mode in DIRECTORIES.items():
        tar.directory(name, mode)
    with open(busybox, "rb") as file:
        tar.file("bin/busybox", file.read(), 0o755)
    for applet in _applets(busybox):
        tar.link(f"bin/{applet}", "busybox")
    tar.file("etc/passwd", PASSWD.encode())
    tar.file("etc/group", GROUP.encode())
    tar.file("etc/marker", marker.encode())
    tar.directory("home/worker", 0o700, 1000)
    tar.directory("data", 0o750, 1000)
    tar.file("data/seed", b"seed\n", 0o640, 1000)
    return tar.close()


def small_layer(name: str, text: str) -> bytes:
    """A layer that adds one file."""
    tar = ArchiveWriter()
    tar.file(name, text.encode())
    return tar.close()


def archive(tag: str | None, layers: list[bytes], config: Mapping[str, Any] | None = None) -> bytes:
    """A docker-archive of one image: manifest.json, the config and the layers."""
    described = image_config(layers, config or {})
    digest = hashlib.sha256(described).hexdigest()
    tar = ArchiveWriter()
    tar.file(f"{digest}.json", described)
    names = []
    for layer in layers:
        directory = hashlib.sha256(layer).hexdigest()
        tar.directory(directory)
        tar.file(f"{directory}/layer.tar", layer)
        names.append(f"{directory}/layer.tar")
    manifest = [{"Config": f"{digest}.json", "RepoTags": [tag] if tag else None, "Layers": names}]
    tar.file("manifest.json", json.dumps(manifest).encode())
    return tar.close()


def image_id(layers: list[bytes], config: Mapping[str, Any] | None = None) -> str:
    """The id the engine must give to ``archive`` with the same arguments."""
    return "sha256:" + hashlib.sha256(image_config(layers, config or {})).hexdigest()


def compressed(data: bytes) -> bytes:
    return gzip.compress(data, 1)


def image_config(layers: list[bytes], config: Mapping[str, Any]) -> bytes:
    """The configuration of an image of these layers."""
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": CREATED,
            "config": {"Cmd": ["sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], **config},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(x).hexdigest() for x in layers]},
            "history": [{"created": CREATED, "created_by": f"layer {n}"} for n, _ in enumerate(layers, 1)],
        }
    ).encode()


def _applets(busybox: str) -> list[str]:
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    return [applet for applet in listed if applet != "busybox"]
