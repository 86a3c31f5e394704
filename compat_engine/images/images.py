"""Images as the engine sees them: one object with a method a use case; the work is in the modules beside it."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from compat_engine.images import gc
from compat_engine.images.archive_load import Platform, load
from compat_engine.images.archive_save import descriptor, save
from compat_engine.images.commit import Step, commit
from compat_engine.images.import_ import import_
from compat_engine.images.library import Library, host_platform, now_text
from compat_engine.images.records import Descriptor, Image, Layer
from compat_engine.images.reference import Reference
from compat_engine.images.remove import InUse, Removal, User, prune, remove
from compat_engine.images.roots import Roots
from compat_engine.images.snapshots import Snapshots
from compat_engine.store.records import Records
from compat_engine.store.tree import Tree

__all__ = ["Image", "Images", "InUse", "Layer", "Removal", "Snapshots", "User"]


class Images:
    """Make with `open`, end with `close`. Lookups are immediate; everything async may be cancelled and leaves nothing half."""

    def __init__(self, tree: Tree, records: Records) -> None:
        self.library = Library(tree, records, self._released)
        self._roots = Roots(self.library.workers, tree.tmp)

    @classmethod
    async def open(cls, tree: Tree, records: Records) -> "Images":
        """Loads the records and sweeps what a crash left; nothing else may use Tree.tmp before it returns."""
        images = cls(tree, records)
        await images.library.read()
        await gc.sweep(images.library)
        return images

    async def close(self) -> None:
        await self.library.workers.close()

    @property
    def snapshots(self) -> Snapshots:
        return self.library.snapshots

    @property
    def roots(self) -> Roots:
        """Containers' filesystems as archives."""
        return self._roots

    async def commit(self, snapshot: str, parent: Image, step: Step, name: Reference | None = None) -> Image:
        """The image a snapshot makes of its parent. Raises Internal."""
        return await commit(self.library, snapshot, parent, step, name)

    def find(self, word: str, platform: str = "") -> Image:
        """By reference, id, unique prefix or digest. Raises NotFound, InvalidParameter."""
        return self.library.find(word, platform)

    def all(self) -> list[Image]:
        return list(self.library.images.values())

    def tags(self, id: str) -> list[str]:
        return self.library.tags(id)

    def digests(self, id: str) -> list[str]:
        return self.library.digests(id)

    def references(self, id: str) -> list[Reference]:
        return self.library.references(id)

    def children(self, id: str) -> list[str]:
        return self.library.children(id)

    async def tag(self, image: Image, reference: Reference) -> None:
        """Points `reference` to the image; what it named before keeps its other names. Raises NotFound when the image is gone."""
        async with self.library.lock:
            await self.library.commit(replace(self.library.find(image.id), tagged_at=now_text()), [], [reference])

    async def remove(self, word: str, force: bool, noprune: bool, in_use: InUse) -> Removal:
        """Raises NotFound, Conflict."""
        return await remove(self.library, word, force, noprune, in_use)

    async def prune(self, images: list[Image], dangling_only: bool, in_use: InUse) -> Removal:
        return await prune(self.library, images, dangling_only, in_use)

    def load(
        self,
        body: AsyncIterator[bytes],
        quiet: bool = True,
        platform: Platform | None = None,
        loaded: Callable[[Image], None] = lambda image: None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Progress objects of `docker load`; `loaded` hears of each image. Raises InvalidParameter for what is none."""
        return load(self.library, body, quiet, platform, loaded)

    def save(self, words: list[str], platform: str = "") -> AsyncIterator[bytes]:
        """A tar of the images. Raises NotFound at once."""
        return save(self.library, words, platform)

    def manifest(self, image: Image) -> Descriptor:
        """Of the manifest the image came with or is saved with."""
        return descriptor(image)

    async def import_(
        self,
        body: AsyncIterator[bytes],
        name: Reference | None = None,
        lines: tuple[str, ...] = (),
        message: str = "",
        platform: Platform | None = None,
    ) -> Image:
        return await import_(self.library, body, name, list(lines), message, platform or host_platform(), None)

    def directories(self, image: Image) -> tuple[str, ...]:
        """Where its layers are unpacked, topmost first."""
        return self.snapshots.lowers(image.chain)

    def shared_size(self, image: Image) -> int:
        """Bytes of the layers other images use too."""
        others = {layer.chain_id for other in self.all() if other.id != image.id for layer in other.layers}
        return sum(layer.size for layer in image.layers if layer.chain_id in others)

    async def _released(self, chain: str) -> None:
        """A snapshot is gone: its layers too when the image they came from was removed by force before."""
        if not any(image.chain == chain for image in self.all()) and chain not in self.snapshots.chains():
            async with self.library.lock:
                await gc.collect(self.library, [])
