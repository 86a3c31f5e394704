"""Docker's json-file log, written by whole chunks: records, escapes, splitting and rotation byte for byte as Docker's.

A record is {"log": one line with its newline, "stream", "time"}; a line longer than 16 KiB becomes pieces without newline
that share the time of the first; what is left without a newline at the end of the stream is a record of its own.
"""

import codecs
import os
import time
from collections.abc import Callable
from contextlib import suppress

from compat_engine.shim.clock import rfc3339
from compat_engine.shim.spec import Log

PIECE = 16384  # bytes of a line in one record
BURST = 8192  # bytes; from here on one stamp serves a whole read
_STREAMS = {1: "stdout", 2: "stderr"}

_SPECIAL = b'"\\<>&'
_PLAIN = bytes(byte for byte in range(0x20, 0x80) if byte not in _SPECIAL) + b"\n"
_ESCAPES = {
    **{bytes((byte,)): b"\\u%04x" % byte for byte in (*range(0x20), *b"<>&") if byte != 0x0A},
    b"\r": b"\\r",
    b'"': b'\\"',
}


def _per_byte(error: UnicodeError) -> tuple[str, int]:
    """Go replaces each byte of an invalid sequence; Python's own handlers replace the sequence."""
    assert isinstance(error, UnicodeDecodeError)
    return "\\ufffd", error.start + 1


codecs.register_error("go-json", _per_byte)


def escape(data: bytes) -> bytes:
    """The inside of a JSON string for `data`; newlines stay as they are, for the caller to cut at."""
    odd = data.translate(None, _PLAIN)
    if not odd:
        return data
    kinds = set(odd)
    if 0x5C in kinds:
        data = data.replace(b"\\", b"\\\\")
    for raw, escaped in _ESCAPES.items():
        if raw[0] in kinds:
            data = data.replace(raw, escaped)
    return _escape_wide(data) if max(kinds) >= 0x80 else data


def _escape_wide(data: bytes) -> bytes:
    try:
        data.decode()
    except UnicodeDecodeError:
        data = data.decode("utf-8", "go-json").encode()
    if b"\xe2\x80" in data:
        data = data.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return data


class Lines:
    """One stream's way from chunks to records."""

    def __init__(self, stream: int, attributes: str = "") -> None:
        self._rest = b""  # begun, not ended yet, shorter than PIECE
        self._piece_ns = 0  # stamp of a line already written in part
        self._last_ns = 0
        middle = f'","stream":"{_STREAMS[stream]}",' + (f'"attrs":{attributes},' if attributes else "")
        self._ending, self._newline_ending = f'{middle}"time":"'.encode(), f'\\n{middle}"time":"'.encode()

    def records(self, chunk: bytes) -> bytes:
        """The records that `chunk` completes."""
        out: list[bytes] = []
        data = self._take_long_lines(self._rest + chunk if self._rest else chunk, out)
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        if end:
            out.append(self._whole(data if end == len(data) else data[:end]))
        return b"".join(out)

    def end(self) -> bytes:
        """The record of what has no newline, at the end of the stream."""
        rest, self._rest = self._rest, b""
        return self._record(rest, self._ending, self._piece_ns or self._stamp()) if rest else b""

    def _whole(self, data: bytes) -> bytes:
        """Records of complete lines, none longer than a piece."""
        text = escape(data)
        if len(data) >= BURST:
            between = self._newline_ending + self._time(self._stamp()) + b'"}\n{"log":"'
            return b'{"log":"' + text.replace(b"\n", between)[: -len(b'{"log":"')]
        lines = text.split(b"\n")
        lines.pop()
        first = self._stamp(len(lines))
        ending, form = self._newline_ending, self._time
        return b"".join([b'{"log":"%b%b%b"}\n' % (line, ending, form(first + index)) for index, line in enumerate(lines)])

    def _take_long_lines(self, data: bytes, out: list[bytes]) -> bytes:
        """Write everything up to the end of the last long line; what remains has none."""
        while (start := 0 if self._piece_ns else _long_line(data)) >= 0:
            if start:
                out.append(self._whole(data[:start]))
            newline = data.find(b"\n", start)
            stop = newline if newline >= 0 else len(data)
            while stop - start >= PIECE:
                self._piece_ns = self._piece_ns or self._stamp()
                out.append(self._record(data[start : start + PIECE], self._ending, self._piece_ns))
                start += PIECE
            if newline < 0:
                return data[start:]
            out.append(self._record(data[start:stop], self._newline_ending, self._piece_ns))
            self._piece_ns, data = 0, data[stop + 1 :]
        return data

    def _record(self, line: bytes, ending: bytes, ns: int) -> bytes:
        return b'{"log":"' + escape(line) + ending + self._time(ns) + b'"}\n'

    def _stamp(self, count: int = 1) -> int:
        """The first of `count` consecutive stamps, later than all before."""
        first = max(time.time_ns(), self._last_ns + 1)
        self._last_ns = first + count - 1
        return first

    @staticmethod
    def _time(ns: int) -> bytes:
        return rfc3339(ns).encode()


def _long_line(data: bytes) -> int:
    """Where the first line of PIECE bytes or more begins (the unfinished last one counts), or -1. One step per 16 KiB."""
    position = 0
    while len(data) - position >= PIECE:
        newline = data.rfind(b"\n", position, position + PIECE)
        if newline < 0:
            return position
        position = newline + 1
    return -1


class JsonLog:
    """The log file and its rotation. A write that fails (a full disk) loses its records and is reported, nothing else stops."""

    def __init__(self, log: Log, report: Callable[[str], None]) -> None:
        self._log, self._report = log, report
        self._lines = {stream: Lines(stream, log.attrs) for stream in _STREAMS}
        self._fd, self._size = self._open()

    def write(self, stream: int, chunk: bytes) -> bool:
        """Whether the file grew."""
        return self._append(self._lines[stream].records(chunk))

    def end(self, stream: int) -> bool:
        return self._append(self._lines[stream].end())

    def close(self) -> None:
        os.close(self._fd)

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
            if self._size >= self._log.max_size:
                self._rotate()
            room = max(self._log.max_size - self._size, 1)
            cut = records.find(b"\n", start + room - 1) + 1 if room < len(records) - start else len(records)
            self._write(records[start : cut or len(records)])
            start = cut or len(records)

    def _write(self, records: bytes) -> None:
        view = memoryview(records)
        while view:
            written = os.write(self._fd, view)
            self._size += written
            view = view[written:]

    def _rotate(self) -> None:
        path, keep = self._log.path, self._log.max_file
        for number in range(keep - 1, 0, -1):
            older = f"{path}.{number - 1}" if number > 1 else path
            with suppress(FileNotFoundError):  # fewer have been written so far
                os.rename(older, f"{path}.{number}")
        os.close(self._fd)
        self._fd, self._size = self._open(os.O_TRUNC if keep < 2 else 0)
