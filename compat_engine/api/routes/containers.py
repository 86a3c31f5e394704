"""/containers: parse, call one use case, render."""

from aiohttp import web

from compat_engine.api import params
from compat_engine.api.hijack import check_websocket, hijack, hijack_websocket
from compat_engine.api.route import VERSION, Route
from compat_engine.api.streams import answer, chunks, frames, nothing, rendered, send, start, stream_type
from compat_engine.engine.containers import (
    attach,
    create,
    inspect,
    kill,
    list,
    logs,
    pause,
    prune,
    remove,
    rename,
    resize,
    restart,
    stats,
    stop,
    top,
    update,
    wait,
)
from compat_engine.engine.containers import start as start_
from compat_engine.engine.containers.logs import LogQuery
from compat_engine.engine.detachkeys import DetachKeys
from compat_engine.engine.parts import Engine
from compat_engine.engine.registry import Ended
from compat_engine.errors import InvalidParameter, NotImplementedHere
from compat_engine.wire.container import Config, CreateRequest, UpdateRequest

_CONFIG_KEYS = frozenset(name.lower() for name in Config.model_fields)
_OLD_START_BODY = 7  # bytes; what clients of 1.24 sent where a body was no longer wanted, as {} or null


async def post_create(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    raw = await params.json_body(request, required=True)
    if raw is None or (isinstance(raw, dict) and not any(key.lower() in _CONFIG_KEYS for key in raw)):
        raise InvalidParameter("config cannot be empty in order to create a container")
    body = CreateRequest.parse(raw)
    id, warnings = await create.create(engine, body, params.text(request, "name"), params.text(request, "platform"))
    response = answer(request, {"Id": id, "Warnings": warnings}, 201)
    await send(request, response)
    create.expect_start(engine, id)
    return response


async def get_list(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    options = list.ListOptions(
        all=params.boolean(request, "all"),
        limit=params.integer(request, "limit") or 0,
        size=params.boolean(request, "size"),
        filters=params.filters(request),
    )
    return answer(request, await list.list(engine, options))


async def get_inspect(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, await inspect.inspect(engine, params.variable(request, "id"), params.boolean(request, "size")))


async def get_top(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    arguments = params.text(request, "ps_args") or "-ef"
    return answer(request, await top.top(engine, params.variable(request, "id"), arguments))


async def get_logs(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    query = LogQuery(
        stdout=params.boolean(request, "stdout"),
        stderr=params.boolean(request, "stderr"),
        since_ns=params.timestamp(request, "since") or 0,
        until_ns=params.timestamp(request, "until") or 0,
        tail=_tail(params.text(request, "tail")),
        timestamps=params.boolean(request, "timestamps"),
        details=params.boolean(request, "details"),
        follow=params.boolean(request, "follow"),
    )
    found = await logs.open(engine, params.variable(request, "id"), query)
    stream = frames if query.follow else chunks
    return await stream(request, found.frames, stream_type(request, found.tty))


async def get_stats(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    stream = params.boolean(request, "stream", default=True)
    one_shot = params.boolean(request, "one-shot")
    if stream and one_shot:
        raise InvalidParameter("cannot have stream=true and one-shot=true")
    samples = await stats.open(engine, params.variable(request, "id"), stream, one_shot)
    return await frames(request, (rendered(request, sample) async for sample in samples), "application/json")


async def post_update(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    body = await params.body(request, UpdateRequest)
    warnings = await update.update(engine, params.variable(request, "id"), body)
    return answer(request, {"Warnings": warnings or None})


async def post_start(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    if len(await request.read()) > _OLD_START_BODY:
        raise InvalidParameter(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
        )
    if params.text(request, "checkpoint"):
        raise NotImplementedHere("checkpoints are not supported by this engine")
    DetachKeys(params.text(request, "detachKeys"))
    await start_.start(engine, params.variable(request, "id"))
    return nothing()


async def post_stop(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    timeout, signal = params.integer(request, "t"), params.text(request, "signal")
    await stop.stop(engine, params.variable(request, "id"), timeout, signal)
    return nothing()


async def post_restart(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    timeout, signal = params.integer(request, "t"), params.text(request, "signal")
    await restart.restart(engine, params.variable(request, "id"), timeout, signal)
    return nothing()


async def post_kill(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    await kill.kill(engine, params.variable(request, "id"), params.text(request, "signal"))
    return nothing()


async def post_wait(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    """The head goes out at once: clients send `start` only when they have seen it (1.30)."""
    waiter = wait.open(engine, params.variable(request, "id"), params.text(request, "condition"))
    if request[VERSION] < (1, 30):
        return answer(request, _waited(await waiter.result()))
    response = await start(request, "application/json")
    await response.write(rendered(request, _waited(await waiter.result())))
    await response.write_eof()
    return response


async def post_rename(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    await rename.rename(engine, params.variable(request, "id"), params.text(request, "name"))
    return nothing()


async def post_pause(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    await pause.pause(engine, params.variable(request, "id"))
    return nothing()


async def post_unpause(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    await pause.unpause(engine, params.variable(request, "id"))
    return nothing()


async def post_attach(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return await hijack(request, await attach.open(engine, params.variable(request, "id"), _attach_options(request)))


async def get_attach_ws(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    check_websocket(request)
    return await hijack_websocket(request, await attach.open(engine, params.variable(request, "id"), _attach_options(request)))


async def post_resize(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    rows, columns = params.size(request)
    await resize.resize(engine, params.variable(request, "id"), rows, columns)
    return nothing(200)


async def delete(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    force, volumes, link = (params.boolean(request, name) for name in ("force", "v", "link"))
    await remove.remove(engine, params.variable(request, "id"), force, volumes, link)
    return nothing()


async def post_prune(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, await prune.prune(engine, params.filters(request)))


def _tail(word: str) -> int:
    """-1 (all) for what is not a number, as in dockerd."""
    return int(word) if word.isdecimal() and len(word) < 10 else -1


def _attach_options(request: web.BaseRequest) -> attach.AttachOptions:
    stream, stdin, stdout, stderr, logs = (
        params.boolean(request, name) for name in ("stream", "stdin", "stdout", "stderr", "logs")
    )
    return attach.AttachOptions(stream, stdin, stdout, stderr, logs, params.text(request, "detachKeys"))


def _waited(ended: Ended) -> dict[str, object]:
    error = {"Error": {"Message": ended.error}} if ended.error else {}
    return {"StatusCode": ended.code, **error}


routes = [
    Route("POST", "/containers/create", post_create),
    Route("POST", "/containers/prune", post_prune, since="1.25"),
    Route("GET", "/containers/json", get_list, live=True),
    Route("GET", "/containers/{id}/json", get_inspect, live=True),
    Route("GET", "/containers/{id}/top", get_top),
    Route("GET", "/containers/{id}/logs", get_logs, live=True),
    Route("GET", "/containers/{id}/attach/ws", get_attach_ws),
    Route("GET", "/containers/{id}/stats", get_stats, live=True),
    Route("POST", "/containers/{id}/start", post_start),
    Route("POST", "/containers/{id}/stop", post_stop),
    Route("POST", "/containers/{id}/restart", post_restart),
    Route("POST", "/containers/{id}/kill", post_kill),
    Route("POST", "/containers/{id}/wait", post_wait, live=True),
    Route("POST", "/containers/{id}/rename", post_rename),
    Route("POST", "/containers/{id}/pause", post_pause),
    Route("POST", "/containers/{id}/unpause", post_unpause),
    Route("POST", "/containers/{id}/attach", post_attach),
    Route("POST", "/containers/{id}/resize", post_resize),
    Route("POST", "/containers/{id}/update", post_update),
    Route("DELETE", "/containers/{id}", delete),
]
