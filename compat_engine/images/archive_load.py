"""`docker load`: an archive in Docker's form (manifest.json; repositories of old) or an OCI layout (index.json), into images.

The archive is spooled and hashed by a worker first; then each image is added by itself, so of several the good ones before a bad
one stay, as with Docker.
"""

import json
import os
import posixpath
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compat_engine.errors import InvalidParameter, NotFound
from compat_engine.images import archive_legacy
from compat_engine.images.intake import feed, workspace
from compat_engine.images.layers import Incoming, IncomingLayer, Say, add
from compat_engine.images.library import Library, host_platform
from compat_engine.images.records import INDEX, LAYER, MANIFEST, Descriptor, Image
from compat_engine.images.reference import Reference, parse
from compat_engine.images.waiting import narrated

_DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_INDEXES, _MANIFESTS = (INDEX, _DOCKER_INDEX), (MANIFEST, _DOCKER_MANIFEST)
_NAME, _REF_NAME = "io.containerd.image.name", "org.opencontainers.image.ref.name"
_JSON_LIMIT = 8 << 20  # bytes
_LINKS = 10
_NESTING = 4
_SUFFIXES = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}
Platform = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    size: int
    digest: str


def load(
    library: Library, body: AsyncIterator[bytes], quiet: bool, platform: Platform | None, loaded: Callable[[Image], None]
) -> AsyncIterator[dict[str, Any]]:
    """Docker's progress objects while the images in `body` are loaded; `loaded` hears of each one.

    Raises InvalidParameter for what is no image archive, NotFound when it has no image for `platform`.
    """

    async def work(say: Say) -> None:
        async with workspace(library.tree.tmp) as directory:
            archive = await _spool(library, body, directory)
            images = archive.images(platform)
            with library.pins.hold(layer.blob.digest for image in images for layer in image.layers):
                for number, image in enumerate(images):
                    own = directory / f"image-{number}"
                    own.mkdir()
                    loaded(await _load_one(library, image, own, say, quiet))

    return narrated(work)


async def _spool(library: Library, body: AsyncIterator[bytes], directory: Path) -> "_Archive":
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        members = (await feed(library.workers, "spool", body, fd))["members"]
    finally:
        os.close(fd)
    return _Archive(members, directory)


async def _load_one(library: Library, image: Incoming, work: Path, say: Say, quiet: bool) -> Image:
    for name in image.names:
        previous = library.id_of(name)
        if previous is not None and previous != image.id:
            moved = f"renaming the old one with ID {previous} to empty string"
            say({"stream": f"The image {name.familiar} already exists, {moved}\n"})
    added = await add(library, image, work, None if quiet else say)
    for name in image.names:
        say({"stream": f"Loaded image: {name.familiar}\n"})
    if not image.names:
        say({"stream": f"Loaded image ID: {added.id}\n"})
    return added


class _Archive:
    """The members of a spooled archive, and the images they are."""

    def __init__(self, members: list[dict[str, Any]], directory: Path) -> None:
        self._directory = directory
        self._members = {posixpath.normpath(member["name"]).lstrip("/"): member for member in members}

    def images(self, platform: Platform | None) -> list[Incoming]:
        listed = list(self._listed()) if "manifest.json" in self._members else []
        if "index.json" in self._members:
            found = list(self._indexed(self._json("index.json"), platform or host_platform(), platform is not None))
            if found:
                return _fitting(_merged(found, listed), platform)
        elif "repositories" in self._members and "manifest.json" not in self._members:
            listed = list(archive_legacy.images(self._json, lambda name: self._layer(self._file(name))))
            return _fitting(_merged(listed, []), platform)
        elif "manifest.json" not in self._members:
            raise InvalidParameter("unrecognized image archive: it has neither a manifest.json nor an index.json")
        return _fitting(_merged(listed, []), platform)

    def _listed(self) -> Iterator[Incoming]:
        """What manifest.json says."""
        manifest = self._json("manifest.json")
        if manifest is None:
            raise InvalidParameter("invalid manifest, manifest cannot be null (but can be [])")
        for item in _objects(manifest):
            layers = [self._layer(self._file(path)) for path in _strings(item.get("Layers"))]
            names = tuple(_tagged(name) for name in _strings(item.get("RepoTags")))
            yield Incoming(self._bytes(self._file(_string(item.get("Config")))), tuple(layers), names)

    def _indexed(self, index: Any, platform: Platform, wanted: bool, depth: int = 0) -> Iterator[Incoming]:
        """What an index says: at the top every image, below it the one for `platform`."""
        for item in _objects(index.get("manifests") if isinstance(index, dict) else None):
            content = self._blob(_string(item.get("digest")))
            manifest = _parse(self._bytes(content), content.digest)
            names = _names(item.get("annotations"))
            if item.get("mediaType") in _INDEXES or (isinstance(manifest, dict) and "manifests" in manifest):
                if depth >= _NESTING:
                    raise InvalidParameter("index.json nests too deep")
                inner = list(self._indexed(manifest, platform, wanted, depth + 1))
                chosen = _choose(inner, platform, wanted)
                yield from (replace(image, names=names or image.names) for image in chosen)
            elif _is_image(item, manifest):
                yield self._image(item, content, manifest, names)

    def _image(self, item: dict[str, Any], content: _File, manifest: dict[str, Any], names: tuple[Reference, ...]) -> Incoming:
        layers = []
        for layer in _objects(manifest.get("layers")):
            file = self._blob(_string(layer.get("digest")))
            layers.append(IncomingLayer(Descriptor(_string(layer.get("mediaType")), file.digest, file.size), file.path))
        config = self._blob(_string(_object(manifest.get("config")).get("digest")))
        kind = item.get("mediaType") or manifest.get("mediaType") or MANIFEST
        return Incoming(self._bytes(config), tuple(layers), names, self._bytes(content), kind)

    def _layer(self, file: _File) -> IncomingLayer:
        with open(file.path, "rb") as content:
            kind = LAYER + _SUFFIXES.get(content.read(2), "")
        return IncomingLayer(Descriptor(kind, file.digest, file.size), file.path)

    def _blob(self, digest: str) -> _File:
        file = self._file(f"blobs/{digest.replace(':', '/')}")
        if file.digest != digest:
            raise InvalidParameter(f"blob {digest} has the digest {file.digest}")
        return file

    def _file(self, name: str) -> _File:
        """The file `name` is, links followed within the archive."""
        path = posixpath.normpath(name).lstrip("/")
        for _ in range(_LINKS):
            member = self._members.get(path)
            if member is None:
                break
            if member["file"]:
                return _File(self._directory / member["file"], member["size"], member["digest"])
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), member["link"])).lstrip("/")
        raise InvalidParameter(f"invalid archive: no file {name} in it")

    def _json(self, name: str) -> Any:
        return _parse(self._bytes(self._file(name)), name)

    def _bytes(self, file: _File) -> bytes:
        if file.size > _JSON_LIMIT:
            raise InvalidParameter("invalid archive: a manifest or configuration is too large")
        return file.path.read_bytes()


def _merged(images: list[Incoming], listed: list[Incoming]) -> list[Incoming]:
    """One for each image id, with the names all mentions of it give."""
    found: dict[str, Incoming] = {}
    for image in images:
        known = found.setdefault(image.id, image)
        found[image.id] = replace(known, names=tuple(dict.fromkeys((*known.names, *image.names))))
    for image in listed:
        if image.id in found:
            found[image.id] = replace(found[image.id], names=tuple(dict.fromkeys((*image.names, *found[image.id].names))))
    return list(found.values())


def _choose(images: list[Incoming], platform: Platform, wanted: bool) -> list[Incoming]:
    """The image for the platform; without one asked for, the first when none fits. Raises NotFound when one was asked for."""
    fitting = [image for image in images if _fits(image, platform)]
    if wanted:
        _check_any(fitting, platform)
    return (fitting or images)[:1]


def _fitting(images: list[Incoming], platform: Platform | None) -> list[Incoming]:
    """Those for the platform that was asked for, if one was. Raises NotFound when none is left."""
    if platform is None or not images:
        return images
    fitting = [image for image in images if _fits(image, platform)]
    _check_any(fitting, platform)
    return fitting


def _check_any(fitting: list[Incoming], platform: Platform) -> None:
    if not fitting:
        raise NotFound(f"no image for platform {'/'.join(part for part in platform if part)} in the archive")


def _fits(image: Incoming, platform: Platform) -> bool:
    config = _object(_parse(image.config, "image configuration"))
    have = (config.get("os") or "", config.get("architecture") or "", config.get("variant") or "")
    return have[:2] == platform[:2] and (not platform[2] or have[2] == platform[2])


def _is_image(item: dict[str, Any], manifest: Any) -> bool:
    """Not an attestation or another artifact."""
    platform = item.get("platform")
    unknown = isinstance(platform, dict) and platform.get("os") == "unknown"
    return not unknown and isinstance(manifest, dict) and "config" in manifest and item.get("mediaType") in (*_MANIFESTS, None)


def _names(annotations: Any) -> tuple[Reference, ...]:
    if not isinstance(annotations, dict):
        return ()
    name = annotations.get(_NAME) or annotations.get(_REF_NAME) or ""
    if not isinstance(name, str) or not (_NAME in annotations or ":" in name or "/" in name):
        return ()  # a bare tag names nothing
    return (_tagged(name),)


def _tagged(name: str) -> Reference:
    reference = parse(name)
    if not reference.tag or reference.digest:
        raise InvalidParameter(f'invalid tag "{name}"')
    return reference


def _parse(content: bytes, what: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise InvalidParameter(f"invalid archive: {what} is no JSON") from None


def _objects(value: Any) -> list[dict[str, Any]]:
    if value is not None and not isinstance(value, list):
        raise InvalidParameter("invalid archive: malformed manifest")
    return [_object(item) for item in value or []]


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidParameter("invalid archive: malformed manifest")
    return value


def _strings(value: Any) -> list[str]:
    if value is not None and not isinstance(value, list):
        raise InvalidParameter("invalid archive: malformed manifest")
    return [_string(item) for item in value or []]


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidParameter("invalid archive: malformed manifest")
    return value
