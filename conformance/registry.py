"""The list of checks: which endpoint each concerns and for which API versions it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from .engine import Engine

Version: TypeAlias = tuple[int, int]
Body: TypeAlias = Callable[[Engine], None]

OLDEST = "1.24"
NEWEST = "1.99"


def parse_version(text: str) -> Version:
    """``"1.41"`` as ``(1, 41)``; raises ValueError for anything else."""
    major, dot, minor = text.partition(".")
    if not dot:
        raise ValueError(f"not an API version: {text!r}")
    return int(major), int(minor)


@dataclass(frozen=True, slots=True)
class Check:
    """One statement about one endpoint, true for the API versions ``since`` to ``until``."""

    endpoint: str
    name: str
    since: Version
    until: Version
    body: Body
    alone: bool = False

    def holds_for(self, version: Version) -> bool:
        return self.since <= version <= self.until


CHECKS: list[Check] = []


def check(endpoint: str, *, since: str = OLDEST, until: str = NEWEST, alone: bool = False) -> Callable[[Body], Body]:
    """Register the decorated function; ``alone``: no other check may run at the same time."""

    def register(body: Body) -> Body:
        module = body.__module__.rpartition(".")[2]
        CHECKS.append(Check(endpoint, f"{module}.{body.__name__}", parse_version(since), parse_version(until), body, alone))
        return body

    return register


def each(endpoint: str, group: str, cases: Iterable[tuple[str, Body]], *, since: str = OLDEST, until: str = NEWEST) -> None:
    """Register one check for each named case of a table."""
    for title, body in cases:
        module = body.__module__.rpartition(".")[2]
        CHECKS.append(Check(endpoint, f"{module}.{group}[{title}]", parse_version(since), parse_version(until), body))
