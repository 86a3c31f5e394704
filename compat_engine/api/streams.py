"""Bodies that flow: JSON answers, progress and event lines, raw frames, and errors once the headers are out."""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final

import msgspec
from aiohttp import web

from compat_engine.api.route import HEADERS, ROUTE, VERSION
from compat_engine.api.versions import downgrade, has_downgrades
from compat_engine.errors import EngineError

log = logging.getLogger(__name__)

RAW: Final = "application/vnd.docker.raw-stream"
MULTIPLEXED: Final = "application/vnd.docker.multiplexed-stream"
STDOUT: Final = 1
STDERR: Final = 2


def answer(request: web.BaseRequest, data: Any, status: int = 200) -> web.Response:
    """A JSON answer: `data` is plain JSON values, or JSON already encoded."""
    return web.Response(status=status, body=rendered(request, data), content_type="application/json")


def rendered(request: web.BaseRequest, data: Any) -> bytes:
    """`data` in the request's version."""
    if has_downgrades(request[ROUTE], request[VERSION]):
        data = downgrade(request[ROUTE], request[VERSION], msgspec.json.decode(data) if isinstance(data, bytes) else data)
    return (data if isinstance(data, bytes) else encode(data)) + b"\n"


def nothing(status: int = 204) -> web.Response:
    return web.Response(status=status)


def error_body(message: str) -> bytes:
    return encode({"message": message}) + b"\n"


def stream_type(request: web.BaseRequest, tty: bool) -> str:
    """Content type of logs and of an upgraded connection."""
    return MULTIPLEXED if not tty and request[VERSION] >= (1, 42) else RAW


async def send(request: web.BaseRequest, response: web.Response) -> None:
    """At once, for a handler that has more to do."""
    response.headers.update(request[HEADERS])
    await response.prepare(request)
    await response.write_eof()


async def start(request: web.BaseRequest, content_type: str, headers: Mapping[str, str] | None = None) -> web.StreamResponse:
    """The head, sent at once; the body follows by `write`."""
    response = web.StreamResponse(headers={"Content-Type": content_type, **(headers or {})})
    response.headers.update(request[HEADERS])
    if request.version >= (1, 1):
        response.enable_chunked_encoding()
    await response.prepare(request)
    return response


async def chunks(
    request: web.BaseRequest, source: AsyncIterator[bytes], content_type: str, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Send what `source` yields as it comes; one chunk that is all of it goes in a piece with the head, for which a client wakes
    once. An error before anything is sent is an ordinary one."""
    async with _closing(source):
        first = await anext(source, None)
        second = None if first is None else await anext(source, None)
        if first is None or second is None:
            return _whole(request, first or b"", {"Content-Type": content_type, **(headers or {})})
        response = await start(request, content_type, headers)
        await response.write(first)
        await response.write(second)
        await _rest(request, response, source)
        await response.write_eof()
    return response


def _whole(request: web.BaseRequest, body: bytes, headers: Mapping[str, str]) -> web.Response:
    response = web.Response(body=body, headers=headers)
    if request.version >= (1, 1):
        response.enable_chunked_encoding()  # as whoever streams: clients see no length either way
    return response


async def frames(request: web.BaseRequest, source: AsyncIterator[bytes], content_type: str) -> web.StreamResponse:
    """As `chunks`, but the head goes out before the first frame exists (logs -f of a silent container)."""
    async with _closing(source):
        response = await start(request, content_type)
        await _rest(request, response, source)
        await response.write_eof()
    return response


async def progress(
    request: web.BaseRequest, source: AsyncIterator[Mapping[str, Any]], always_in_band: bool = False
) -> web.StreamResponse:
    """JSON lines of a pull, load, import or build. An error before the first is an ordinary one, later it travels in-band.

    always_in_band: the first error too, as clients of `load` expect it.
    """
    async with _closing(source):
        try:
            first = await anext(source, None)
        except EngineError as error:
            if not always_in_band:
                raise
            first = _failed(error)
        response = await start(request, "application/json")
        try:
            if first is not None:
                await response.write(json_line(first))
            async for item in source:
                await response.write(json_line(item))
        except ConnectionError:  # nobody is there to be told
            raise
        except Exception as error:
            if not isinstance(error, EngineError):
                log.exception("%s %s failed", request.method, request.path)
            await response.write(json_line(_failed(error)))
        await response.write_eof()
    return response


def _failed(error: Exception) -> dict[str, Any]:
    return {"errorDetail": {"message": str(error)}, "error": str(error)}


def json_line(item: Mapping[str, Any], end: bytes = b"\r\n") -> bytes:
    return encode(item) + end


def encode(data: Any) -> bytes:
    """JSON. Names from the host's filesystem may hold bytes that are no text: they become U+FFFD, as in Go."""
    try:
        return msgspec.json.encode(data)
    except UnicodeEncodeError:
        plain = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def frame(stream: int, data: bytes) -> bytes:
    """stdcopy: stream 1 stdout, 2 stderr; 3 zero bytes; length, big-endian; data."""
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


class Unframe:
    """Takes the stdcopy headers out again, wherever the chunks are cut."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        out = []
        while data:
            if self._left:
                out.append(data[: self._left])
                taken = len(out[-1])
                self._left -= taken
            else:
                taken = 8 - len(self._head)
                self._head += data[:taken]
                if len(self._head) == 8:
                    self._left, self._head = int.from_bytes(self._head[4:], "big"), b""
            data = data[taken:]
        return b"".join(out)


async def _rest(request: web.BaseRequest, response: web.StreamResponse, source: AsyncIterator[bytes]) -> None:
    """Too late for a status: an error cuts the chunked body short, which every client notices."""
    try:
        async for chunk in source:
            await response.write(chunk)
    except ConnectionError:
        raise
    except Exception as error:
        log.warning("%s broke off: %s", request.path, error)
        raise ConnectionAbortedError(str(error)) from error


def _closing(source: AsyncIterator[Any]) -> "aclosing[Any]":
    return aclosing(source if isinstance(source, AsyncGenerator) else _generator(source))


async def _generator(source: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    async for item in source:
        yield item
