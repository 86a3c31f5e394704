"""Docker's json-file records, made of whole chunks: escapes and splitting byte for byte as Docker's.

A record is {"log": one line with its newline, "stream", "attrs" when there are any, "time"} and a newline.
"""

import codecs

from compat_engine.shim.clock import rfc3339
from compat_engine.shim.lines import Lines

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


class JsonLines(Lines):
    """attributes: a JSON object for every record, "" for none."""

    def __init__(self, stream: int, attributes: str = "") -> None:
        super().__init__()
        middle = f'","stream":"{_STREAMS[stream]}",' + (f'"attrs":{attributes},' if attributes else "")
        self._ending, self._newline_ending = f'{middle}"time":"'.encode(), f'\\n{middle}"time":"'.encode()

    def whole(self, data: bytes) -> bytes:
        text = escape(data)
        if len(data) >= BURST:
            between = self._newline_ending + self._time(self.stamp()) + b'"}\n{"log":"'
            return b'{"log":"' + text.replace(b"\n", between)[: -len(b'{"log":"')]
        lines = text.split(b"\n")
        lines.pop()
        first = self.stamp(len(lines))
        ending, form = self._newline_ending, self._time
        return b"".join([b'{"log":"%b%b%b"}\n' % (line, ending, form(first + index)) for index, line in enumerate(lines)])

    def piece(self, text: bytes, ns: int, last: bool) -> bytes:
        ending = self._newline_ending if last else self._ending
        return b'{"log":"' + escape(text) + ending + self._time(ns) + b'"}\n'

    @staticmethod
    def cut(records: bytes, start: int, room: int) -> int:
        if room >= len(records) - start:
            return len(records)
        return records.find(b"\n", start + room - 1) + 1

    @staticmethod
    def _time(ns: int) -> bytes:
        return rfc3339(ns).encode()
