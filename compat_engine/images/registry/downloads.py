"""Blobs on their way in: a few at once, each shared by all pulls that want it, resumed where it broke off.

A blob grows in a file of Tree.downloads, named by its digest, while a worker hashes and unpacks it. What is there of it survives
a broken line, a client that leaves and the daemon itself; the next who wants it goes on from there.
"""

import asyncio
import contextlib
import errno
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from compat_engine.config import Settings
from compat_engine.errors import Internal, InvalidParameter
from compat_engine.ids import short
from compat_engine.images.intake import Unstorable, feed
from compat_engine.images.layers import Unpacked
from compat_engine.images.library import Library
from compat_engine.images.records import Descriptor
from compat_engine.images.registry.failures import FAILURES, Refused, Unreachable
from compat_engine.images.registry.progress import Pace, Say, bar, step
from compat_engine.images.registry.retry import PAUSE, Attempts
from compat_engine.images.registry.slots import Slots
from compat_engine.images.waiting import uninterrupted

_KEPT = 24 * 3600  # seconds an unfinished blob waits for somebody to go on
_WORTH = 1 << 20  # bytes; after as many an interruption counts as the first
Opener = Callable[[int], AbstractAsyncContextManager[tuple[int, AsyncIterator[bytes]]]]


class Download:
    """One blob. `file` holds it when `Downloads.get` has handed it out, unless somebody has moved it into the store."""

    def __init__(self, blob: Descriptor, file: Path, unpacking: bool) -> None:
        self.blob = blob
        self.file = file
        self.unpacking = unpacking
        self.directory: Path | None = None  # below Tree.tmp, for what is unpacked
        self.unpacked: Unpacked | None = None
        self.users: dict[object, Say] = {}
        self.task: asyncio.Task[None]
        self.ending = False
        self.gone = asyncio.Event()
        self._last: dict[str, Any] | None = None

    def take(self) -> Unpacked | None:
        """The unpacked content, to the first who asks."""
        taken, self.unpacked = self.unpacked, None
        return taken

    def join(self, user: object, say: Say) -> None:
        self.users[user] = say
        if self._last is not None:
            say(self._last)

    def step(self, text: str) -> None:
        self._tell(step(self._id, text))

    def bar(self, text: str, current: int) -> None:
        self._tell(bar(self._id, text, current, self.blob.size))

    @property
    def _id(self) -> str:
        return short(self.blob.digest)

    def _tell(self, line: dict[str, Any]) -> None:
        self._last = line
        for say in self.users.values():
            say(line)


class Downloads:
    """pause: seconds after a blob's first failure."""

    def __init__(self, library: Library, settings: Settings, pause: float = PAUSE) -> None:
        self._library, self._settings = library, settings
        self._slots = Slots(lambda: settings.now.max_concurrent_downloads)
        self._pause = pause
        self._current: dict[str, Download] = {}
        self._directory = library.tree.downloads
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.expire()

    def expire(self, age: float = _KEPT) -> None:
        """Removes what nobody came back for within `age` seconds."""
        for entry in os.scandir(self._directory):
            if f"sha256:{entry.name}" not in self._current and entry.stat().st_mtime <= time.time() - age:
                os.unlink(entry.path)

    @contextlib.asynccontextmanager
    async def get(self, blob: Descriptor, unpack: bool, opener: Opener, say: Say) -> AsyncIterator[Download]:
        """The blob, verified, and unpacked too with `unpack`, for as long as the context lasts.

        Several callers share one download; when all of them have left, it stops. `opener(offset)` opens the registry's answer.
        Raises what the registry does, Internal for a blob that is not what it should be or a disk that refuses.
        """
        user = object()
        download = await self._join(user, blob, unpack, opener, say)
        try:
            await asyncio.shield(download.task)
            yield download
        finally:
            del download.users[user]
            if not download.users:
                download.ending = True
                await uninterrupted(self._end(download))

    async def _join(self, user: object, blob: Descriptor, unpack: bool, opener: Opener, say: Say) -> Download:
        while (current := self._current.get(blob.digest)) is not None and (current.ending or _failed(current)):
            await current.gone.wait()
        if current is None:
            current = Download(blob, self._directory / blob.digest.removeprefix("sha256:"), unpack)
            current.join(user, say)
            current.task = asyncio.create_task(self._run(current, opener))
            self._current[blob.digest] = current
        else:
            current.join(user, say)
        return current

    async def _end(self, download: Download) -> None:
        download.task.cancel()
        await asyncio.gather(download.task, return_exceptions=True)
        if download.directory is not None:
            await asyncio.to_thread(rmtree, download.directory)
        del self._current[download.blob.digest]
        download.gone.set()

    async def _run(self, download: Download, opener: Opener) -> None:
        if self._slots.locked():
            download.step("Waiting")
        async with self._slots:
            try:
                await self._fetch(download, opener)
            except (OSError, Unstorable) as error:
                cause = error if isinstance(error, OSError) else error.__cause__
                if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:  # what is there would only be in the way
                    await asyncio.to_thread(_discard, download.file)
                raise Internal(f"failed to register layer: {getattr(cause, 'strerror', None) or cause}") from error
            except InvalidParameter as error:  # the blob is what was asked for, but no archive
                await asyncio.to_thread(_discard, download.file)
                raise Internal(f"failed to register layer: {error}") from error

    async def _fetch(self, download: Download, opener: Opener) -> None:
        """Once more from the start when a resumed blob is wrong: what was kept may have been."""
        for last in (False, True):
            held = await asyncio.to_thread(_size, download.file)
            if held > download.blob.size:
                held = await asyncio.to_thread(_discard, download.file)
            done = await self._receive(download, opener, held)
            if done["digest"] == download.blob.digest and done["size"] == download.blob.size:
                return self._finish(download, done)
            await asyncio.to_thread(_discard, download.file)
            if last or not held:
                break
        raise Internal(_wrong(download))

    async def _receive(self, download: Download, opener: Opener, held: int) -> dict[str, Any]:
        fds = await asyncio.to_thread(self._open, download)
        try:
            async with aclosing(self._content(download, opener, held)) as content:
                return await feed(self._library.workers, "fetch", content, *fds, digest=download.blob.digest)
        finally:
            for fd in fds:
                os.close(fd)

    def _open(self, download: Download) -> list[int]:
        fds = [os.open(download.file, os.O_RDWR | os.O_CREAT, 0o600)]
        if download.unpacking:
            if download.directory is not None:
                rmtree(download.directory)
            download.directory = Path(mkdtemp("", "layer-", self._library.tree.tmp))
            target = download.directory / "layer" / "diff"
            target.mkdir(mode=0o755, parents=True)
            target.chmod(0o755)
            fds.append(os.open(target, os.O_RDONLY | os.O_DIRECTORY))
        return fds

    async def _content(self, download: Download, opener: Opener, held: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `held` on, over as many requests as it takes."""
        attempts, pace = Attempts(self._settings.now.max_download_attempts, download.step, self._pause), Pace()
        position, begun = held, held
        while position < download.blob.size:
            try:
                async with opener(position) as (offset, pieces):
                    async for piece in _from(position, offset, pieces):
                        position += len(piece)
                        if position > download.blob.size:
                            raise Internal(f"{_wrong(download)}: it is longer than its manifest says")
                        if pace() or position == download.blob.size:
                            download.bar("Downloading", position)
                        yield piece
                if position < download.blob.size:
                    raise Unreachable("unexpected EOF")
            except FAILURES as failure:
                if isinstance(failure, Refused) and failure.status == 416:
                    raise Internal(f"{_wrong(download)}: it is shorter than its manifest says") from failure
                if position - begun >= _WORTH:
                    attempts.progressed()
                begun = position
                await attempts.failed(failure)
        download.step("Verifying Checksum")

    def _finish(self, download: Download, done: dict[str, Any]) -> None:
        download.step("Download complete")
        if download.directory is not None:
            layer = download.directory / "layer"
            download.unpacked = Unpacked(layer, done["diff_id"], done["unpacked"], done["implied"])
            download.bar("Extracting", download.blob.size)


async def _from(position: int, offset: int, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The bytes from `position` on of an answer that begins at `offset`: registries may start over."""
    if offset > position:
        raise Unreachable(f"the registry sent bytes from {offset} on, {position} was asked for")
    skip = position - offset
    async for piece in pieces:
        if skip < len(piece):
            yield piece[skip:] if skip else piece
        skip = max(skip - len(piece), 0)


def _wrong(download: Download) -> str:
    return f"filesystem layer verification failed for digest {download.blob.digest}"


def _failed(download: Download) -> bool:
    return download.task.done() and (download.task.cancelled() or download.task.exception() is not None)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _discard(file: Path) -> int:
    file.unlink(missing_ok=True)
    return 0
