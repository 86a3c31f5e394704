"""A log file and its rotation: PATH is written, PATH.1 (or PATH.1.gz) was before it, PATH.2 before that."""

import os
from collections.abc import Callable
from contextlib import suppress

from compat_engine.shim import compress
from compat_engine.shim.clock import rfc3339
from compat_engine.shim.jsonlog import JsonLines
from compat_engine.shim.lines import Lines
from compat_engine.shim.locallog import LocalLines
from compat_engine.shim.spec import Log

_STREAMS = (1, 2)
_SUFFIXES = ("", ".gz")


def open_log(log: Log, report: Callable[[str], None]) -> "FileLog":
    """The log of driver json-file or local. Raises OSError."""
    make: Callable[[int], Lines] = LocalLines if log.driver == "local" else lambda stream: JsonLines(stream, log.attrs)
    return FileLog(log, {stream: make(stream) for stream in _STREAMS}, report)


class FileLog:
    """A write that fails (a full disk) loses its records and is reported, nothing else stops."""

    def __init__(self, log: Log, lines: dict[int, Lines], report: Callable[[str], None]) -> None:
        self._log, self._lines, self._report = log, lines, report
        self._cut = lines[1].cut
        self._compressor = 0  # pid
        self._fd, self._size = self._open()

    def write(self, stream: int, chunk: bytes) -> bool:
        """Whether the file grew."""
        return self._append(self._lines[stream].records(chunk))

    def end(self, stream: int) -> bool:
        return self._append(self._lines[stream].end())

    def close(self) -> None:
        """What is being compressed is awaited: the next run of the container must not move the file away meanwhile."""
        os.close(self._fd)
        if self._compressor:
            compress.finished(self._compressor, wait=True)

    def _open(self, flags: int = 0) -> tuple[int, int]:
        fd = os.open(self._log.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | flags, 0o640)
        return fd, os.fstat(fd).st_size

    def _append(self, records: bytes) -> bool:
        if not records:
            return False
        try:
            if self._log.max_size < 0:
                self._write(records)
            else:
                self._write_rotating(records)
        except OSError as error:
            self._report(f"log: {error}")
            return False
        return True

    def _write_rotating(self, records: bytes) -> None:
        """A file that has reached max_size takes no further record."""
        start = 0
        while start < len(records):
            if self._size >= self._log.max_size and not self._rotate():
                return
            cut = self._cut(records, start, max(self._log.max_size - self._size, 1))
            self._write(records[start:cut])
            start = cut

    def _write(self, records: bytes) -> None:
        view = memoryview(records)
        while view:
            written = os.write(self._fd, view)
            self._size += written
            view = view[written:]

    def _rotate(self) -> bool:
        """Whether there is a file for the next record. While the one before is still being compressed the container waits, or,
        in mode non-blocking, the file grows by the buffer's size and then loses what comes."""
        if self._compressor:
            blocking = self._log.buffer < 0
            if not compress.finished(self._compressor, wait=blocking):
                return self._size < self._log.max_size + self._log.buffer
            self._compressor = 0
        self._shift()
        opened = self._open(os.O_TRUNC if self._log.max_file < 2 else 0)
        os.close(self._fd)
        self._fd, self._size = opened
        if self._log.compress and self._log.max_file > 1:
            self._compress(f"{self._log.path}.1")
        return True

    def _compress(self, path: str) -> None:
        last_time = rfc3339(max(lines.last_ns for lines in self._lines.values()))
        try:
            self._compressor = compress.start(path, last_time, self._report)
        except OSError as error:  # then it stays as it is, and is read as well
            self._report(f"log: compressing {path}: {error}")

    def _shift(self) -> None:
        path, keep = self._log.path, self._log.max_file
        if not os.path.exists(path):  # somebody has removed it, or it is PATH.1 already and only the new one could not be made
            return
        for number in range(self._older(), 0, -1):
            for suffix in _SUFFIXES:
                with suppress(FileNotFoundError):  # it has the other name, or both after a crash
                    if number < keep - 1:
                        os.rename(f"{path}.{number}{suffix}", f"{path}.{number + 1}{suffix}")
                    else:
                        os.unlink(f"{path}.{number}{suffix}")
        if keep > 1:
            os.rename(path, f"{path}.1")

    def _older(self) -> int:
        """How many there are of PATH.1, PATH.2 and so on: max_file may be much more."""
        number = 0
        while number < self._log.max_file - 1 and any(os.path.exists(f"{self._log.path}.{number + 1}{end}") for end in _SUFFIXES):
            number += 1
        return number
