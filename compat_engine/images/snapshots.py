"""Containers' writable layers, and the overlays they make with an image's layers. Gives mounts as values, mounts nothing.

On the disk overlay2/<key>/{diff,work} and the symlink `chain`, whose target is the chain id of the image layer below: the
snapshot holds those layers, also after its image was removed by force.
"""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from compat_engine.errors import NotFound
from compat_engine.images.records import Layer
from compat_engine.images.workers import Workers
from compat_engine.shim.spec import Overlay
from compat_engine.store.removal import remove_tree
from compat_engine.store.tree import Tree
from compat_engine.store.usage import disk_usage

_EMPTY = "empty"  # the lower directory of an image without layers: overlayfs wants one
_MARK = ".dockerenv"  # by which programs know that they run in a container


class Snapshots:
    """`layers` is the live table of layers by chain id, `chain_of` gives the top chain id of an image (raising NotFound),
    `released` hears that a snapshot over a chain is gone."""

    def __init__(
        self,
        tree: Tree,
        workers: Workers,
        layers: dict[str, Layer],
        chain_of: Callable[[str], str],
        released: Callable[[str], Awaitable[None]],
    ) -> None:
        self._released = released
        self._tree = tree
        self._workers = workers
        self._layers = layers
        self._chain_of = chain_of
        (tree.layers / _EMPTY / "diff").mkdir(mode=0o755, parents=True, exist_ok=True)
        self._chains = {entry.name: _read_chain(entry.path) for entry in os.scandir(tree.layers) if _is_snapshot(entry)}

    def claim(self, key: str, image_id: str) -> Callable[[], None]:
        """Promise a new writable layer over the image, whose layers nobody may remove from now on until `remove`. Gives what
        makes the layer, and blocks. Raises NotFound for an unknown image, FileExistsError for a key in use."""
        if key in self._chains:
            raise FileExistsError(key)
        chain = self._chains[key] = self._chain_of(image_id)
        return partial(self._make, key, chain)

    def overlay(self, key: str) -> Overlay:
        """The mount of a prepared snapshot. Raises NotFound."""
        directory = f"{self._tree.layers}/{key}"
        return Overlay(self.lowers(self._chain(key)), f"{directory}/diff", f"{directory}/work")

    def view(self, image_id: str) -> Overlay:
        """A read-only overlay of an image alone."""
        return Overlay(self.lowers(self._chain_of(image_id)), "", "")

    async def remove(self, key: str) -> None:
        """Removes the snapshot and what was written to it; nothing when there is none."""
        chain = self._chains.pop(key, "")
        await asyncio.to_thread(discard, self._tree.layers / key, self._tree.tmp)
        if chain:
            await self._released(chain)

    async def usage(self, key: str) -> int:
        """Bytes of the files written to it. Raises NotFound."""
        self._chain(key)
        return await asyncio.to_thread(disk_usage, self._tree.layers / key / "diff")

    def keys(self) -> set[str]:
        return set(self._chains)

    def chains(self) -> set[str]:
        """Top chain ids in use by snapshots."""
        return set(self._chains.values())

    async def sweep(self, keep: set[str]) -> set[str]:
        """Removes the snapshots of containers that are no more; returns their keys."""
        lost = self.keys() - keep
        for key in lost:
            await self.remove(key)
        return lost

    async def copy_up(self, source: str, path: str, destination: Path | str) -> bool:
        """Fills the directory `destination` with the directory `path` of an image (`source` its id) or of a snapshot (its key)
        and gives it that directory's owner and mode. False, and nothing done, when there is no such directory."""
        lowers = self._view_of(source)
        fd = os.open(destination, os.O_RDONLY | os.O_DIRECTORY)
        try:
            answer = await self._workers.run("copy_up", [fd], lowers=lowers, path=path)
        finally:
            os.close(fd)
        return bool(answer["found"])

    def lowers(self, chain: str) -> tuple[str, ...]:
        """Directories of the layers of `chain`, topmost first."""
        found, layers = [], str(self._tree.layers)
        while chain:
            layer = self._layers[chain]
            found.append(f"{layers}/{layer.cache_id}/diff")
            chain = layer.parent
        return tuple(found) or (f"{layers}/{_EMPTY}/diff",)

    def _view_of(self, source: str) -> list[str]:
        if source in self._chains:
            overlay = self.overlay(source)
            return [overlay.upper, *overlay.lower]
        return list(self.lowers(self._chain_of(source)))

    def _chain(self, key: str) -> str:
        try:
            return self._chains[key]
        except KeyError:
            raise NotFound(f"No such snapshot: {key}") from None

    def _make(self, key: str, chain: str) -> None:
        root = os.stat(self.lowers(chain)[0])
        directory = self._tree.layers / key
        os.mkdir(directory, 0o710)
        os.symlink(chain or "-", directory / "chain")
        os.mkdir(directory / "work", 0o700)
        os.mkdir(directory / "diff", 0o755)
        # The upper directory's own mode and owner are what the container's / shows.
        os.chown(directory / "diff", root.st_uid, root.st_gid)
        os.chmod(directory / "diff", stat.S_IMODE(root.st_mode))
        mark = os.open(directory / "diff" / _MARK, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
        os.fchmod(mark, 0o755)
        os.close(mark)


def discard(directory: Path, tmp: Path) -> None:
    """Removes a directory that may be half known to others: first its name, at once, then what is in it. Blocks."""
    doomed = tmp / f"gone-{directory.name}"
    try:
        os.rename(directory, doomed)
    except FileNotFoundError:
        return
    remove_tree(doomed)


def _read_chain(directory: str) -> str:
    return os.readlink(f"{directory}/chain").removeprefix("-")  # a symlink cannot be empty


def _is_snapshot(entry: "os.DirEntry[str]") -> bool:
    return os.path.islink(f"{entry.path}/chain")
