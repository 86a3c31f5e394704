"""Shell patterns as Go's path.Match reads them: `*` and `?` stop at a slash, a class may name it."""

from functools import lru_cache

from compat_engine.engine.regexps import Expression, compiled
from compat_engine.errors import InvalidParameter

_NOTHING = r"\x{10FFFF}-\x{10FFFF}"  # no text has it


def path_match(pattern: str, text: str) -> bool:
    """Whether the whole of `text` matches. Raises InvalidParameter "syntax error in pattern"."""
    return _expression(pattern).search(text) is not None


@lru_cache(256)
def _expression(pattern: str) -> Expression:
    parts, rest = [], pattern
    while rest:
        if rest[0] in "*?":
            parts.append("[^/]*" if rest[0] == "*" else "[^/]")
            rest = rest[1:]
        elif rest[0] == "[":
            group, rest = _class(rest[1:])
            parts.append(group)
        else:
            character, rest = _character(rest)
            parts.append(_escaped(character))
    return compiled(rf"\A(?s:{''.join(parts)})\z")


def _class(rest: str) -> tuple[str, str]:
    """The expression for what follows "[", and what follows its "]". A range that runs backwards holds nothing."""
    negated = rest.startswith("^")
    rest = rest[negated:]
    ranges: list[str] = []
    while not ranges or not rest.startswith("]"):
        first, rest = _member(rest)
        last, rest = _member(rest[1:]) if rest.startswith("-") else (first, rest)
        ranges.append(f"{_escaped(first)}-{_escaped(last)}" if first <= last else _NOTHING)
    return f"[{'^' if negated else ''}{''.join(ranges)}]", rest[1:]


def _member(rest: str) -> tuple[str, str]:
    if rest[:1] in ("", "-", "]"):
        raise InvalidParameter("syntax error in pattern")
    return _character(rest)


def _character(rest: str) -> tuple[str, str]:
    """The first character, perhaps after a backslash, and what follows it."""
    rest = rest.removeprefix("\\")
    if not rest:
        raise InvalidParameter("syntax error in pattern")
    return rest[0], rest[1:]


def _escaped(character: str) -> str:
    return f"\\x{{{ord(character):x}}}"
