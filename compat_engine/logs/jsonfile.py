"""A file of a json-file log: records are lines, so any place in it finds the next one."""

from compat_engine.logs.files import LogFile
from compat_engine.logs.jsonlines import records, time_of
from compat_engine.logs.query import stamp
from compat_engine.logs.record import Record

_BLOCK = 64 << 10  # bytes looked at when searching
_LINE = 4 << 10  # bytes in which most lines end
_SLACK_NS = 1_000_000_000  # the two streams are stamped apart, so times are only nearly in order


class JsonFile(LogFile):
    def whole(self, data: bytes) -> int:
        return data.rfind(b"\n") + 1

    def records(self, data: bytes) -> list[Record]:
        return records(data)

    def seek_last(self, count: int) -> int:
        """Go to the last `count` lines; how many of them this file has."""
        found = 0
        end = self._end_of_lines()
        self.offset = end
        position = end - 1  # the newline that ends the last line does not begin one
        while position > 0 and found < count:
            start = max(position - _BLOCK, 0)
            block = self.read(position - start, start)
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
        end, length = self.size, _LINE
        while end > 0:
            start = max(end - length, 0)
            if (at := self.read(end - start, start).rfind(b"\n")) >= 0:
                return start + at + 1
            end, length = start, _BLOCK
        return 0

    def _line_after(self, position: int) -> tuple[bytes, int]:
        """The first whole line that begins after `position`, and where; (b"", 0) when there is none."""
        length = _BLOCK
        while True:
            data = self.read(length, position)
            start = data.find(b"\n") + 1
            end = data.find(b"\n", start) if start else -1
            if end >= 0:
                return data[start:end], position + start
            if len(data) < length:
                return b"", 0
            length *= 2
