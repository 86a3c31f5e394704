"""What happens around every handler: version, headers, errors as JSON, a client that leaves, the access log."""

import asyncio
import logging
import platform
import posixpath
import time
from collections.abc import Awaitable
from typing import Final
from urllib.parse import quote

from aiohttp import web
from multidict import MultiDict

from compat_engine import __version__
from compat_engine.api.route import (
    HEADERS,
    NEWEST,
    OLDEST,
    QUERY,
    ROUTE,
    VARIABLES,
    VERSION,
    Match,
    Router,
    Version,
    parse_version,
    show_version,
)
from compat_engine.api.status import status_of
from compat_engine.api.streams import error_body
from compat_engine.api.versions import upgrade_query
from compat_engine.engine.parts import Engine
from compat_engine.errors import EngineError, InvalidParameter

_PLAIN: Final = "/$&+,:;=@~"  # beside letters, digits, _ . -: what Go leaves as it is in a path

log = logging.getLogger(__name__)
access = logging.getLogger("compat_engine.access")


class Dispatcher:
    """The server's only handler. Knows the routes, and the requests that outlive their clients."""

    def __init__(self, engine: Engine, router: Router) -> None:
        self._engine = engine
        self._router = router
        self._advertised = parse_version(engine.config.api_version)
        self._unattended: set[asyncio.Future[web.StreamResponse]] = set()
        self.headers: Final[dict[str, str]] = {
            "Api-Version": engine.config.api_version,
            "Docker-Experimental": "false",
            "Ostype": platform.system().lower(),
            "Server": f"Docker/{__version__} ({platform.system().lower()})",
        }

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        started = time.monotonic()
        response = await self._respond(request)
        if not response.prepared:
            response.headers.update(self.headers)
        if access.isEnabledFor(logging.DEBUG):
            milliseconds = (time.monotonic() - started) * 1000
            access.debug("method=%s path=%s status=%d ms=%.1f", request.method, request.path_qs, response.status, milliseconds)
        return response

    async def settle(self) -> None:
        """At the end of the daemon: what still runs without a client is cancelled."""
        for task in self._unattended:
            task.cancel()
        await asyncio.gather(*self._unattended, return_exceptions=True)

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._route(request)
        except EngineError as error:
            return error_response(error)
        except web.HTTPException as error:
            return error_response(error)
        except web.RequestPayloadError as error:
            return error_response(InvalidParameter(f"cannot read the request body: {error}"))
        except ConnectionError:
            raise  # the client is gone; aiohttp closes what is left of the connection
        except Exception as error:
            log.exception("%s %s failed", request.method, request.path)
            return error_response(error)

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return web.Response()
        if "//" in request.path or ("/." in request.path and _cleaned(request.path) != request.path):
            return web.Response(status=301, headers={"Location": _location(request)})
        match = self._router.match(request.method, request.path)
        if match is None:
            return _json_message(404, "page not found")
        request[VERSION] = version = self._version(match)
        request[ROUTE] = match.route.name
        request[VARIABLES] = match.variables
        request[HEADERS] = self.headers
        request[QUERY] = MultiDict(request.query)
        upgrade_query(match.route.name, version, request[QUERY])
        if not await _send_continue(request):
            return _expectation_failed()
        if match.route.live:
            return await match.route.handler(request, self._engine)
        return await self._to_the_end(match.route.handler(request, self._engine))

    def _version(self, match: Match) -> Version:
        """Raises InvalidParameter outside of what the engine and the route know."""
        version = parse_version(match.version) if match.version else self._advertised
        if version < OLDEST:
            raise InvalidParameter(
                f"client version {match.version} is too old. Minimum supported API version is {show_version(OLDEST)}, "
                "please upgrade your client to a newer version"
            )
        if version > NEWEST:
            raise InvalidParameter(
                f"client version {match.version} is too new. Maximum supported API version is {show_version(NEWEST)}"
            )
        if version < parse_version(match.route.since):
            raise InvalidParameter(
                f"{match.route.name} requires API version {match.route.since}, but the client asked with {show_version(version)}"
            )
        return version

    async def _to_the_end(self, work: Awaitable[web.StreamResponse]) -> web.StreamResponse:
        """Run `work` also when the client leaves; an error is logged then, as nobody else sees it."""
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                self._unattended.add(task)
                task.add_done_callback(self._finished)
            raise

    def _finished(self, task: "asyncio.Future[web.StreamResponse]") -> None:
        self._unattended.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.info("a request whose client had left failed: %s", error)


def error_response(error: BaseException) -> web.Response:
    status = status_of(error)
    if status == 304:
        return web.Response(status=304)
    text = error.text or error.reason if isinstance(error, web.HTTPException) else str(error) or type(error).__name__
    return _json_message(status, text)


def _json_message(status: int, message: str) -> web.Response:
    return web.Response(status=status, body=error_body(message), content_type="application/json")


async def _send_continue(request: web.BaseRequest) -> bool:
    """To a client that waits for it before it sends the body (RFC 9110, 10.1.1). False when it expects something else."""
    expected = request.headers.get("Expect", "")
    if not expected or request.version < (1, 1):
        return True
    if expected.lower() != "100-continue":
        return False
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer's head is yet to come
    return True


def _expectation_failed() -> web.Response:
    response = web.Response(status=417)
    response.force_close()  # the body may follow, or not
    return response


def _location(request: web.BaseRequest) -> str:
    path, query = quote(_cleaned(request.path), safe=_PLAIN), request.rel_url.raw_query_string
    return f"{path}?{query}" if query else path


def _cleaned(path: str) -> str:
    """As Go's mux redirects: no empty, . or .. parts; a slash at the end stays."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return f"{clean}/" if path.endswith("/") and clean != "/" else clean
