"""What Docker's `filters` parameter means where several nouns share it: labels, points in time, names."""

import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime

from compat_engine.engine.regexps import compiled
from compat_engine.errors import InvalidParameter

Filters = Mapping[str, Sequence[str]]
_DURATION = re.compile(r"(?:(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def check_filters(filters: Filters, accepted: frozenset[str]) -> None:
    """Raises InvalidParameter for a key that is not known."""
    for key in filters:
        if key not in accepted:
            raise InvalidParameter(f"invalid filter '{key}'")


def labels_match(filters: Filters, labels: Mapping[str, str] | None, key: str = "label") -> bool:
    """All of `label=name` and `label=name=value`."""
    return all(_has_label(word, labels or {}) for word in filters.get(key, ()))


def prunable_labels(filters: Filters, labels: Mapping[str, str] | None) -> bool:
    """Also with prune's `label!`: none of those."""
    excluded = any(_has_label(word, labels or {}) for word in filters.get("label!", ()))
    return labels_match(filters, labels) and not excluded


def _has_label(word: str, labels: Mapping[str, str]) -> bool:
    name, has_value, value = word.partition("=")
    return name in labels and (not has_value or labels[name] == value)


def boolean_filter(filters: Filters, key: str) -> bool | None:
    """The boolean among the values of `key`, None when it is not asked for. Raises InvalidParameter for none, and for both."""
    values = filters.get(key)
    if values is None:
        return None
    true, false = not {"1", "true"}.isdisjoint(values), not {"0", "false"}.isdisjoint(values)
    if true == false:
        raise InvalidParameter(f"invalid filter '{key}=[{' '.join(values)}]'" if values else f"invalid filter '{key}'")
    return true


def any_match(patterns: Sequence[str], candidates: Sequence[str]) -> bool:
    """Docker's loose match: a regular expression found in, or a text equal to, one of the candidates. No pattern matches all."""
    return not patterns or any(_matches(pattern, text) for pattern in patterns for text in candidates)


def _matches(pattern: str, text: str) -> bool:
    if pattern == text:
        return True
    try:
        return compiled(pattern).search(text) is not None
    except ValueError:
        return False


def until(filters: Filters) -> float | None:
    """The one `until` as seconds since the epoch: a Go duration before now, RFC 3339, or a Unix time. Raises InvalidParameter."""
    values = filters.get("until", ())
    if not values:
        return None
    if len(values) > 1:
        raise InvalidParameter("more than one until filter specified")
    return parse_time(values[0])


def parse_time(word: str) -> float:
    """Seconds since the epoch. Raises InvalidParameter with Docker's text."""
    if (seconds := duration(word)) is not None:
        return time.time() - seconds
    try:
        return float(word)
    except ValueError:
        pass
    try:
        # The zone may be missing: then it is the daemon's, as in Docker.
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", word)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidParameter(f'failed to parse value as time or duration: "{word}"') from None


def duration(word: str) -> float | None:
    """Seconds of a Go duration such as "1h30m"; None when it is none."""
    parts = _DURATION.findall(word)
    if not parts or "".join(number + unit for number, unit in parts) != word.lstrip("-+"):
        return None
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return -seconds if word.startswith("-") else seconds
