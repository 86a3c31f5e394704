"""The files of one rotated log: `path` is being written, path.1 (or, compressed, path.1.gz) was before it, path.2 before that."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from compat_engine.logs.packed import Packed
from compat_engine.logs.query import stamp
from compat_engine.logs.record import Record

CHUNK = 256 << 10  # bytes read at once
_NOWAIT_BYTES, _NOWAIT_FILES = 64 << 10, 5  # as much is read where nobody may wait; the rest by a thread
_TRIES = 100  # a container that rotates its log faster than a reader can look does not keep its files either


class WouldBlock(Exception):
    """The page cache does not hold what is wanted, or it is more than a little: a thread has to fetch it."""


class LogFile:
    """An open log file and how far it has been read. `close` when done. A subclass for each format.

    nowait: whoever reads must not wait (RWF_NOWAIT of preadv2(2)): what reads may raise WouldBlock then, and has read nothing.
    """

    def __init__(self, path: Path) -> None:
        """`path`, or else what it was compressed to. Raises FileNotFoundError."""
        self.offset = 0
        self.nowait = False
        self._packed: Packed | None = None
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._packed = Packed(path.with_name(f"{path.name}.gz"))
            self._fd, self.identity, self._origin = -1, self._packed.identity, self._packed.origin
        else:
            status = os.fstat(self._fd)
            self.identity = self._origin = (status.st_dev, status.st_ino)

    def continues(self, other: "LogFile") -> bool:
        """Whether it is `other`, or what that has been compressed to. An older file may seem so, whose inode was used again."""
        return other.identity in (self.identity, self._origin)

    def whole(self, data: bytes) -> int:
        """The length of the whole records at the beginning of `data`."""
        raise NotImplementedError

    def records(self, data: bytes) -> list[Record]:
        """Whole records, decoded. What a crash cut short is left out, and what was appended to it is kept."""
        raise NotImplementedError

    def seek_last(self, count: int) -> int:
        """Go to the last `count` records; how many of them this file has."""
        raise NotImplementedError

    def seek_time(self, since_ns: int) -> None:
        """Go forward to a record at or shortly before the first one of that time."""
        raise NotImplementedError

    def close(self) -> None:
        """Twice is no error."""
        packed, fd, self._packed, self._fd = self._packed, self._fd, None, -1
        if packed:
            packed.close()
        if fd >= 0:
            os.close(fd)

    @property
    def size(self) -> int:
        return os.fstat(self._plain()).st_size

    def read(self, length: int, offset: int) -> bytes:
        return self._cached(length, offset) if self.nowait else os.pread(self._plain(), length, offset)

    def _cached(self, length: int, offset: int) -> bytes:
        if self._packed:
            raise WouldBlock
        buffer = bytearray(max(min(length, self.size - offset), 0))
        if len(buffer) > _NOWAIT_BYTES:
            raise WouldBlock
        try:
            count = os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:  # EAGAIN; EOPNOTSUPP of filesystems that cannot tell
            raise WouldBlock from error
        if count < len(buffer):
            raise WouldBlock
        return bytes(buffer)

    def next_records(self) -> bytes:
        """The next whole records, b"" at the end. One that is not whole is left for later."""
        length = CHUNK
        while True:
            data = self.read(length, self.offset)
            if end := self.whole(data):
                self.offset += end
                return data[:end]
            if len(data) < length:
                self._rewind_if_truncated()
                return b""
            length *= 2

    def ends_before(self, since_ns: int) -> bool:
        """Whether it is known, without unpacking it, that all its records are older."""
        return self._packed is not None and bool(self._packed.last_time) and self._packed.last_time < stamp(since_ns)

    def _plain(self) -> int:
        if self._fd < 0 and self._packed is not None:
            self._fd = self._packed.unpack()
        return self._fd

    def _rewind_if_truncated(self) -> None:
        if self.size < self.offset:
            self.offset = 0


def has_many_files(path: Path) -> bool:
    """Whether there are so many files that even a look at each takes a while."""
    last = path.with_name(f"{path.name}.{_NOWAIT_FILES}")
    return last.exists() or last.with_name(f"{last.name}.gz").exists()


def open_all(path: Path, kind: type[LogFile]) -> list[LogFile]:
    """The files of the log, oldest first; none when the container has never run."""
    for _ in range(_TRIES):
        before, files = _identity(path), _opened(path, kind)
        if _identity(path) == before:
            break
        for file in files:
            file.close()
    else:
        files = _opened(path, kind)
    return files


def _opened(path: Path, kind: type[LogFile]) -> list[LogFile]:
    """The same, and none is missing unless another file is at `path` by now.

    They are opened newest first: a rotation meanwhile only moves files to names still to come, and one met twice is known by its
    inode. It frees one name after the other, so one that is free is not the end yet.
    """
    files: list[LogFile] = []
    seen: set[tuple[int, int]] = set()
    missing = 0
    for name in _names(path):
        try:
            file = kind(name)
        except FileNotFoundError:
            missing += 1
            if missing == 2:
                break
            continue
        missing = 0
        if file.identity in seen:
            file.close()
        else:
            seen.add(file.identity)
            files.append(file)
    return files[::-1]


def newer(path: Path, current: LogFile) -> list[LogFile]:
    """The files that came after `current`, oldest first; all there are when `current` has been rotated away for good."""
    if _identity(path) == current.identity:
        return []
    files = open_all(path, type(current))
    at = max((index for index, file in enumerate(files) if file.continues(current)), default=-1)
    for file in files[: at + 1]:
        file.close()
    return files[at + 1 :]


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError):
        status = os.stat(path)
        return status.st_dev, status.st_ino
    return None


def _names(path: Path) -> Iterator[Path]:
    yield path
    number = 1
    while True:
        yield path.with_name(f"{path.name}.{number}")
        number += 1
