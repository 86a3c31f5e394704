"""Shell patterns as Go's path.Match reads them: `*` and `?` stop at a slash."""

import re
from functools import lru_cache

from compat_engine.errors import InvalidParameter


def path_match(pattern: str, text: str) -> bool:
    """Whether the whole of `text` matches. Raises InvalidParameter "syntax error in pattern"."""
    return _compiled(pattern).fullmatch(text) is not None


@lru_cache(256)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts, rest = [], pattern
    while rest:
        character, rest = rest[0], rest[1:]
        if character in "*?":
            parts.append("[^/]*" if character == "*" else "[^/]")
        elif character == "[":
            group, rest = _class(rest)
            parts.append(group)
        elif character == "\\":
            if not rest:
                raise InvalidParameter("syntax error in pattern")
            parts.append(re.escape(rest[0]))
            rest = rest[1:]
        else:
            parts.append(re.escape(character))
    return re.compile("".join(parts), re.DOTALL)


def _class(rest: str) -> tuple[str, str]:
    """The expression for what follows "[", and what follows its "]"."""
    negated = rest.startswith("^")
    found = re.match(r"((?:\\.|[^\\\]-])(?:-(?:\\.|[^\\\]-]))?)+\]", rest[negated:], re.DOTALL)
    if found is None:
        raise InvalidParameter("syntax error in pattern")
    body = found[0][:-1].replace("[", "\\[").replace("^", "\\^").replace("&&", "&\\&").replace("||", "|\\|").replace("~~", "~\\~")
    try:
        re.compile(f"[{body}]")
    except re.error:
        raise InvalidParameter("syntax error in pattern") from None
    return f"(?!/)[{'^' if negated else ''}{body}]", rest[negated + found.end() :]
