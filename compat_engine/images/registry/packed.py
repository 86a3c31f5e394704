"""What the gzip of an uncompressed blob turned out to be when it was pushed: the next push need not compress it to know."""

import asyncio
import json
from dataclasses import asdict

from compat_engine.images.library import Library
from compat_engine.images.records import Descriptor
from compat_engine.images.registry.manifest import DOCKER_LAYER
from compat_engine.store.records import Delete, Put

_TABLE = "packed"


class Packed:
    """Digest of a blob of this store -> descriptor of its gzip."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = asyncio.Lock()
        self._known: dict[str, Descriptor] | None = None

    async def of(self, blob: Descriptor) -> Descriptor | None:
        return (await self._table()).get(blob.digest)

    async def keep(self, blob: Descriptor, digest: str, size: int) -> Descriptor:
        packed = Descriptor(DOCKER_LAYER, digest, size)
        table = await self._table()
        if table.get(blob.digest) != packed:
            await self._library.records.commit(Put(_TABLE, blob.digest, json.dumps(asdict(packed))))
            table[blob.digest] = packed
        return packed

    async def _table(self) -> dict[str, Descriptor]:
        """Read when first needed; what is no longer in the store is forgotten then."""
        async with self._lock:
            if self._known is None:
                rows = await self._library.records.load(_TABLE)
                gone = [digest for digest in rows if not self._library.blobs.has(digest)]
                await self._library.records.commit(*(Delete(_TABLE, digest) for digest in gone))
                self._known = {digest: Descriptor(**json.loads(row)) for digest, row in rows.items() if digest not in gone}
            return self._known
