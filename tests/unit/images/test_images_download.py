"""What `docker import URL` fetches: how far it is, and servers that break off or talk nonsense."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from compat_engine.errors import EngineError, Internal, InvalidParameter
from compat_engine.images.import_ import download
from tests.support.fake_registry import FakeRegistry, cut, fake_registry

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
async def server() -> AsyncIterator[FakeRegistry]:
    async with fake_registry() as registry:

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.path == "/whole":
                return web.Response(body=CONTENT)
            if request.path == "/cut":
                return await cut(request, CONTENT, 1000)
            response = web.StreamResponse()
            response.enable_chunked_encoding()
            await response.prepare(request)
            await response.write(CONTENT)
            if request.path == "/cut-chunks":
                assert request.transport is not None
                request.transport.close()
            return response

        registry.on_any = answer
        yield registry


async def fetched(url: str, said: list[dict[str, Any]]) -> bytes:
    return b"".join([piece async for piece in await download(url, said.append)])


def line(current: int, total: int, progress: str) -> dict[str, Any]:
    return {"status": "Importing", "progressDetail": {"current": current, "total": total}, "progress": progress}


async def test_how_far_it_is(server: FakeRegistry) -> None:
    said: list[dict[str, Any]] = []
    assert await fetched(f"{server.host}/whole", said) == CONTENT
    assert said[-1] == line(len(CONTENT), len(CONTENT), f"[{'=' * 50}>]  1.024MB/1.024MB")
    assert len([one for one in said if one["progressDetail"]["current"] == len(CONTENT)]) == 1
    assert await fetched(f"{server.host}/chunks", said) == CONTENT
    assert said[-1] == line(len(CONTENT), -1, " 1.024MB")


@pytest.mark.parametrize("path", ["cut", "cut-chunks"])
async def test_what_breaks_off_is_not_taken_for_whole(server: FakeRegistry, path: str) -> None:
    with pytest.raises(Internal, match=r"unexpected EOF|IncompleteRead"):
        await fetched(f"{server.host}/{path}", [])


@pytest.mark.parametrize(
    ("url", "kind", "text"),
    [
        ("http://a b/", InvalidParameter, 'parse "http://a b/": '),
        ("http://[::1/x", InvalidParameter, 'parse "http://\\[::1/x": '),
        ("ftp://x/y", Internal, 'Get "ftp://x/y": unsupported protocol scheme "ftp"'),
    ],
)
async def test_no_url(url: str, kind: type[EngineError], text: str) -> None:
    with pytest.raises(kind, match=text):
        await fetched(url, [])


async def test_no_http() -> None:
    async def junk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\0\1\2 junk\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(junk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Internal, match=f'Get "http://127.0.0.1:{port}/": '):
            await fetched(f"127.0.0.1:{port}/", [])
