"""Blobs that are not kept: a committed layer is its directory, and a tar only when somebody asks for one."""

import asyncio
import os
from pathlib import Path

from compat_engine.errors import Internal
from compat_engine.images.intake import workspace
from compat_engine.images.library import Library
from compat_engine.images.records import Layer


async def blob_file(library: Library, digest: str) -> Path:
    """The file of an image's blob, made from its layer's directory when there is none yet. The caller holds a pin on the digest
    and on the chains of the image. Raises Internal when it cannot be made, or not as it was.
    """
    path = library.blobs.path(digest)
    if not await asyncio.to_thread(path.exists):
        layer = next((layer for layer in library.layers.values() if layer.made_here and layer.diff_id == digest), None)
        if layer is None:
            raise Internal(f"blob {digest} is missing")
        try:
            await _make(library, layer)
        except OSError as error:
            raise Internal(f"cannot make blob {digest}: {error.strerror or error}") from error
    return path


async def _make(library: Library, layer: Layer) -> None:
    async with workspace(library.tree.tmp) as work:
        file = work / "blob"
        fd = await asyncio.to_thread(os.open, file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            directory = library.tree.layers / layer.cache_id / "diff"
            made = await library.workers.run("root_tar", [fd], layer=str(directory))
            if made["digest"] != layer.diff_id:
                raise Internal(f"layer {layer.diff_id} is corrupt: its files make {made['digest']}")
            await asyncio.to_thread(os.fsync, fd)
        finally:
            os.close(fd)
        await asyncio.to_thread(_keep, library, file, layer.diff_id)


def _keep(library: Library, file: Path, digest: str) -> None:
    library.blobs.adopt(file, digest)
    library.blobs.sync()
