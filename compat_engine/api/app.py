"""The server: every route table behind one dispatcher, and the options Docker's clients need."""

import asyncio
import logging
from functools import partial
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from compat_engine.api.middleware import Dispatcher
from compat_engine.api.route import Router
from compat_engine.api.routes import ROUTES
from compat_engine.engine.parts import Engine

_JSON_LIMIT: Final = 16 << 20  # bytes of a JSON body; tar bodies are streamed and have no limit
_HEAD_LIMIT: Final = 1 << 20  # build arguments travel in the query, registry credentials in one header
_PATIENCE: Final = 1.0  # seconds a handler gets to end at shutdown


def make_dispatcher(engine: Engine) -> Dispatcher:
    return Dispatcher(engine, Router(ROUTES))


def make_runner(dispatcher: Dispatcher) -> web.ServerRunner:
    """In the running loop. aiohttp's server alone: its applications would find each route a second time.

    handler_cancellation is how `live` routes learn that their client has left. Like dockerd the server does not look at
    Content-Encoding: what is compressed is the body of a load, and says so itself.
    """
    logging.getLogger("aiohttp.server").addFilter(_of_the_daemon)
    server = web.Server(
        dispatcher,
        request_factory=partial(web.BaseRequest, loop=asyncio.get_running_loop(), client_max_size=_JSON_LIMIT),
        access_log=None,
        auto_decompress=False,
        handler_cancellation=True,
        keepalive_timeout=3600.0,
        max_line_size=_HEAD_LIMIT,
        max_field_size=_HEAD_LIMIT,
    )
    return web.ServerRunner(server, handle_signals=False, shutdown_timeout=_PATIENCE)


def _of_the_daemon(record: logging.LogRecord) -> bool:
    """Whether a failure is the daemon's own: a client that speaks no HTTP has its 400, one that left needs no answer, and
    neither needs a traceback in the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError | ConnectionError))
