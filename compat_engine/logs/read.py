"""Reading a container's log as a client wants it, from the start or the tail, once or as it grows."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from threading import Lock

from compat_engine.logs.encode import encoder, within
from compat_engine.logs.files import LogFile, WouldBlock, has_many_files, newer, open_all
from compat_engine.logs.jsonfile import JsonFile
from compat_engine.logs.localfile import LocalFile
from compat_engine.logs.query import LogQuery
from compat_engine.logs.record import Record

DRIVERS: dict[str, type[LogFile]] = {"json-file": JsonFile, "local": LocalFile}
"""Those whose logs can be read, and what reads one file."""
Watch = Callable[[], Awaitable[int]]
"""Gives the read end of a non-blocking pipe that gets a byte whenever the log grew and is closed when the container has ended; -1
when it does not run. The reader closes it."""
_ENOUGH = 1 << 16  # bytes of a log a call reads at least, while there are as many
_GRACE = 0.2  # seconds an `until` in the future waits for records that were written in time


async def read(
    path: Path, query: LogQuery, raw: bool = False, watch: Watch | None = None, driver: str = "json-file"
) -> AsyncIterator[bytes]:
    """Frames of the log at `path`, one a record, many in each chunk of up to some hundred KiB.

    raw: the container has a tty, so lines go out bare. watch: called with query.follow, before anything is read. driver: one of
    DRIVERS. With a watch the iteration lasts until the container has ended, or `query.until_ns` has passed.
    """
    reader = LogReader(path, query, raw, DRIVERS[driver])
    pipe = await watch() if query.follow and watch else -1
    try:
        async for frames in _iterate(reader, query, pipe):
            yield frames
    finally:
        reader.close()
        if pipe >= 0:
            os.close(pipe)


async def _iterate(reader: "LogReader", query: LogQuery, watch: int) -> AsyncIterator[bytes]:
    async for frames in _available(reader):
        yield frames
    if watch < 0:
        return
    with _woken(watch) as wake:
        ended = False
        while not (ended or reader.done):
            ended = await _growth(wake, watch, query.until_ns)
            async for frames in _available(reader):
                yield frames


async def _available(reader: "LogReader") -> AsyncIterator[bytes]:
    """What is there now. A little that is in memory is read here, as a thread for it takes longer. All else is read and decoded
    in a thread, which a chunk keeps for a millisecond or two."""
    try:
        frames, more = reader.next_frames(nowait=True)
    except WouldBlock:
        frames, more = b"", True
    if frames:
        yield frames
    while more:
        frames, more = await asyncio.to_thread(reader.next_frames)
        if frames:
            yield frames


@contextmanager
def _woken(fd: int) -> Iterator[asyncio.Event]:
    wake = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, wake.set)
    try:
        yield wake
    finally:
        loop.remove_reader(fd)


async def _growth(wake: asyncio.Event, watch: int, until_ns: int) -> bool:
    """Wait until the log has grown; True when it will grow no more (or what comes is later than wanted)."""
    timeout = max(until_ns / 1e9 - time.time(), 0) + _GRACE if until_ns else None
    try:
        await asyncio.wait_for(wake.wait(), timeout)
    except TimeoutError:
        return True
    wake.clear()
    try:
        return os.read(watch, 65536) == b""
    except BlockingIOError:
        return False


class LogReader:
    """Where one client is in the files of one log. `close` when done, at any time."""

    def __init__(self, path: Path, query: LogQuery, raw: bool, kind: type[LogFile]) -> None:
        self._path, self._query, self._kind = path, query, kind
        self._encode, self._within = encoder(query, raw), within(query)
        self._files: list[LogFile] | None = None
        self._lock = Lock()  # a cancelled reader is closed while a thread may still be reading for it
        self.done = False

    def next_frames(self, nowait: bool = False) -> tuple[bytes, bool]:
        """Frames of the next chunks, and whether there may be more now. A short log is read in one call.

        nowait: raises WouldBlock where it would have to wait for a disk, or would take long; nothing is lost then."""
        frames: list[bytes] = []
        read = 0
        if nowait and has_many_files(self._path):
            raise WouldBlock
        with self._lock:
            while read < _ENOUGH:
                try:
                    data = b"" if self.done else self._next_data(nowait)
                except WouldBlock:
                    if frames:
                        break
                    raise
                if not data:
                    return b"".join(frames), False
                wanted, self.done = self._within(self._decode(data))
                frames.append(self._encode(wanted))
                read += len(data)
        return b"".join(frames), True

    def close(self) -> None:
        with self._lock:
            self.done = True
            for file in self._files or ():
                file.close()
            self._files = []

    def _decode(self, data: bytes) -> list[Record]:
        assert self._files
        return self._files[0].records(data)

    def _next_data(self, nowait: bool) -> bytes:
        """Whole records of the file that is the first then."""
        if self._files is None:
            self._files = self._open(nowait)
        files = self._files
        while True:
            files += [] if files else open_all(self._path, self._kind)
            if not files:
                return b""
            files[0].nowait = nowait
            if data := files[0].next_records():
                return data
            if len(files) == 1:
                files += newer(self._path, files[0])
            if len(files) == 1:
                return b""
            # It was written to the very end before it was rotated, perhaps after our last look.
            if data := files[0].next_records():
                return data
            files.pop(0).close()

    def _open(self, nowait: bool) -> list[LogFile]:
        files = open_all(self._path, self._kind)
        for file in files:
            file.nowait = nowait
        try:
            last = _last(files, self._query.tail) if self._query.tail >= 0 else files
            return _since(last, self._query.since_ns) if self._query.since_ns else last
        except WouldBlock:
            for file in files:
                file.close()
            raise


def _last(files: list[LogFile], count: int) -> list[LogFile]:
    """Those that together give their last `count` records, placed there; the file being written is always one."""
    missing = count
    for index in range(len(files) - 1, -1, -1):
        missing -= files[index].seek_last(missing)
        if missing <= 0:
            return _without(files, index)
    return files


def _since(files: list[LogFile], since_ns: int) -> list[LogFile]:
    old = sum(1 for _ in takewhile(lambda file: file.ends_before(since_ns), files[:-1]))
    files = _without(files, old)
    for file in files:
        file.seek_time(since_ns)
    return files


def _without(files: list[LogFile], first: int) -> list[LogFile]:
    for file in files[:first]:
        file.close()
    return files[first:]
