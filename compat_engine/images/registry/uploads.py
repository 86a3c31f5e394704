"""A layer on its way out: looked for, mounted from a neighbour, or sent; what the store has uncompressed is sent as gzip.

An upload that breaks off goes on where it stopped if the registry has kept it, and starts anew if not.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from compat_engine.errors import Internal
from compat_engine.ids import short
from compat_engine.images.library import Library
from compat_engine.images.records import Descriptor
from compat_engine.images.registry.client import Repository
from compat_engine.images.registry.failures import FAILURES, Refused, Unreachable
from compat_engine.images.registry.packed import Packed
from compat_engine.images.registry.progress import Pace, Say, bar, step
from compat_engine.images.registry.retry import Attempts
from compat_engine.images.remake import blob_file

_PIECE = 256 << 10  # bytes read from the disk at once
_MOUNTS = 4  # neighbours that are asked for one blob
_WORTH = 1 << 20  # bytes; after as many an interruption counts as the first


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer to push. blob: as the store has it; packed: to be gzipped on the way; neighbours: repositories that may have it."""

    diff_id: str
    blob: Descriptor
    packed: bool
    neighbours: tuple[str, ...] = ()


class Upload:
    """One layer to one repository. Raises what the registry does, once the attempts are used up."""

    def __init__(self, library: Library, packed: Packed, repository: Repository, layer: Layer, say: Say) -> None:
        self._library = library
        self._packed = packed
        self._repository = repository
        self._layer = layer
        self._say = say
        self._id = short(layer.diff_id)
        self._location = ""  # of the upload that has begun
        self._held = 0  # bytes of it that the registry had when it was last asked
        self._most = 0  # that it ever had

    async def run(self, attempts: int, pause: float) -> Descriptor:
        """What the manifest is to name."""
        trying = Attempts(attempts, self._step, pause)
        while True:
            try:
                if self._location and await self._resumed():
                    trying.progressed()
                return await self._attempt()
            except FAILURES as failure:
                if self._held and isinstance(failure, Refused):  # what it has is not what it should be, or it is gone by now
                    self._location, self._held = "", 0
                    failure = Unreachable(str(failure))
                await trying.failed(failure)

    async def _resumed(self) -> bool:
        """Whether the registry has more than ever before, by something worth speaking of."""
        try:
            self._location, self._held = await self._repository.held_upload(self._location)
        except Refused:
            self._location, self._held = "", 0
        before, self._most = self._most, max(self._most, self._held)
        return self._held - before >= _WORTH

    async def _attempt(self) -> Descriptor:
        known = await self._packed.of(self._layer.blob) if self._layer.packed else self._layer.blob
        if known is not None and await self._repository.has(known.digest):
            self._step("Layer already exists")
            return known
        if known is not None and not self._location:
            for neighbour in self._layer.neighbours[:_MOUNTS]:
                self._location = await self._mount(known.digest, neighbour)
                if not self._location:
                    self._step(f"Mounted from {neighbour}")
                    return known
        self._location = self._location or await self._repository.start_upload()
        return await (self._pack() if self._layer.packed else self._send())

    async def _mount(self, digest: str, neighbour: str) -> str:
        try:
            return await self._repository.mount(digest, neighbour)
        except Refused as error:
            if error.status >= 500:
                raise
            return await self._repository.start_upload()  # not allowed to read there: no reason not to push here

    async def _send(self) -> Descriptor:
        """The blob as it is."""
        blob = self._layer.blob
        location = self._location
        if self._held < blob.size:
            location = await self._repository.upload(location, self._file(), blob.size, self._held)
        await self._repository.finish_upload(location, blob.digest)
        self._step("Pushed")
        return blob

    async def _file(self) -> AsyncIterator[bytes]:
        pace, sent, blob = Pace(), self._held, self._layer.blob
        file = await asyncio.to_thread(open, await blob_file(self._library, blob.digest), "rb")
        with file:
            file.seek(sent)
            while piece := await asyncio.to_thread(file.read, _PIECE):
                yield piece
                sent += len(piece)
                if pace() or sent == blob.size:
                    self._say(bar(self._id, "Pushing", sent, blob.size))

    async def _pack(self) -> Descriptor:
        """The blob, compressed by a worker while it is sent. What the registry has of it is made again: the same, to the byte."""
        pace, size = Pace(), self._layer.blob.size

        def progress(consumed: int) -> None:
            if pace() or consumed == size:
                self._say(bar(self._id, "Pushing", consumed, size))

        async def work(content: AsyncIterator[bytes]) -> str:
            return await self._repository.upload(self._location, _after(self._held, content), None, self._held)

        location, done = await _compressed(self._library, self._layer.blob, work, progress)
        packed = await self._packed.keep(self._layer.blob, done["digest"], done["size"])
        await self._repository.finish_upload(location, packed.digest)
        self._step("Pushed")
        return packed

    def _step(self, text: str) -> None:
        self._say(step(self._id, text))


async def _compressed(
    library: Library,
    blob: Descriptor,
    work: Callable[[AsyncIterator[bytes]], Awaitable[str]],
    progress: Callable[[int], None],
) -> tuple[str, dict[str, Any]]:
    """What `work` makes of the gzipped blob, and the worker's {digest, size}."""
    file = await asyncio.to_thread(os.open, await blob_file(library, blob.digest), os.O_RDONLY)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)
    try:
        job = asyncio.ensure_future(library.workers.run("compress", [file, writing], progress))
        try:
            return await work(_read(reading, job)), await job
        except BaseException:
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
            raise
    except OSError as error:
        raise Internal(f"cannot read layer {blob.digest}: {error.strerror or error}") from error
    finally:
        for fd in (file, reading, writing):
            os.close(fd)


async def _read(fd: int, job: "asyncio.Future[Any]") -> AsyncGenerator[bytes, None]:
    """What comes through a pipe until the job at its other end has ended and all of it is read.

    On a descriptor of its own: the HTTP client may go on asking for a moment after its request has failed.
    """
    own = os.dup(fd)
    try:
        while True:
            try:
                piece = os.read(own, _PIECE)
            except BlockingIOError:
                if job.done():
                    return
                await _readable(own, job)
            else:
                yield piece
    finally:
        os.close(own)


async def _after(count: int, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """All but the first `count` bytes."""
    async for piece in pieces:
        if count < len(piece):
            yield piece[count:]
        count = max(count - len(piece), 0)


async def _readable(fd: int, job: "asyncio.Future[Any]") -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    waiting = asyncio.ensure_future(ready.wait())
    try:
        await asyncio.wait({waiting, job}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(fd)
        waiting.cancel()
