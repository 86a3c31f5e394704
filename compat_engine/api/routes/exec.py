"""/containers/{id}/exec and /exec: further processes in running containers."""

from aiohttp import web

from compat_engine.api import params
from compat_engine.api.hijack import hijack
from compat_engine.api.route import Route
from compat_engine.api.streams import answer, nothing
from compat_engine.engine import execs
from compat_engine.engine.parts import Engine
from compat_engine.errors import InvalidParameter
from compat_engine.wire.exec import ExecCreate, ExecStart


async def post_create(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    body = await params.body(request, ExecCreate)
    if not body.Cmd:
        raise InvalidParameter("No exec command specified")
    return answer(request, {"Id": await execs.create(engine, params.variable(request, "id"), body)}, 201)


async def post_start(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    body = await params.body(request, ExecStart)
    session = await execs.open(engine, params.variable(request, "id"), body)
    if body.Detach:
        await session.run_detached()
        return nothing(200)
    return await hijack(request, session)


async def post_resize(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    rows, columns = params.size(request)
    await execs.resize(engine, params.variable(request, "id"), rows, columns)
    return nothing(200)


async def get_inspect(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, execs.inspect(engine, params.variable(request, "id")))


routes = [
    Route("POST", "/containers/{id}/exec", post_create),
    Route("POST", "/exec/{id}/start", post_start),
    Route("POST", "/exec/{id}/resize", post_resize),
    Route("GET", "/exec/{id}/json", get_inspect, live=True),
]
