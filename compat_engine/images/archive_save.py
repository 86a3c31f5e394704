"""`docker save`: images as one tar that is a docker-archive and an OCI layout at once, blobs exactly as they are kept.

manifest.json and repositories are for Docker's readers, index.json for the others; layers several images share are in it once.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compat_engine.errors import NotFound
from compat_engine.images import tarwriter
from compat_engine.images.layers import digest_of
from compat_engine.images.library import Library, check_fits
from compat_engine.images.records import CONFIG, INDEX, MANIFEST, Descriptor, Image
from compat_engine.images.reference import Reference, is_digest, is_hex_id, parse
from compat_engine.images.remake import blob_file

_CHUNK = 1 << 20
_LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'


@dataclass(frozen=True, slots=True)
class _Saved:
    """An image with the references it is saved under (none: by its id), and its manifest."""

    image: Image
    references: tuple[Reference, ...]
    manifest: bytes
    descriptor: Descriptor


def save(library: Library, words: list[str], platform: str = "") -> AsyncIterator[bytes]:
    """The archive in pieces of about a mebibyte. A name without a tag means every tag of the repository; `platform` is what all
    the images must be for.

    Raises NotFound and InvalidParameter at once, before the first piece is asked for.
    """
    chosen: dict[str, dict[Reference, None]] = {}  # ordered as asked
    for word in words:
        for id, reference in _meant(library, word):
            check_fits(library.images[id], word, platform)
            chosen.setdefault(id, {}).update({reference: None} if reference else {})
    saved = [_saved(library, library.images[id], tuple(references)) for id, references in chosen.items()]
    return _stream(library, saved)


def _meant(library: Library, word: str) -> list[tuple[str, Reference | None]]:
    if is_hex_id(word) or is_digest(word):
        return [(library.find(word).id, None)]
    reference = parse(word)
    if reference.tag or reference.digest:
        id = library.id_of(reference)
        if id is None:
            raise NotFound("reference does not exist" if reference.tag else f"No such image: {word}")
        return [(id, reference if reference.tag else None)]
    tagged = [(id, named) for named, id in library.repository(reference.name) if named.tag]
    try:
        return list(tagged) or [(library.find(word).id, None)]
    except NotFound:
        raise NotFound(f"No such image: {word}") from None


def _saved(library: Library, image: Image, references: tuple[Reference, ...]) -> _Saved:
    manifest = library.blobs.read(image.manifest.digest) if image.manifest is not None else _manifest(image)
    return _Saved(image, references, manifest, descriptor(image))


def descriptor(image: Image) -> Descriptor:
    """Of the manifest it came with, or else of the one it is saved with."""
    if image.manifest is not None:
        return image.manifest
    made = _manifest(image)
    return Descriptor(MANIFEST, digest_of(made), len(made))


def _manifest(image: Image) -> bytes:
    """For an image that came without one: the same bytes Docker makes for it."""
    config = Descriptor(CONFIG, image.id, image.config_size)
    layers = [blob.plain() for blob in image.blobs]
    return _json({"schemaVersion": 2, "mediaType": MANIFEST, "config": config.plain(), "layers": layers})


async def _stream(library: Library, saved: list[_Saved]) -> AsyncIterator[bytes]:
    images = [item.image for item in saved]
    with library.pins.hold(key for image in images for key in (*image.digests, *image.chains)):
        for digest in sorted({blob.digest for image in images for blob in image.blobs}):
            await blob_file(library, digest)
        pieces = _tar(library, saved)
        # A thread reads ahead of the client by one piece; the loop never waits for the disk.
        coming = asyncio.ensure_future(asyncio.to_thread(next, pieces, b""))
        try:
            while piece := await coming:
                coming = asyncio.ensure_future(asyncio.to_thread(next, pieces, b""))
                yield piece
        finally:
            await asyncio.gather(coming, return_exceptions=True)
            pieces.close()


def _tar(library: Library, saved: list[_Saved]) -> "Pieces":
    return Pieces(_members(library, saved))


class Pieces:
    """Joins small pieces up to `_CHUNK` before they go on."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._waiting: list[bytes] = []

    def __iter__(self) -> "Pieces":
        return self

    def __next__(self) -> bytes:
        size = 0
        for piece in self._source:
            self._waiting.append(piece)
            size += len(piece)
            if size >= _CHUNK:
                break
        joined, self._waiting = b"".join(self._waiting), []
        if not joined:
            raise StopIteration
        return joined

    def close(self) -> None:
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


def _members(library: Library, saved: list[_Saved]) -> Iterator[bytes]:
    small = {item.descriptor.digest: item.manifest for item in saved}
    files = {digest: library.blobs.path(digest) for item in saved for digest in item.image.digests - small.keys()}
    if saved:
        yield tarwriter.header(b"blobs/", tarwriter.DIRECTORY, mode=0o755)
        yield tarwriter.header(b"blobs/sha256/", tarwriter.DIRECTORY, mode=0o755)
    for digest in sorted({*small, *files}):
        name = f"blobs/{digest.replace(':', '/')}"
        yield from _small(name, small[digest]) if digest in small else _file(name, files[digest])
    yield from _small("index.json", _index(saved))
    yield from _small("manifest.json", _docker_manifest(saved))
    yield from _small("oci-layout", _LAYOUT)
    if repositories := _repositories(saved):
        yield from _small("repositories", _json(repositories) + b"\n")
    yield tarwriter.END


def _small(name: str, content: bytes) -> Iterator[bytes]:
    yield tarwriter.header(os.fsencode(name), size=len(content)) + content + tarwriter.padding(len(content))


def _file(name: str, path: Path) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        yield tarwriter.header(os.fsencode(name), size=size)
        while chunk := file.read(_CHUNK):
            yield chunk
        yield tarwriter.padding(size)


def _index(saved: list[_Saved]) -> bytes:
    manifests = []
    for item in saved:
        for reference in item.references or (None,):
            entry = item.descriptor.plain()
            if reference is not None:
                names = {"io.containerd.image.name": str(reference), "org.opencontainers.image.ref.name": reference.tag}
                entry["annotations"] = names
            manifests.append(entry)
    return _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests or None})


def _docker_manifest(saved: list[_Saved]) -> bytes:
    items = []
    for item in saved:
        blobs = item.image.blobs
        entry: dict[str, Any] = {
            "Config": _blob_path(item.image.id),
            "RepoTags": [reference.familiar for reference in item.references] or None,
            "Layers": [_blob_path(blob.digest) for blob in blobs],
        }
        if item.image.parent:
            entry["Parent"] = item.image.parent
        sources = zip(item.image.layers, blobs, strict=True)
        items.append({**entry, "LayerSources": {layer.diff_id: blob.plain() for layer, blob in sources}})
    return _json(items or None) + b"\n"


def _repositories(saved: list[_Saved]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for item in saved:
        for reference in item.references:
            top = item.image.layers[-1].diff_id if item.image.layers else ""
            found.setdefault(reference.familiar_name, {})[reference.tag] = top.removeprefix("sha256:")
    return {name: found[name] for name in sorted(found)}


def _blob_path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
