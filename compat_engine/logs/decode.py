"""Lines of a json-file log to records, and records to what a client receives: one frame a record.

The file format is Docker's: {"log": line, "stream": "stdout"|"stderr", "attrs": {...}?, "time": RFC 3339 with nanoseconds}.
"""

from collections.abc import Callable, Iterable
from struct import Struct
from urllib.parse import quote_plus

import msgspec

from compat_engine.logs.query import LogQuery, padded, stamp

_PREFIX = b'{"log":'  # cannot occur inside a record: quotes in strings are escaped
_LENGTH = Struct(">I")


class Record(msgspec.Struct, frozen=True, gc=False):
    log: str
    time: str
    stream: str = "stdout"
    attrs: dict[str, str] | None = None


_decoder = msgspec.json.Decoder(Record)

Encoder = Callable[[Iterable[Record]], bytes]


def records(lines: bytes) -> list[Record]:
    """The records in whole lines. What a crash cut short is left out, and what was appended to it is kept."""
    try:
        return _decoder.decode_lines(lines)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [record for line in lines.split(b"\n") if (record := _salvage(line)) is not None]


def _salvage(line: bytes) -> Record | None:
    start = line.rfind(_PREFIX)
    if start < 0:
        return None
    try:
        return _decoder.decode(line[start:])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def time_of(line: bytes) -> str:
    """The padded time of the record in one line, "" when there is none."""
    record = _salvage(line)
    return padded(record.time) if record else ""


def encoder(query: LogQuery, raw: bool) -> Encoder:
    """From records to bytes on the wire: stdcopy frames, or the bare lines of a tty (`raw`)."""
    heads = _heads(query)
    if raw:
        return _raw_decorated(query, heads) if query.timestamps or query.details else _raw(heads)
    return _framed_decorated(query, heads) if query.timestamps or query.details else _framed(heads)


def within(query: LogQuery) -> Callable[[list[Record]], tuple[list[Record], bool]]:
    """A function that keeps the records in the asked time, and says whether the first later one has been met."""
    since = stamp(query.since_ns) if query.since_ns else ""
    until = stamp(query.until_ns) if query.until_ns else "~"

    def select(items: list[Record]) -> tuple[list[Record], bool]:
        kept: list[Record] = []
        for item in items:
            time = padded(item.time)
            if time > until:
                return kept, True
            if time >= since:
                kept.append(item)
        return kept, False

    return select if query.since_ns or query.until_ns else lambda items: (items, False)


def _heads(query: LogQuery) -> dict[str, bytes]:
    wanted = {"stdout": (query.stdout, b"\1\0\0\0"), "stderr": (query.stderr, b"\2\0\0\0")}
    return {stream: head for stream, (asked, head) in wanted.items() if asked}


def _raw(heads: dict[str, bytes]) -> Encoder:
    return lambda items: "".join([item.log for item in items if item.stream in heads]).encode()


def _raw_decorated(query: LogQuery, heads: dict[str, bytes]) -> Encoder:
    line = _decorate(query)
    return lambda items: "".join([line(item) for item in items if item.stream in heads]).encode()


def _framed(heads: dict[str, bytes]) -> Encoder:
    def encode(items: Iterable[Record]) -> bytes:
        parts: list[bytes] = []
        add, get, pack = parts.append, heads.get, _LENGTH.pack
        for item in items:
            if head := get(item.stream):
                data = item.log.encode()
                add(head + pack(len(data)))
                add(data)
        return b"".join(parts)

    return encode


def _framed_decorated(query: LogQuery, heads: dict[str, bytes]) -> Encoder:
    line = _decorate(query)

    def encode(items: Iterable[Record]) -> bytes:
        parts: list[bytes] = []
        for item in items:
            if head := heads.get(item.stream):
                data = line(item).encode()
                parts += (head, _LENGTH.pack(len(data)), data)
        return b"".join(parts)

    return encode


def _decorate(query: LogQuery) -> Callable[[Record], str]:
    if not query.details:
        return lambda item: f"{padded(item.time)} {item.log}"
    if not query.timestamps:
        return lambda item: f"{_details(item)} {item.log}"
    return lambda item: f"{padded(item.time)} {_details(item)} {item.log}"


def _details(item: Record) -> str:
    pairs = sorted((item.attrs or {}).items())
    return ",".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in pairs)
