"""/networks: parse, call one use case, render."""

import json

from aiohttp import web

from compat_engine.api.params import body, filters, text, variable
from compat_engine.api.route import VERSION, Route
from compat_engine.api.streams import answer, nothing
from compat_engine.engine import connections, networks
from compat_engine.engine.parts import Engine
from compat_engine.errors import InvalidParameter
from compat_engine.wire.network import NetworkConnect, NetworkCreate, NetworkDisconnect

_GO_BOOLEANS = frozenset(("", "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"))


async def get_list(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    members = request[VERSION] < (1, 28)  # from then on only inspect shows them
    return answer(request, networks.list_networks(engine, filters(request), members))


async def get_inspect(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    verbose = text(request, "verbose")  # adds what swarm knows, which is nothing here
    if verbose not in _GO_BOOLEANS:
        raise InvalidParameter(
            f"invalid value for verbose: {verbose}: strconv.ParseBool: parsing {json.dumps(verbose)}: invalid syntax"
        )
    return answer(request, networks.inspect(engine, variable(request, "id"), text(request, "scope")))


async def post_create(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, await networks.create(engine, await body(request, NetworkCreate)), 201)


async def post_connect(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    await connections.connect(engine, variable(request, "id"), await body(request, NetworkConnect))
    return nothing(200)


async def post_disconnect(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    await connections.disconnect(engine, variable(request, "id"), await body(request, NetworkDisconnect))
    return nothing(200)


async def post_prune(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, await networks.prune(engine, filters(request)))


async def delete(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    await networks.remove(engine, variable(request, "id"))
    return nothing()


routes = [
    Route("GET", "/networks", get_list, live=True),
    Route("GET", "/networks/", get_list, live=True),
    Route("POST", "/networks/create", post_create),
    Route("POST", "/networks/prune", post_prune, since="1.25"),
    Route("POST", "/networks/{id}/connect", post_connect),
    Route("POST", "/networks/{id}/disconnect", post_disconnect),
    Route("GET", "/networks/{id}", get_inspect, live=True),
    Route("DELETE", "/networks/{id}", delete),
]
