"""Records of Docker's `local` log: a protobuf message with its length before and after it, four bytes big-endian each.

The message has source (1: stdout or stderr), time_nano (2), line (3, without its newline), and of a piece of a line also
partial (4: true) and metadata (5: last (1), id (2) which the pieces of a line share, ordinal (3) from one).
"""

import os

from compat_engine.shim.lines import Lines

_SOURCES = {1: b"\x0a\x06stdout\x10", 2: b"\x0a\x06stderr\x10"}


def varint(number: int) -> bytes:
    """A number as protobuf's encoding has it: seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _framed(message: bytes) -> bytes:
    length = len(message).to_bytes(4, "big")
    return length + message + length


class LocalLines(Lines):
    def __init__(self, stream: int) -> None:
        super().__init__()
        self._source = _SOURCES[stream]
        self._id, self._ordinal = b"", 0  # of the line whose pieces are being written

    def whole(self, data: bytes) -> bytes:
        lines = data.split(b"\n")
        lines.pop()
        first = self.stamp(len(lines))
        return b"".join([_framed(self._message(line, first + index)) for index, line in enumerate(lines)])

    def piece(self, text: bytes, ns: int, last: bool) -> bytes:
        self._id = self._id or os.urandom(32).hex().encode()
        self._ordinal += 1
        metadata = (b"\x08\x01" if last else b"") + b"\x12\x40" + self._id + b"\x18" + varint(self._ordinal)
        if last:
            self._id, self._ordinal = b"", 0
        return _framed(self._message(text, ns) + b"\x20\x01\x2a" + varint(len(metadata)) + metadata)

    @staticmethod
    def cut(records: bytes, start: int, room: int) -> int:
        position = start
        while position < len(records) and position - start < room:
            position += int.from_bytes(records[position : position + 4], "big") + 8
        return position

    def _message(self, line: bytes, ns: int) -> bytes:
        # As protobuf's proto3 has it, an empty line is left out.
        return self._source + varint(ns) + (b"\x1a" + varint(len(line)) + line if line else b"")
