"""make_app: every route table behind one dispatcher, and the server options Docker's clients need."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from compat_engine.api.middleware import Dispatcher
from compat_engine.api.route import Router
from compat_engine.api.routes import ROUTES
from compat_engine.engine.parts import Engine

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_JSON_LIMIT: Final = 16 << 20  # bytes of a JSON body; tar bodies are streamed and have no limit
_HEAD_LIMIT: Final = 1 << 20  # build arguments travel in the query, registry credentials in one header
_PATIENCE: Final = 1.0  # seconds a handler gets to end at shutdown


def make_app(engine: Engine) -> web.Application:
    dispatcher = Dispatcher(engine, Router(ROUTES))

    async def every(request: web.Request) -> web.StreamResponse:
        return await dispatcher(request)

    # Also a middleware, as aiohttp's own routing does not know `OPTIONS *`; a route, as an exception is made for what has none.
    @web.middleware
    async def dispatch(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await dispatcher(request)

    app = web.Application(client_max_size=_JSON_LIMIT, middlewares=[dispatch])
    app.router.add_route("*", "/{path:.*}", every)
    app.on_response_prepare.append(dispatcher.add_headers)
    app.on_cleanup.append(dispatcher.settle)
    return app


def make_runner(app: web.Application) -> web.AppRunner:
    """handler_cancellation is how `live` routes learn that their client has left. Like dockerd the server does not look at
    Content-Encoding: what is compressed is the body of a load, and says so itself."""
    logging.getLogger("aiohttp.server").addFilter(_of_the_daemon)
    return web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        handle_signals=False,
        handler_cancellation=True,
        keepalive_timeout=3600.0,
        max_line_size=_HEAD_LIMIT,
        max_field_size=_HEAD_LIMIT,
        shutdown_timeout=_PATIENCE,
    )


def _of_the_daemon(record: logging.LogRecord) -> bool:
    """Whether a failure is the daemon's own: a client that speaks no HTTP has its 400, one that left needs no answer, and
    neither needs a traceback in the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError | ConnectionError))
