"""The engine itself: ping, version, info, events, disk usage; what belongs to registry and build says so until they are here."""

from aiohttp import web

from compat_engine.api import params
from compat_engine.api.route import QUERY, VERSION, Route
from compat_engine.api.streams import answer, json_line, start
from compat_engine.engine import system, transfers
from compat_engine.engine.parts import Engine
from compat_engine.errors import InvalidParameter, NotImplementedHere
from compat_engine.wire.system import AuthConfig

_PING_HEADERS = {
    "Builder-Version": "1",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Swarm": "inactive",
}
_OLD_EVENT_FIELDS = ("status", "id", "from")


async def ping(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    body = b"" if request.method == "HEAD" else b"OK"
    headers = {**_PING_HEADERS, "Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
    return web.Response(body=body, headers=headers)


async def get_version(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, system.version(engine))


async def get_info(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, await system.info(engine))


async def get_disk_usage(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, await system.disk_usage(engine, request[QUERY].getall("type", [])))


async def get_events(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    """The head goes out at once; with `until` the body ends there, else with the client."""
    since, until = params.timestamp(request, "since"), params.timestamp(request, "until")
    if since is not None and until is not None and since > until:
        words = (params.text(request, "since"), params.text(request, "until"))
        raise InvalidParameter(f"`since` time ({words[0]}) cannot be after `until` time ({words[1]})")
    content_type = _event_type(request)
    prefix = b"\x1e" if content_type == "application/json-seq" else b""
    dropped = _OLD_EVENT_FIELDS if request[VERSION] >= (1, 52) else ()
    with engine.events.subscribe(params.filters(request), since, until) as subscription:
        response = await start(request, content_type)
        async for event in subscription:
            shown = {name: value for name, value in event.items() if name not in dropped}
            await response.write(prefix + json_line(shown, b"\n"))
        await response.write_eof()
    return response


async def post_auth(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, await transfers.login(engine, await params.body(request, AuthConfig)))


async def post_build_prune(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    """There is no build cache yet, and `docker system prune` asks."""
    params.filters(request)
    return answer(request, {"CachesDeleted": None, "SpaceReclaimed": 0})


async def no_build(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    raise NotImplementedHere("building images is not supported by this engine yet")


def _event_type(request: web.BaseRequest) -> str:
    """1.52 lets the client choose how events are framed."""
    if request[VERSION] < (1, 52):
        return "application/json"
    accepted = request.headers.get("Accept", "")
    known = ("application/json-seq", "application/x-ndjson", "application/jsonl", "application/json")
    return next((word for word in known if word in accepted), "application/jsonl")


routes = [
    Route("GET", "/_ping", ping, live=True),
    Route("HEAD", "/_ping", ping, live=True),
    Route("GET", "/version", get_version, live=True),
    Route("GET", "/info", get_info, live=True),
    Route("GET", "/events", get_events, live=True),
    Route("GET", "/system/df", get_disk_usage, since="1.25"),
    Route("POST", "/auth", post_auth, live=True),
    Route("POST", "/build/prune", post_build_prune, since="1.31"),
    Route("POST", "/build/cancel", no_build),
    Route("POST", "/build", no_build),
    Route("POST", "/session", no_build, since="1.31"),
    Route("POST", "/grpc", no_build),
]
