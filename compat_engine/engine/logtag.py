"""The log option `tag`: a Go template with Docker's functions."""

import json
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from compat_engine.engine.template import parse, text
from compat_engine.errors import InvalidParameter

Value = str | list[str] | dict[str, str]

_VERB = re.compile(r"%([-+0 #]*\d*(?:\.\d+)?)(.)", re.DOTALL)
_NUMBER = re.compile(r"\d+")
_WIDEST = 1000


def render(template: str, fields: Mapping[str, Value]) -> str:
    """Raises InvalidParameter with Go's words."""
    try:
        return parse(template, _FUNCTIONS)(fields)
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"template: log-tag:1: {error}") from error


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _index(value: Any, key: Any) -> Any:
    return value.get(key, "") if isinstance(value, dict) else value[key]


def _pad(text: str, before: int, after: int) -> str:
    if max(before, after) > _WIDEST:
        raise ValueError("too wide")
    return " " * before + text + " " * after if text else text


def _print(*values: Any) -> str:
    """A space where neither neighbour is a text."""
    out = ""
    for before, value in zip(("", *values), values, strict=False):
        out += " " * (not isinstance(before, str) and not isinstance(value, str)) + text(value)
    return out


def _printf(form: str, *values: Any) -> str:
    left = list(values)

    def one(verb: re.Match[str]) -> str:
        if verb[2] == "%":
            return "%"
        if verb[2] not in "svqdx" or not left or any(int(number) > _WIDEST for number in _NUMBER.findall(verb[1])):
            raise ValueError(f"bad format {verb[0]}")
        value = left.pop(0)
        if verb[2] in "dx":
            return str(f"%{verb[1]}{verb[2]}" % value)
        return str(f"%{verb[1]}s" % (_json(value) if verb[2] == "q" else text(value)))

    return _VERB.sub(one, form)


def _compared(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def function(first: Any, second: Any) -> bool:
        if type(first) is not type(second):
            raise ValueError("incompatible types for comparison")
        return compare(first, second)

    return function


_EQUAL = _compared(operator.eq)


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise ValueError("missing argument for comparison")
    return any(_EQUAL(first, other) for other in others)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": _json,
    "split": lambda text, separator: text.split(separator),
    "join": lambda words, separator: separator.join(words),
    "title": lambda text: re.sub(r"(^|\s)(\S)", lambda found: found[1] + found[2].upper(), text),
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "pad": _pad,
    "truncate": lambda text, length: text[:length],
    "index": _index,
    "len": lambda value: len(value),
    "slice": lambda value, *bounds: value[slice(*bounds) if len(bounds) > 1 else slice(bounds[0] if bounds else 0, None)],
    "print": _print,
    "println": lambda *values: " ".join(map(text, values)) + "\n",
    "printf": _printf,
    "eq": _equal,
    "ne": _compared(operator.ne),
    "lt": _compared(operator.lt),
    "le": _compared(operator.le),
    "gt": _compared(operator.gt),
    "ge": _compared(operator.ge),
    "not": operator.not_,
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "or": lambda *values: next(filter(None, values), values[-1]),
}
