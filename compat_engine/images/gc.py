"""Removes what nothing refers to: layers and blobs of images gone, and at start whatever a crash left.

In use is what an image, a snapshot or a pin names. Records go first, files second: a crash in between leaves files for `sweep`.
"""

import asyncio
import logging
import os
from pathlib import Path

from compat_engine.images.library import Library
from compat_engine.images.records import Layer
from compat_engine.images.snapshots import discard
from compat_engine.store.removal import remove_tree

log = logging.getLogger(__name__)


async def collect(library: Library, images: list[str]) -> list[Layer]:
    """Forgets `images` and everything only they used; returns the layers removed, topmost first. Under `library.lock`."""
    gone = set(images)
    used = _chains_in_use(library, gone)
    layers = [layer for chain, layer in library.layers.items() if chain not in used]
    await library.forget(images, [layer.chain_id for layer in layers])
    blobs = _digests_in_use(library)
    await asyncio.to_thread(_remove_files, library, layers, blobs)
    return _topmost_first(layers)


async def sweep(library: Library) -> None:
    """At start, before anything else runs: empties Tree.tmp and removes directories, blobs and records nothing refers to."""
    used = _chains_in_use(library, set())
    await library.forget([], [chain for chain in library.layers if chain not in used])
    await asyncio.to_thread(_sweep_files, library)


def _chains_in_use(library: Library, without: set[str]) -> set[str]:
    used = {layer.chain_id for image in library.images.values() if image.id not in without for layer in image.layers}
    used |= {chain for chain in library.layers if chain in library.pins}
    for top in library.snapshots.chains():
        while top and top not in used:
            used.add(top)
            top = library.layers[top].parent if top in library.layers else ""
    return used


def _digests_in_use(library: Library) -> set[str]:
    return {digest for image in library.images.values() for digest in image.digests}


def _topmost_first(layers: list[Layer]) -> list[Layer]:
    """Each layer before the ones it stands on, as Docker reports them."""
    known = {layer.chain_id: layer for layer in layers}

    def depth(layer: Layer) -> int:
        count = 0
        while layer.parent in known:
            layer, count = known[layer.parent], count + 1
        return count

    return sorted(layers, key=depth, reverse=True)


def _remove_files(library: Library, layers: list[Layer], blobs: set[str]) -> None:
    for layer in layers:
        discard(library.tree.layers / layer.cache_id, library.tree.tmp)
    unused = [digest for digest in library.blobs.all() if digest not in blobs and digest not in library.pins]
    library.blobs.remove(unused)


def _sweep_files(library: Library) -> None:
    tree = library.tree
    for entry in os.scandir(tree.tmp):
        try:
            _erase(Path(entry.path))
        except OSError as error:  # a worker of the daemon before may be at its last write: no reason not to start
            log.warning("cannot remove unfinished work: %s", error)
    known = {layer.cache_id for layer in library.layers.values()} | library.snapshots.keys() | {"empty"}
    for entry in os.scandir(tree.layers):
        if entry.name not in known:
            log.warning("removing the unfinished layer %s", entry.name)
            _erase(Path(entry.path))
    used = _digests_in_use(library)
    library.blobs.remove([digest for digest in library.blobs.all() if digest not in used])


def _erase(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink()
