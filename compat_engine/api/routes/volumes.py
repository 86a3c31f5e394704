"""/volumes: the local driver's."""

from aiohttp import web

from compat_engine.api.params import body, boolean, filters, variable
from compat_engine.api.route import Route
from compat_engine.api.streams import answer, nothing
from compat_engine.engine import volumes
from compat_engine.engine.parts import Engine
from compat_engine.errors import Unavailable
from compat_engine.wire.volume import VolumeCreate

_NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" '
    "to connect this node to swarm and try again."
)


async def create(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    asked = await body(request, VolumeCreate)
    if asked.ClusterVolumeSpec is not None:
        raise Unavailable(_NO_SWARM)
    return answer(request, await volumes.create(engine, asked), 201)


async def list_volumes(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, volumes.list_volumes(engine, filters(request)))


async def inspect(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, volumes.inspect(engine, variable(request, "name")))


async def update(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    """Cluster volumes only, which need swarm."""
    raise Unavailable(_NO_SWARM)


async def remove(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    await volumes.remove(engine, variable(request, "name"), boolean(request, "force"))
    return nothing()


async def prune(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, await volumes.prune(engine, filters(request)))


routes = [
    Route("GET", "/volumes", list_volumes, live=True),
    Route("POST", "/volumes/create", create),
    Route("POST", "/volumes/prune", prune, since="1.25"),
    Route("GET", "/volumes/{name}", inspect, live=True),
    Route("PUT", "/volumes/{name}", update, since="1.42"),
    Route("DELETE", "/volumes/{name}", remove),
]
