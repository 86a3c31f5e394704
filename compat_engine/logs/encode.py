"""Records to what a client receives: one frame a record."""

from collections.abc import Callable, Iterable
from struct import Struct
from urllib.parse import quote_plus

from compat_engine.logs.query import LogQuery, padded, stamp
from compat_engine.logs.record import Record

_LENGTH = Struct(">I")
_RAW = "surrogateescape"  # a record's bytes, whatever they are

Encoder = Callable[[Iterable[Record]], bytes]


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
    return lambda items: "".join([item.log for item in items if item.stream in heads]).encode("utf-8", _RAW)


def _raw_decorated(query: LogQuery, heads: dict[str, bytes]) -> Encoder:
    line = _decorate(query)
    return lambda items: "".join([line(item) for item in items if item.stream in heads]).encode("utf-8", _RAW)


def _framed(heads: dict[str, bytes]) -> Encoder:
    def encode(items: Iterable[Record]) -> bytes:
        parts: list[bytes] = []
        add, get, pack = parts.append, heads.get, _LENGTH.pack
        for item in items:
            if head := get(item.stream):
                data = item.log.encode("utf-8", _RAW)
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
                data = line(item).encode("utf-8", _RAW)
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
