"""The HTTP client of the registry package: one session, redirects followed with care, failures as `failures` words them."""

import asyncio
import contextlib
import ipaddress
import json
import ssl
import urllib.request
from collections.abc import AsyncIterable, AsyncIterator, Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from compat_engine import __version__
from compat_engine.images.registry.failures import Refused, network_failure, refusal
from compat_engine.images.registry.tls import Trust, context

_BUFFER = 256 << 10  # bytes read ahead of the consumer
_CONNECT = 30  # seconds to a connection
_SILENCE = 60  # seconds without a byte
_DIGESTION = 900  # the same after an upload, which some registries copy to where they keep it before they answer
_REDIRECTS = 10
_REDIRECTING = (301, 302, 303, 307, 308)
_JSON_LIMIT = 4 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Sent:
    """A request. query and form: pairs to add; body: its bytes, or an iterator of them with `length` when that is known."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    query: tuple[tuple[str, str], ...] = ()
    form: tuple[tuple[str, str], ...] = ()
    body: bytes | AsyncIterable[bytes] | None = None
    accepted: Container[int] = (200,)


class Http:
    """Made and closed on the event loop; the session comes with the first request."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    @contextlib.asynccontextmanager
    async def send(self, sent: Sent) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, its body unread. Raises Unreachable, also while the body is read inside; Refused for other statuses."""
        url = str(URL(sent.url, encoded=True).extend_query(list(sent.query))) if sent.query else sent.url
        try:
            async with self._follow(replace(sent, url=url)) as response:
                if response.status not in sent.accepted:
                    raise await refusal(response)
                yield response
        except (aiohttp.ClientError, ssl.SSLError, OSError, TimeoutError) as error:
            raise network_failure(error, sent.method, url) from error

    async def json(self, response: aiohttp.ClientResponse) -> dict[str, Any]:
        """The body as an object. Raises Refused when it is none."""
        try:
            raw = json.loads(await body(response, _JSON_LIMIT))
        except (ValueError, RecursionError):
            raw = None
        if not isinstance(raw, dict):
            raise Refused(response.status, "", f"{response.url}: the answer is no JSON object")
        return raw

    @contextlib.asynccontextmanager
    async def _follow(self, sent: Sent) -> AsyncIterator[aiohttp.ClientResponse]:
        """Redirects of GET and HEAD. Another host gets no credentials, and its certificate is checked as any stranger's."""
        url, headers, tls = sent.url, dict(sent.headers), sent.tls
        for _ in range(_REDIRECTS):
            async with self._request(replace(sent, url=url, headers=headers, tls=tls)) as response:
                target = response.headers.get("Location", "")
                if response.status not in _REDIRECTING or sent.method not in ("GET", "HEAD") or not target:
                    yield response
                    return
                following = URL(url, encoded=True).join(URL(target, encoded=True))
            if following.scheme not in ("http", "https"):
                raise Refused(response.status, "", f"redirected to {following}: unsupported protocol scheme")
            if following.origin() != URL(url, encoded=True).origin():
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
                tls = None
            url = str(following)
        raise Refused(310, "", f'{sent.method.capitalize()} "{url}": stopped after {_REDIRECTS} redirects')

    @contextlib.asynccontextmanager
    async def _request(self, sent: Sent) -> AsyncIterator[aiohttp.ClientResponse]:
        session = self._opened()
        tls = sent.tls or await asyncio.to_thread(context, Trust())  # another host than the endpoint's
        async with session.request(
            sent.method,
            URL(sent.url, encoded=True),
            headers=sent.headers,
            data=dict(sent.form) if sent.form else sent.body,
            ssl=tls if tls is not None else True,
            allow_redirects=False,
            proxy=_proxy(sent.url),
            timeout=_patience(_SILENCE if sent.body is None else _DIGESTION),
        ) as response:
            yield response

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                auto_decompress=False,
                read_bufsize=_BUFFER,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"compat-engine/{__version__}", "Accept-Encoding": "identity"},
            )
        return self._session


def _patience(silence: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=silence)


async def body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """All of a small body. Raises Refused when it is longer than `limit` bytes."""
    pieces, size = [], 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > limit:
            raise Refused(response.status, "", f"{response.url}: the answer is longer than {limit} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _proxy(url: str) -> str | None:
    """HTTP_PROXY, HTTPS_PROXY and NO_PROXY of the daemon's environment, as Go reads them: never for loopback."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host == "localhost" or _loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies_environment().get(parts.scheme)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
