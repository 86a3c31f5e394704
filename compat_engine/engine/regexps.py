"""Regular expressions of clients, with Go's syntax and complaints: RE2, which Go's own package is made after. Like there a search
takes time linear in the text, so no expression stops the daemon."""

from functools import lru_cache
from typing import Protocol

import re2  # type: ignore[import-untyped]

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False  # on stderr
_GO_WORDS = {  # RE2's -> Go's; what is not here is the same
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid repetition size": "invalid repeat count",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "trailing \\": "trailing backslash at end of expression",
}


class Expression(Protocol):
    def search(self, text: str) -> object | None: ...


@lru_cache(64)
def compiled(pattern: str) -> Expression:
    """Raises ValueError with Go's text."""
    try:
        expression: Expression = re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        words, _, shown = error.args[0].decode(errors="replace").partition(": ")
        raise ValueError(f"error parsing regexp: {_GO_WORDS.get(words, words)}: `{shown}`") from error
    return expression
