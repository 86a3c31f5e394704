"""What a check says about what it saw; every function raises CheckFailed with both sides in the text."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Collection, Mapping
from typing import Any

from .client import Response

_ID = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
ZERO_TIME = "0001-01-01T00:00:00Z"


class CheckFailed(AssertionError):
    """The engine did something else than it must."""


class Unsupported(CheckFailed):
    """The engine says itself, by 501, that it does not have this."""


class Skipped(Exception):
    """The check does not apply here; the text says why."""


def expect(condition: object, message: str) -> None:
    if not condition:
        raise CheckFailed(message)


def equal(actual: object, expected: object, what: str = "value") -> None:
    expect(actual == expected, f"{what}: expected {expected!r}, got {actual!r}")


def one_of(actual: object, allowed: Collection[object], what: str = "value") -> None:
    expect(actual in allowed, f"{what}: expected one of {allowed!r}, got {actual!r}")


def contains(text: Any, part: Any, what: str = "text") -> None:
    expect(part in text, f"{what}: expected it to contain {part!r}, got {_short(text)}")


def excludes(text: Any, part: Any, what: str = "text") -> None:
    expect(part not in text, f"{what}: expected it not to contain {part!r}, got {_short(text)}")


def matches(pattern: str, text: str, what: str = "text") -> None:
    """The whole text matches the regular expression."""
    expect(re.fullmatch(pattern, text, re.DOTALL), f"{what}: expected /{pattern}/, got {text!r}")


def is_id(value: object, what: str = "id") -> None:
    expect(isinstance(value, str) and _ID.fullmatch(value), f"{what}: expected 64 hex digits, got {value!r}")


def is_time(value: object, what: str = "time") -> None:
    expect(isinstance(value, str) and _TIME.fullmatch(value), f"{what}: expected an RFC 3339 time, got {value!r}")


def nanoseconds(text: str) -> int:
    """An RFC 3339 time in UTC, as nanoseconds since 1970."""
    is_time(text)
    fraction = re.sub(r".*?(?:\.(\d+))?Z", lambda found: (found[1] or "").ljust(9, "0"), text)
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) * 10**9 + int(fraction)


def has_fields(actual: Mapping[str, Any], expected: Mapping[str, Any], what: str = "object") -> None:
    """Each expected key is there with that value; further keys do not matter."""
    for key, value in expected.items():
        expect(key in actual, f"{what}: no key {key!r} among {sorted(actual)}")
        equal(actual[key], value, f"{what}.{key}")


def has_keys(actual: Mapping[str, Any], keys: Collection[str], what: str = "object") -> None:
    missing = sorted(set(keys) - set(actual))
    expect(not missing, f"{what}: missing {missing}; there are {sorted(actual)}")


def status(response: Response, *allowed: int) -> Response:
    """The response itself, when its status is one of those allowed; raises Unsupported for a 501 that is not."""
    if response.status == 501 and 501 not in allowed:
        raise Unsupported(f"not supported by the engine: {response.message}")
    expect(response.status in allowed, f"status: expected {_names(allowed)}, got {response.status}: {response.body[:300]!r}")
    return response


def refused(response: Response, allowed: int | tuple[int, ...], message: str) -> None:
    """An error answer: the status, and a JSON body whose message contains this text."""
    status(response, *(allowed if isinstance(allowed, tuple) else (allowed,)))
    equal(response.headers.get("content-type"), "application/json", "content-type of the error")
    contains(response.message, message, "error message")


def _names(values: Collection[int]) -> str:
    return " or ".join(map(str, values))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 600 else text[:300] + " … " + text[-300:]
