"""Small tars and images for tests."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import zstandard

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "xz": lambda data: lzma.compress(data, preset=0),
    "bzip2": lambda data: bz2.compress(data, 1),
}


@dataclass
class Item:
    """One tar member; `kind` as tarfile's type byte."""

    name: str
    content: bytes = b""
    kind: bytes = tarfile.REGTYPE
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)
    link: str = ""
    mtime: float = 1_600_000_000
    device: tuple[int, int] = (0, 0)
    pax: dict[str, str] = field(default_factory=dict)


def directory(name: str, mode: int = 0o755, **more: Any) -> Item:
    return Item(name, kind=tarfile.DIRTYPE, mode=mode, **more)


def symlink(name: str, target: str) -> Item:
    return Item(name, kind=tarfile.SYMTYPE, link=target)


def hard_link(name: str, target: str) -> Item:
    return Item(name, kind=tarfile.LNKTYPE, link=target)


def tar(*items: Item, format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format, errors="surrogateescape") as archive:
        for item in items:
            entry = tarfile.TarInfo(item.name)
            entry.type, entry.mode, entry.mtime, entry.size, entry.linkname = (
                item.kind,
                item.mode,
                item.mtime,
                len(item.content),
                item.link,
            )
            entry.uid, entry.gid = item.owner
            entry.devmajor, entry.devminor = item.device
            entry.pax_headers = item.pax
            archive.addfile(entry, io.BytesIO(item.content))
    return out.getvalue()


def files(content: Mapping[str, bytes]) -> bytes:
    return tar(*(Item(name, data) for name, data in content.items()), format=tarfile.USTAR_FORMAT)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def config(*layers: bytes, **more: Any) -> bytes:
    plain: dict[str, Any] = {"architecture": "amd64", "os": "linux", "config": {}, "created": "2024-01-01T00:00:00Z"}
    plain["rootfs"] = {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}
    return json.dumps({**plain, **more}).encode()


def docker_archive(*layers: bytes, tags: tuple[str, ...] = ("test:1",), compress: str = "plain", **more: Any) -> bytes:
    """`layers` are tars; `compress` is how they are stored."""
    names = {f"{number}/layer.tar": COMPRESSORS[compress](layer) for number, layer in enumerate(layers)}
    manifest = [{"Config": "config.json", "RepoTags": list(tags), "Layers": list(names)}]
    return files({**names, "config.json": config(*layers, **more), "manifest.json": json.dumps(manifest).encode()})


def legacy_archive(*layers: bytes, repository: str = "test", tag: str = "1", **more: Any) -> bytes:
    """As `docker save` wrote it before Docker 1.10."""
    ids = [f"{number:064x}" for number in range(1, len(layers) + 1)]
    found: dict[str, bytes] = {"repositories": json.dumps({repository: {tag: ids[-1]}}).encode()}
    for number, (id, layer) in enumerate(zip(ids, layers, strict=True)):
        plain: dict[str, Any] = {"id": id, **({"parent": ids[number - 1]} if number else {}), "created": "2015-01-01T00:00:00Z"}
        plain |= {"container_config": {"Cmd": ["/bin/sh", "-c", f"step {number} && <done>"]}, "Size": len(layer)}
        plain |= {"docker_version": "1.9.1", "config": {"Cmd": ["sh"]}, "architecture": "amd64", "os": "linux", **more}
        found |= {f"{id}/VERSION": b"1.0", f"{id}/json": json.dumps(plain).encode(), f"{id}/layer.tar": layer}
    return files(found)


def oci_layout(*layers: bytes, name: str = "docker.io/library/test:1", compress: str = "gzip", **more: Any) -> tuple[bytes, str]:
    """An OCI layout of one image, and its manifest's digest."""
    blobs = [COMPRESSORS[compress](layer) for layer in layers]
    settings = config(*layers, **more)
    suffix = {"plain": "", "gzip": "+gzip", "zstd": "+zstd"}[compress]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", settings),
            "layers": [descriptor(f"application/vnd.oci.image.layer.v1.tar{suffix}", blob) for blob in blobs],
        }
    ).encode()
    entry = descriptor("application/vnd.oci.image.manifest.v1+json", manifest) | {
        "annotations": {"io.containerd.image.name": name}
    }
    stored = {f"blobs/sha256/{digest(data)[7:]}": data for data in (*blobs, settings, manifest)}
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    return files({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, **stored}), digest(manifest)


def descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data)}


def read(archive: bytes) -> dict[str, bytes]:
    """Regular members by name."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar_:
        return {item.name: reader.read() for item in tar_ if (reader := tar_.extractfile(item)) is not None}


async def body(data: bytes, size: int = 1 << 16) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]
