"""Containers' files as archives: cp, export, diff, commit."""

import base64
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from compat_engine.api.params import boolean, decode, text, variable
from compat_engine.api.route import QUERY, Route
from compat_engine.api.streams import answer, chunks, encode
from compat_engine.engine.containers import changes, commit, copy, export
from compat_engine.engine.parts import Engine
from compat_engine.wire.container import Config

_STAT = "X-Docker-Container-Path-Stat"
_TAR = "application/x-tar"


async def head_archive(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    found = await copy.stat(engine, variable(request, "id"), text(request, "path"))
    return web.Response(headers={_STAT: _encoded(found)})


async def get_archive(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    encoding = negotiated(request.headers.get("Accept-Encoding", ""))
    archive = await copy.read(engine, variable(request, "id"), text(request, "path"), encoding)
    headers = {_STAT: _encoded(archive.stat), **({"Content-Encoding": encoding} if encoding else {})}
    return await chunks(request, archive.pieces, _TAR, headers)


async def put_archive(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    keep_kind, as_user = boolean(request, "noOverwriteDirNonDir"), boolean(request, "copyUIDGID")
    await copy.write(engine, variable(request, "id"), text(request, "path"), _body(request), keep_kind, as_user)
    return web.Response()


async def get_export(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return await chunks(request, export.export(engine, variable(request, "id")), "application/octet-stream")


async def get_changes(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    return answer(request, await changes.changes(engine, variable(request, "id")))


async def post_commit(request: web.BaseRequest, engine: Engine) -> web.StreamResponse:
    data = await request.read()
    options = commit.CommitOptions(
        repository=text(request, "repo"),
        tag=text(request, "tag"),
        author=text(request, "author"),
        comment=text(request, "comment"),
        pause=boolean(request, "pause", default=True),
        changes=tuple(request[QUERY].getall("changes", [])),
        config=Config.parse(decode(data)) if data.strip() not in (b"", b"null") else None,
    )
    return answer(request, {"Id": await commit.commit(engine, text(request, "container"), options)}, 201)


def negotiated(accepted: str) -> str:
    """gzip or deflate if the client takes it, and rather than the plain bytes; the first of equals (RFC 9110, 12.5.3)."""
    weights = dict(map(_weight, filter(None, accepted.lower().split(","))))
    best = max(("gzip", "deflate"), key=lambda name: weights.get(name, weights.get("*", 0.0)))
    weight = weights.get(best, weights.get("*", 0.0))
    return best if weight and weight >= weights.get("identity", 0.0) else ""


def _weight(item: str) -> tuple[str, float]:
    name, _, parameter = item.partition(";")
    try:
        return name.strip(), float(parameter.strip().removeprefix("q=") or 1)
    except ValueError:
        return name.strip(), 0.0


def _encoded(stat: dict[str, Any]) -> str:
    return base64.b64encode(encode(stat)).decode()


async def _body(request: web.BaseRequest) -> AsyncIterator[bytes]:
    async for chunk in request.content.iter_any():
        yield chunk


routes = [
    Route("GET", "/containers/{id}/changes", get_changes),
    Route("GET", "/containers/{id}/export", get_export, live=True),
    Route("HEAD", "/containers/{id}/archive", head_archive),
    Route("GET", "/containers/{id}/archive", get_archive, live=True),
    Route("PUT", "/containers/{id}/archive", put_archive, live=True),
    Route("POST", "/commit", post_commit),
]
