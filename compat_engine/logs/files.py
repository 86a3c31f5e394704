"""The files of one rotated log: `path` is being written, path.1 was before it, path.2 before that."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from compat_engine.logs.decode import time_of
from compat_engine.logs.query import stamp

CHUNK = 256 << 10  # bytes read at once
_BLOCK = 64 << 10  # bytes looked at when searching
_SLACK_NS = 1_000_000_000  # the two streams are stamped apart, so times are only nearly in order


class LogFile:
    """An open log file and how far it has been read. `close` when done."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(self._fd)
        self.identity = (status.st_dev, status.st_ino)
        self.offset = 0

    def close(self) -> None:
        os.close(self._fd)

    @property
    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def next_lines(self) -> bytes:
        """The next whole lines, b"" at the end. A line without its newline is left for later."""
        length = CHUNK
        while True:
            data = os.pread(self._fd, length, self.offset)
            if end := data.rfind(b"\n") + 1:
                self.offset += end
                return data[:end]
            if len(data) < length:
                self._rewind_if_truncated()
                return b""
            length *= 2

    def _rewind_if_truncated(self) -> None:
        if self.size < self.offset:
            self.offset = 0

    def seek_last(self, count: int) -> int:
        """Go to the last `count` lines; how many of them this file has."""
        found = 0
        end = self._end_of_lines()
        self.offset = end
        position = end - 1  # the newline that ends the last line does not begin one
        while position > 0 and found < count:
            start = max(position - _BLOCK, 0)
            block = os.pread(self._fd, position - start, start)
            at = len(block)
            while found < count and (at := block.rfind(b"\n", 0, at)) >= 0:
                found += 1
                self.offset = start + at + 1
            position = start
        if found < count and end > 0:
            found, self.offset = found + 1, 0
        return found

    def seek_time(self, since_ns: int) -> None:
        """Go forward to a line shortly before the first record of that time."""
        wanted = stamp(max(since_ns - _SLACK_NS, 0))
        low, high = self.offset, self.size
        while high - low > _BLOCK:
            middle = (low + high) // 2
            line, start = self._line_after(middle)
            if not line or time_of(line) >= wanted:
                high = middle
            else:
                low = start
        self.offset = low

    def _end_of_lines(self) -> int:
        end = self.size
        while end > 0:
            start = max(end - _BLOCK, 0)
            if (at := os.pread(self._fd, end - start, start).rfind(b"\n")) >= 0:
                return start + at + 1
            end = start
        return 0

    def _line_after(self, position: int) -> tuple[bytes, int]:
        """The first whole line that begins after `position`, and where; (b"", 0) when there is none."""
        length = _BLOCK
        while True:
            data = os.pread(self._fd, length, position)
            start = data.find(b"\n") + 1
            end = data.find(b"\n", start) if start else -1
            if end >= 0:
                return data[start:end], position + start
            if len(data) < length:
                return b"", 0
            length *= 2


def open_all(path: Path) -> list[LogFile]:
    """The files of the log, oldest first; none when the container has never run.

    They are opened newest first: a rotation meanwhile only moves files to names still to come, so none is missed, and one met
    twice is known by its inode.
    """
    files: list[LogFile] = []
    seen: set[tuple[int, int]] = set()
    for name in _names(path):
        try:
            file = LogFile(name)
        except FileNotFoundError:
            if name == path:
                continue  # between a rotation's rename and its new file
            break
        if file.identity in seen:
            file.close()
        else:
            seen.add(file.identity)
            files.append(file)
    return files[::-1]


def newer(path: Path, current: LogFile) -> list[LogFile]:
    """The files that came after `current`, oldest first; all there are when `current` has been rotated away for good."""
    with suppress(FileNotFoundError):
        status = os.stat(path)
        if (status.st_dev, status.st_ino) == current.identity:
            return []
    files = open_all(path)
    at = next((index for index, file in enumerate(files) if file.identity == current.identity), -1)
    for file in files[: at + 1]:
        file.close()
    return files[at + 1 :]


def _names(path: Path) -> Iterator[Path]:
    yield path
    number = 1
    while True:
        yield path.with_name(f"{path.name}.{number}")
        number += 1
