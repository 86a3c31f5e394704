"""A stream's chunks as the records of a log, cut where Docker cuts: at newlines, and every 16 KiB of a line that is longer.

The pieces of a long line share the time of the first; what is left without a newline at the end of the stream is a piece, too.
"""

import time

PIECE = 16384  # bytes of a line in one record


class Lines:
    """One stream's way from chunks to records. How a record looks is for the subclasses to say, one for each log driver."""

    def __init__(self) -> None:
        self._rest = b""  # begun, not ended yet, shorter than PIECE
        self._piece_ns = 0  # stamp of a line already written in part
        self.last_ns = 0  # the latest stamp given

    def records(self, chunk: bytes) -> bytes:
        """The records that `chunk` completes."""
        out: list[bytes] = []
        data = self._take_long_lines(self._rest + chunk if self._rest else chunk, out)
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        if end:
            out.append(self.whole(data if end == len(data) else data[:end]))
        return b"".join(out)

    def end(self) -> bytes:
        """The record of what has no newline, at the end of the stream."""
        rest, self._rest = self._rest, b""
        return self.piece(rest, self._piece_ns or self.stamp(), False) if rest else b""

    def whole(self, data: bytes) -> bytes:
        """Records of complete lines, none longer than a piece."""
        raise NotImplementedError

    def piece(self, text: bytes, ns: int, last: bool) -> bytes:
        """The record of a part of a line, without its newline. last: the line ends with it."""
        raise NotImplementedError

    @staticmethod
    def cut(records: bytes, start: int, room: int) -> int:
        """Where the first record ends that reaches `room` bytes from `start`; the end of `records` when none does."""
        raise NotImplementedError

    def stamp(self, count: int = 1) -> int:
        """The first of `count` consecutive stamps, later than all before."""
        first = max(time.time_ns(), self.last_ns + 1)
        self.last_ns = first + count - 1
        return first

    def _take_long_lines(self, data: bytes, out: list[bytes]) -> bytes:
        """Write everything up to the end of the last long line; what remains has none."""
        while (start := 0 if self._piece_ns else _long_line(data)) >= 0:
            if start:
                out.append(self.whole(data[:start]))
            newline = data.find(b"\n", start)
            stop = newline if newline >= 0 else len(data)
            while stop - start >= PIECE:
                self._piece_ns = self._piece_ns or self.stamp()
                out.append(self.piece(data[start : start + PIECE], self._piece_ns, False))
                start += PIECE
            if newline < 0:
                return data[start:]
            out.append(self.piece(data[start:stop], self._piece_ns, True))
            self._piece_ns, data = 0, data[stop + 1 :]
        return data


def _long_line(data: bytes) -> int:
    """Where the first line of PIECE bytes or more begins (the unfinished last one counts), or -1. One step per 16 KiB."""
    position = 0
    while len(data) - position >= PIECE:
        newline = data.rfind(b"\n", position, position + PIECE)
        if newline < 0:
            return position
        position = newline + 1
    return -1
