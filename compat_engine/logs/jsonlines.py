"""Lines of a json-file log to records.

The file format is Docker's: {"log": line, "stream": "stdout"|"stderr", "attrs": {...}?, "time": RFC 3339 with nanoseconds}.
"""

import msgspec

from compat_engine.logs.query import padded
from compat_engine.logs.record import Record

_PREFIX = b'{"log":'  # cannot occur inside a record: quotes in strings are escaped
_decoder = msgspec.json.Decoder(Record)


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
