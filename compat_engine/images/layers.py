"""From a layer's blob to a directory overlayfs uses, and from verified parts to a committed image.

Nothing is visible before everything is there: directories and blobs are made below Tree.tmp, verified, synced, renamed, and then
one transaction names them all. A crash in between leaves files without a record, which `gc.sweep` removes.
"""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from compat_engine.errors import Internal, InvalidParameter
from compat_engine.ids import new_id, short
from compat_engine.images.extract import IMPLIED
from compat_engine.images.library import Library, check_platform, now_text
from compat_engine.images.records import Descriptor, Image, Layer, chain_ids
from compat_engine.images.reference import Reference
from compat_engine.images.shape import check_shape
from compat_engine.images.waiting import together, uninterrupted
from compat_engine.kernel.files import syncfs
from compat_engine.store.blobs import sync_directory

MAX_LAYERS = 125  # as Docker; overlayfs itself takes 500
Say = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A layer's content in `directory` (which holds `diff`), below Tree.tmp. implied: whether there are directories its tar
    did not describe; made_here: see Layer."""

    directory: Path
    diff_id: str
    size: int
    implied: bool
    made_here: bool = False


@dataclass(frozen=True, slots=True)
class IncomingLayer:
    """A layer's blob, verified against its digest, in a file below Tree.tmp (None: already in the store, or not kept)."""

    blob: Descriptor
    file: Path | None
    unpacked: Unpacked | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """An image about to be added. config and manifest are the exact bytes; manifest b"" when it came without one."""

    config: bytes
    layers: tuple[IncomingLayer, ...]
    names: tuple[Reference, ...] = ()
    manifest: bytes = b""
    manifest_type: str = ""
    parent: str = ""
    tagged_at: str = ""  # set where the names are this engine's doing, as of an import

    @property
    def id(self) -> str:
        return digest_of(self.config)


def digest_of(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"


async def add(library: Library, incoming: Incoming, work: Path, say: Say | None = None) -> Image:
    """Unpacks what is missing, verifies every diff id, and commits image, layers and names together.

    `work`: a directory of the caller's below Tree.tmp. `say` hears Docker's progress objects. Raises InvalidParameter for an
    image that is not what it says, Internal when the host fails (disk full).
    """
    config = parse_config(incoming.config)
    diff_ids = config["rootfs"]["diff_ids"]
    if len(diff_ids) != len(incoming.layers):
        raise InvalidParameter(f"invalid manifest, layers length mismatch: expected {len(diff_ids)}, got {len(incoming.layers)}")
    chains = chain_ids(diff_ids)
    async with library.hold([*chains, *(layer.blob.digest for layer in incoming.layers)]):
        try:
            unpacked = await _unpack_missing(library, incoming, diff_ids, chains, work, say)
            await asyncio.to_thread(_stage, incoming, work)
            return await uninterrupted(_publish(library, incoming, config, chains, unpacked, work))
        except OSError as error:
            raise Internal(f"failed to register layer: {error.strerror or error}") from error


def parse_config(content: bytes) -> dict[str, Any]:
    """The image configuration. Raises InvalidParameter when it is none, or for another system than Linux."""
    try:
        config = json.loads(content)
        diff_ids = config["rootfs"]["diff_ids"] or []
        if not all(isinstance(diff_id, str) for diff_id in diff_ids):
            raise TypeError
        config["rootfs"]["diff_ids"] = diff_ids
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InvalidParameter("invalid image JSON, no RootFS key") from None
    check_shape(config)
    if len(diff_ids) > MAX_LAYERS:
        raise InvalidParameter("max depth exceeded")
    check_platform(config)
    parsed: dict[str, Any] = config
    return parsed


async def unpack(library: Library, layer: IncomingLayer, directory: Path, say: Say | None = None, label: str = "") -> Unpacked:
    """Unpacks a blob into `directory`/diff in a worker. Raises InvalidParameter for a bad tar, OSError from the filesystem."""
    # Another image of the same archive may have brought the blob into the store already.
    file = layer.file if layer.file and layer.file.exists() else library.blobs.path(layer.blob.digest)

    def progress(consumed: int) -> None:
        if say is not None:
            say(loading(label, consumed, layer.blob.size))

    def prepare() -> tuple[int, int]:
        (directory / "diff").mkdir(mode=0o755, parents=True)
        (directory / "diff").chmod(0o755)
        return os.open(file, os.O_RDONLY), os.open(directory / "diff", os.O_RDONLY | os.O_DIRECTORY)

    async with library.workers.slot():
        fds = await asyncio.to_thread(prepare)
        try:
            done = await library.workers.run("extract", fds, progress, digest=layer.blob.digest)
        finally:
            for fd in fds:
                os.close(fd)
    return Unpacked(directory, done["diff_id"], done["size"], done["implied"])


def loading(label: str, current: int, total: int) -> dict[str, Any]:
    return {"status": "Loading layer", "progressDetail": {"current": min(current, total), "total": total}, "id": label}


async def _unpack_missing(
    library: Library, incoming: Incoming, diff_ids: list[str], chains: list[str], work: Path, say: Say | None
) -> dict[int, Unpacked]:
    """Position -> content, of the layers the store has not."""
    missing = [number for number, chain in enumerate(chains) if chain not in library.layers]
    missing.sort(key=lambda number: -incoming.layers[number].blob.size)  # the longest first: the others fill the time beside it

    async def one(number: int) -> Unpacked:
        layer, label = incoming.layers[number], short(diff_ids[number])
        unpacked = layer.unpacked or await unpack(library, layer, work / f"layer-{number}", say, label)
        if unpacked.diff_id != diff_ids[number]:
            raise InvalidParameter(f'invalid diffID for layer {number}: expected "{diff_ids[number]}", got "{unpacked.diff_id}"')
        if say is not None:
            say(loading(label, layer.blob.size, layer.blob.size))
        return unpacked

    found = dict(zip(missing, await together([one(number) for number in missing]), strict=True))
    for number in sorted(found):
        await _inherit(library, found, chains, number)
    return found


async def _inherit(library: Library, found: dict[int, Unpacked], chains: list[str], number: int) -> None:
    """Directories a layer's tar leaves out must not hide the owner and mode they have in the layers below."""
    if not found[number].implied:
        return
    if not number:  # nothing below
        (found[number].directory / IMPLIED).unlink()
        return
    directories = [
        found[below].directory if below in found else library.tree.layers / library.layers[chains[below]].cache_id
        for below in reversed(range(number))
    ]
    lowers = [str(directory / "diff") for directory in directories]
    fd = os.open(found[number].directory / "diff", os.O_RDONLY | os.O_DIRECTORY)
    try:
        await library.workers.run("inherit", [fd], lowers=lowers)
    finally:
        os.close(fd)


def _stage(incoming: Incoming, work: Path) -> None:
    """Writes the small blobs beside the rest, then everything to the disk."""
    (work / "config").write_bytes(incoming.config)
    if incoming.manifest:
        (work / "manifest").write_bytes(incoming.manifest)
    fd = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


async def _publish(
    library: Library, incoming: Incoming, config: dict[str, Any], chains: list[str], unpacked: dict[int, Unpacked], work: Path
) -> Image:
    async with library.lock:
        known = library.images.get(incoming.id)
        new = [] if known else _new_layers(library, chains, unpacked)
        moves = [(layer, unpacked[number]) for number, layer in new]
        await asyncio.to_thread(_move, library, incoming, work, moves, known is None)
        if known is not None:
            return await library.commit(known, [], list(incoming.names))
        changed = [*(layer for _, layer in new), *_made_again(library, incoming, chains)]
        layers = {**library.layers, **{layer.chain_id: layer for layer in changed}}
        manifest = incoming.manifest
        image = Image(
            id=incoming.id,
            config=config,
            layers=tuple(layers[chain] for chain in chains),
            blobs=tuple(layer.blob for layer in incoming.layers),
            config_size=len(incoming.config),
            manifest=Descriptor(incoming.manifest_type, digest_of(manifest), len(manifest)) if manifest else None,
            parent=incoming.parent,
            tagged_at=incoming.tagged_at,
            added_at=now_text(),
        )
        return await library.commit(image, changed, list(incoming.names))


def _new_layers(library: Library, chains: list[str], unpacked: dict[int, Unpacked]) -> list[tuple[int, Layer]]:
    """Those somebody else has not brought meanwhile."""
    return [
        (number, _layer(content, chains, number))
        for number, content in sorted(unpacked.items())
        if chains[number] not in library.layers
    ]


def _layer(content: Unpacked, chains: list[str], number: int) -> Layer:
    parent = chains[number - 1] if number else ""
    return Layer(content.diff_id, chains[number], new_id(), content.size, parent, content.made_here)


def _made_again(library: Library, incoming: Incoming, chains: list[str]) -> list[Layer]:
    """Layers that came with some image and are what a commit makes now: one diff id is one tree of files."""
    made = [chain for chain, layer in zip(chains, incoming.layers, strict=True) if layer.unpacked and layer.unpacked.made_here]
    return [replace(library.layers[chain], made_here=True) for chain in made if chain in library.layers]


def _move(library: Library, incoming: Incoming, work: Path, new: list[tuple[Layer, Unpacked]], blobs: bool) -> None:
    for layer, content in new:
        content.directory.chmod(0o710)
        os.rename(content.directory, library.tree.layers / layer.cache_id)
    if new:
        sync_directory(library.tree.layers)
    if blobs:
        for part in incoming.layers:
            if part.file is not None and part.file.exists():  # one blob may be several layers
                library.blobs.adopt(part.file, part.blob.digest)
        library.blobs.adopt(work / "config", incoming.id)
        if incoming.manifest:
            library.blobs.adopt(work / "manifest", digest_of(incoming.manifest))
        library.blobs.sync()
