"""Swarm and plugins, which this engine does not have: what a single dockerd outside of a swarm answers."""

from aiohttp import web

from compat_engine.api import params
from compat_engine.api.route import Route
from compat_engine.api.streams import answer
from compat_engine.engine.parts import Engine
from compat_engine.errors import NotFound, NotImplementedHere, Unavailable

_MESSAGE = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" '
    "to connect this node to swarm and try again."
)
_NOUNS = ("nodes", "services", "tasks", "secrets", "configs")


async def no_swarm(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    raise Unavailable(_MESSAGE)


async def no_swarm_to_leave(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    raise Unavailable("This node is not part of a swarm")


async def no_swarm_to_join(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    await params.json_body(request)
    raise NotImplementedHere("swarm mode is not supported by this engine")


async def no_plugins(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    params.filters(request, ("capability", "enabled"))
    return answer(request, [])


async def no_such_plugin(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    raise NotFound(f'plugin "{params.variable(request, "name")}" not found')


async def plugins_not_supported(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    raise NotImplementedHere("plugins are not supported by this engine")


def _noun(noun: str) -> list[Route]:
    found = [
        Route("GET", f"/{noun}", no_swarm),
        Route("POST", f"/{noun}/create", no_swarm),
        Route("GET", f"/{noun}/{{id}}/logs", no_swarm, since="1.29"),
        Route("GET", f"/{noun}/{{id}}", no_swarm),
        Route("POST", f"/{noun}/{{id}}/update", no_swarm),
        Route("DELETE", f"/{noun}/{{id}}", no_swarm),
    ]
    absent = {"nodes": ("create", "logs"), "tasks": ("create", "update", "DELETE"), "secrets": ("logs",), "configs": ("logs",)}
    return [route for route in found if not any(word in route.name for word in absent.get(noun, ()))]


routes = [
    Route("GET", "/swarm", no_swarm),
    Route("GET", "/swarm/unlockkey", no_swarm),
    Route("POST", "/swarm/init", no_swarm_to_join),
    Route("POST", "/swarm/join", no_swarm_to_join),
    Route("POST", "/swarm/leave", no_swarm_to_leave),
    Route("POST", "/swarm/update", no_swarm),
    Route("POST", "/swarm/unlock", no_swarm),
    *(route for noun in _NOUNS for route in _noun(noun)),
    Route("GET", "/plugins", no_plugins, since="1.25"),
    Route("GET", "/plugins/privileges", plugins_not_supported, since="1.25"),
    Route("GET", "/plugins/{name}/json", no_such_plugin, since="1.25"),
    Route("POST", "/plugins/pull", plugins_not_supported, since="1.25"),
    Route("POST", "/plugins/create", plugins_not_supported, since="1.25"),
    Route("POST", "/plugins/{name}/enable", no_such_plugin, since="1.25"),
    Route("POST", "/plugins/{name}/disable", no_such_plugin, since="1.25"),
    Route("POST", "/plugins/{name}/set", no_such_plugin, since="1.25"),
    Route("POST", "/plugins/{name}/push", no_such_plugin, since="1.25"),
    Route("POST", "/plugins/{name}/upgrade", no_such_plugin, since="1.26"),
    Route("DELETE", "/plugins/{name}", no_such_plugin, since="1.25"),
]
