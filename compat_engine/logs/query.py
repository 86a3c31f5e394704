"""What a reader wants of a log."""

from dataclasses import dataclass
from datetime import UTC, datetime

_LATEST = 253_402_300_799_999_999_999  # the last nanosecond of the year 9999


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Times are nanoseconds since the epoch, 0 for no limit. `tail`: that many of the last records of either stream, -1 for all
    (Docker counts before it selects streams). `details` puts the record's attributes before the line."""

    stdout: bool = True
    stderr: bool = True
    since_ns: int = 0
    until_ns: int = 0
    tail: int = -1
    timestamps: bool = False
    details: bool = False
    follow: bool = False


def stamp(nanoseconds: int) -> str:
    """RFC 3339 in UTC with nine decimals: such texts compare as their times do."""
    seconds, fraction = divmod(min(max(nanoseconds, 0), _LATEST), 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{fraction:09d}Z"


def padded(time: str) -> str:
    """A record's time, whose trailing zeros are missing, with nine decimals."""
    if len(time) == 30:
        return time
    whole, _, fraction = time.rstrip("Z").partition(".")
    return f"{whole}.{fraction:0<9}Z"
