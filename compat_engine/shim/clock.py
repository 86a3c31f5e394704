"""Times as Go's time.RFC3339Nano prints them: UTC, trailing zeros of the fraction left out."""

import time

_second, _text = -1, ""


def rfc3339(ns: int) -> str:
    """`ns` since the epoch, e.g. 2026-11-24T06:49:29.69579Z."""
    global _second, _text
    second, fraction = divmod(ns, 1_000_000_000)
    if second != _second:
        _second, _text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    digits = f"{fraction:09d}".rstrip("0")
    return f"{_text}.{digits}Z" if digits else f"{_text}Z"


def now() -> str:
    return rfc3339(time.time_ns())
