"""Routes: what a file below routes/ declares, and how a path finds its handler."""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from multidict import MultiDict

from compat_engine.engine.parts import Engine

Version = tuple[int, ...]
Handler = Callable[[web.BaseRequest, Engine], Awaitable[web.StreamResponse]]

OLDEST: Final = (1, 24)
NEWEST: Final = (1, 56)

VERSION: Final = web.RequestKey("version", tuple[int, ...])
ROUTE: Final = web.RequestKey("route", str)
QUERY: Final = web.RequestKey("query", MultiDict[str])
HEADERS: Final = web.RequestKey("headers", dict[str, str])  # of every answer
VARIABLES: Final = web.RequestKey("variables", dict[str, str])

_DIGITS: Final = 20  # of a number in a version; more are as much too new
_PREFIX: Final = re.compile(r"/v([0-9.]+)(/.*)")
_VARIABLE: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. `path` without version; a variable takes any text, slashes too: /images/{name}/json.

    since: the API version that brought it. live: the handler is cancelled when the client goes (logs, events, wait, pull, all
    that only looks); without it the handler runs to its end, as stopping or removing half a container would help nobody.
    """

    method: str
    path: str
    handler: Handler
    since: str = "1.24"
    live: bool = False

    @property
    def name(self) -> str:
        """What versions.py calls it."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Match:
    route: Route
    variables: dict[str, str]
    version: str  # as in the path, "" without


class Router:
    """Matches in the order of declaration within a method and the path's first word."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._table: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]] = {}
        for route in routes:
            pattern = re.compile(_VARIABLE.sub(r"(?P<\1>.*)", route.path))
            self._table.setdefault((route.method, _first_word(route.path)), []).append((pattern, route))

    def match(self, method: str, path: str) -> Match | None:
        prefix = _PREFIX.fullmatch(path)
        version, path = prefix.groups() if prefix else ("", path)
        for pattern, route in self._table.get((method, _first_word(path)), ()):
            if found := pattern.fullmatch(path):
                return Match(route, found.groupdict(), version)
        return None


def parse_version(text: str) -> Version:
    """ "1.45" as (1, 45). What is not a number counts as 0, as in dockerd."""
    return tuple(int(part[:_DIGITS]) if part else 0 for part in text.split("."))


def show_version(version: Version) -> str:
    return ".".join(map(str, version))


def _first_word(path: str) -> str:
    return path[1:].partition("/")[0]
