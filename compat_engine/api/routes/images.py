"""/images, and what registries know of them."""

import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from compat_engine.api.params import boolean, decode, filters, integer, text, variable
from compat_engine.api.route import QUERY, Route
from compat_engine.api.streams import answer, chunks, nothing, progress
from compat_engine.engine import images, transfers
from compat_engine.engine.parts import Engine
from compat_engine.engine.transfers import Credentials
from compat_engine.errors import InvalidParameter
from compat_engine.wire.system import AuthConfig

_TAR = "application/x-tar"
_AUTH = "X-Registry-Auth"


async def list_images(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    chosen, everything, shared = filters(request), boolean(request, "all"), boolean(request, "shared-size")
    return answer(request, images.list_images(engine, chosen, everything, shared, boolean(request, "manifests")))


async def inspect(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, images.inspect(engine, variable(request, "name"), _platform(request), boolean(request, "manifests")))


async def history(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, images.history(engine, variable(request, "name"), _platform(request)))


async def tag(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    await images.tag(engine, variable(request, "name"), text(request, "repo"), text(request, "tag"))
    return nothing(201)


async def remove(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    name, force, noprune = variable(request, "name"), boolean(request, "force"), boolean(request, "noprune")
    if len(request[QUERY].getall("platforms", [])) > 1:
        raise InvalidParameter("multiple platforms are not supported")
    return answer(request, await images.remove(engine, name, force, noprune, _platform(request, "platforms")))


async def prune(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, await images.prune(engine, filters(request)))


async def load(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    system, architecture, variant = (*_platform(request).split("/"), "", "")[:3]
    wanted = (system, architecture, variant) if system else None
    steps = images.load(engine, _body(request), boolean(request, "quiet", True), wanted)
    return await progress(request, steps, always_in_band=True)


async def save_one(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return await chunks(request, images.save(engine, [variable(request, "name")], _platform(request)), _TAR)


async def save_many(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return await chunks(request, images.save(engine, request[QUERY].getall("names", []), _platform(request)), _TAR)


async def create(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    """Import with fromSrc, pull with fromImage."""
    source = text(request, "fromSrc")
    if source and not text(request, "fromImage"):
        name = images.checked_name(text(request, "repo"), text(request, "tag"))
        lines, message = tuple(request[QUERY].getall("changes", [])), text(request, "message")
        steps = images.import_(engine, source, _body(request), name, lines, message, text(request, "platform"))
        return await progress(request, steps)
    image, tag, platform = text(request, "fromImage"), text(request, "tag"), text(request, "platform")
    return await progress(request, transfers.pull(engine, image, tag, platform, _credentials(request)))


async def push(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    credentials = _credentials(request) if request.headers.get(_AUTH) else await _credentials_in_body(request)
    name, tag = variable(request, "name"), text(request, "tag")
    return await progress(request, transfers.push(engine, name, tag, _platform(request), credentials))


async def search(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    chosen, limit = filters(request), integer(request, "limit")
    return answer(request, await transfers.search(engine, text(request, "term"), limit, chosen, _credentials(request)))


async def distribution(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, await transfers.inspect(engine, variable(request, "name"), _credentials(request)))


def _credentials(request: web.BaseRequest) -> Credentials:
    return transfers.credentials(request.headers.get(_AUTH, ""))


async def _credentials_in_body(request: web.BaseRequest) -> Credentials:
    """Where clients of old put them, and docker-py an empty object. Raises InvalidParameter when there is no body either."""
    data = await request.read()
    if not data:
        raise InvalidParameter("bad parameters and missing X-Registry-Auth: invalid X-Registry-Auth header: EOF")
    return transfers.credentials_of(AuthConfig.parse(decode(data)))


async def _body(request: web.BaseRequest) -> AsyncIterator[bytes]:
    async for chunk in request.content.iter_any():
        yield chunk


def _platform(request: web.BaseRequest, key: str = "platform") -> str:
    """ "os/arch[/variant]" from the JSON these routes take; "" when absent. Raises InvalidParameter."""
    word = text(request, key)
    if not word:
        return ""
    try:
        raw: Any = json.loads(word)
        parts = [raw.get("os") or "", raw.get("architecture") or "", raw.get("variant") or ""]
        return "/".join(parts).rstrip("/")
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise InvalidParameter("failed to parse platform: must be a JSON object") from None


routes = [
    Route("GET", "/images/json", list_images, live=True),
    Route("GET", "/images/get", save_many, live=True),
    Route("GET", "/images/search", search, live=True),
    Route("POST", "/images/create", create, live=True),
    Route("POST", "/images/load", load, live=True),
    Route("POST", "/images/prune", prune, since="1.25"),
    Route("GET", "/images/{name}/json", inspect, live=True),
    Route("GET", "/images/{name}/history", history, live=True),
    Route("GET", "/images/{name}/get", save_one, live=True),
    Route("POST", "/images/{name}/push", push, live=True),
    Route("POST", "/images/{name}/tag", tag),
    Route("DELETE", "/images/{name}", remove),
    Route("GET", "/distribution/{name}/json", distribution, since="1.30", live=True),
]
