"""A file of Docker's `local` log: protobuf messages, each with its length before and after it (shim/locallog.py)."""

import os
from collections import deque
from collections.abc import Iterator

from compat_engine.logs.files import CHUNK, LogFile
from compat_engine.logs.query import stamp
from compat_engine.logs.record import Record

_LONGEST = 64 << 10  # bytes of a message; pieces of lines have 16 KiB
_BEGIN = b"\x0a\x06std"  # of a message: its source
_SOURCE, _TIME, _LINE, _PARTIAL, _METADATA, _LAST = 1, 2, 3, 4, 5, 1  # numbers of fields
_VARINT = 0  # wire type; the other one in use is length and bytes


class LocalFile(LogFile):
    def whole(self, data: bytes) -> int:
        return max((end for _, end in messages(data)), default=0)

    def records(self, data: bytes) -> list[Record]:
        return [record(message) for message, _ in messages(data)]

    def seek_last(self, count: int) -> int:
        self.offset = self.size
        found = 0
        while found < count and self.offset >= 8:
            length = self._number(self.offset - 4)
            start = self.offset - length - 8
            if start < 0 or self._number(start) != length:  # damaged, or the end is being written
                return self._seek_last_from_the_start(count)
            self.offset = start
            found += 1
        return found

    def seek_time(self, since_ns: int) -> None:
        """Here one gets forward from message to message only, and so does who reads on."""

    def _number(self, offset: int) -> int:
        return int.from_bytes(self.read(4, offset), "big")

    def _seek_last_from_the_start(self, count: int) -> int:
        starts: deque[int] = deque(maxlen=count)
        position = 0
        while data := self.read(CHUNK, position):
            ends = [end for _, end in messages(data)]
            if not ends:
                break
            starts.extend(position + start for start in (0, *ends[:-1]))
            position += ends[-1]
        self.offset = starts[0] if starts else position
        return len(starts)


def messages(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Each whole message in `data`, and where what is around it ends. What is damaged is passed over."""
    position = 0
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if length <= _LONGEST and end > len(data):
            return
        if length <= _LONGEST and data[end - 4 : end] == data[position : position + 4]:
            yield data[position + 4 : end - 4], end
            position = end
        elif (begin := data.find(_BEGIN, position + 5)) >= 0:
            position = begin - 4
        else:
            return


def record(message: bytes) -> Record:
    fields = dict(_fields(message))
    line, metadata = fields.get(_LINE, b""), fields.get(_METADATA, b"")
    unfinished = fields.get(_PARTIAL) and not dict(_fields(_bytes(metadata))).get(_LAST)
    return Record(
        log=os.fsdecode(_bytes(line)) + ("" if unfinished else "\n"),
        time=stamp(_int(fields.get(_TIME, 0))),
        stream=_bytes(fields.get(_SOURCE, b"")).decode(errors="replace"),
    )


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of the fields of a protobuf message; nothing more where it makes no sense."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        value, position = _varint(message, position)
        if key & 7 == _VARINT:
            yield key >> 3, value
        else:
            yield key >> 3, message[position : position + value]
            position += value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    for at in range(position, len(data)):
        number |= (data[at] & 0x7F) << shift
        shift += 7
        if data[at] < 0x80:
            return number, at + 1
    return number, len(data)


def _bytes(value: int | bytes) -> bytes:
    return value if isinstance(value, bytes) else b""


def _int(value: int | bytes) -> int:
    return value if isinstance(value, int) else 0
