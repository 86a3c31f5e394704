"""Times as Docker writes them."""

import time
from datetime import UTC, datetime


def rfc3339nano(nanoseconds: int | None = None) -> str:
    """UTC, nine decimals less trailing zeros, as Go's RFC3339Nano. `nanoseconds` since the epoch, now when absent."""
    ns = time.time_ns() if nanoseconds is None else nanoseconds
    seconds, fraction = divmod(ns, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{fraction:09d}".rstrip("0")
    return f"{text}.{digits}Z" if digits else f"{text}Z"
