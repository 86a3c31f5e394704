"""A busybox image made from the host's static busybox, as a docker-archive: the same bytes on every call.

Also a command: `python tests/support/busybox_image.py [TAG] > busybox.tar`.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from functools import cache
from pathlib import Path

EPOCH = 1704067200  # 2024-01-01T00:00:00Z
_CREATED = "2024-01-01T00:00:00Z"
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\n"
    "sys:x:3:3:sys:/dev:/bin/false\nmail:x:8:8:mail:/var/spool/mail:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"
    "operator:x:37:37:Operator:/var:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    "etc/group": "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nwheel:x:10:root\nmail:x:8:\n"
    "www-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
    "etc/shadow": "root:*:19723:0:99999:7:::\n",
}
_DIRECTORIES = {"bin": 0o755, "dev": 0o755, "etc": 0o755, "home": 0o755, "root": 0o700, "tmp": 0o1777, "usr": 0o755}
_DIRECTORIES |= {"usr/bin": 0o755, "usr/sbin": 0o755, "var": 0o755, "var/spool": 0o755, "var/spool/mail": 0o755, "var/www": 0o755}
_OWNERS = {"var/spool/mail": (8, 8), "home": (65534, 65534)}


def archive(tag: str = "busybox:latest") -> bytes:
    """An uncompressed docker-archive with one image called `tag`. Raises FileNotFoundError where the host has no busybox."""
    layer = _layer()
    config = json.dumps(_config(hashlib.sha256(layer).hexdigest()), separators=(",", ":")).encode()
    name = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{name}.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
    return _tar({f"{name}.json": config, "layer.tar": layer, "manifest.json": json.dumps(manifest).encode()})


def image_id() -> str:
    """The id (config digest, "sha256:...") the image gets in any engine."""
    config = json.dumps(_config(hashlib.sha256(_layer()).hexdigest()), separators=(",", ":")).encode()
    return "sha256:" + hashlib.sha256(config).hexdigest()


def _config(diff_id: str) -> dict[str, object]:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}
    return {
        "architecture": machine.get(_uname(), _uname()),
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]},
        "created": _CREATED,
        "history": [{"created": _CREATED, "created_by": "busybox of the host"}],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
    }


def _uname() -> str:
    return os.uname().machine


@cache
def _layer() -> bytes:
    found = shutil.which("busybox")
    if found is None:
        raise FileNotFoundError("busybox")
    applets = subprocess.run([found, "--list"], capture_output=True, text=True, check=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, mode in _DIRECTORIES.items():
            _add(tar, path, tarfile.DIRTYPE, mode)
        _add(tar, "bin/busybox", tarfile.REGTYPE, 0o755, Path(found).read_bytes())
        for applet in sorted({*applets} - {"busybox"}):
            _add(tar, f"bin/{applet}", tarfile.SYMTYPE, 0o777, link="busybox")
        _add(tar, "usr/bin/env", tarfile.SYMTYPE, 0o777, link="../../bin/env")
        for path, text in _FILES.items():
            _add(tar, path, tarfile.REGTYPE, 0o600 if path == "etc/shadow" else 0o644, text.encode())
    return out.getvalue()


def _add(tar: tarfile.TarFile, path: str, kind: bytes, mode: int, content: bytes = b"", link: str = "") -> None:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.mtime, entry.size, entry.linkname = kind, mode, EPOCH, len(content), link
    entry.uid, entry.gid = _OWNERS.get(path, (0, 0))
    tar.addfile(entry, io.BytesIO(content))


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in files.items():
            _add(tar, path, tarfile.REGTYPE, 0o644, content)
    return out.getvalue()


if __name__ == "__main__":
    sys.stdout.buffer.write(archive(*sys.argv[1:2]))
