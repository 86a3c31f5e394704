"""Queries about everybody else, passed on as they came to the servers outside."""

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import dns.rcode

from compat_engine.errors import EngineError
from compat_engine.network.dns.messages import LARGEST_TCP, is_answer, rcode_of

log = logging.getLogger(__name__)
SERVERS: Final = 3  # as many as resolv.conf(5) has
PATIENCE, ROUNDS = 2.0, 2  # seconds for one try; a stub resolver itself gives up, or asks again, after 5
_NEXT = (dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP)  # of a server that cannot help, where another may


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server outside. from_host: asked from the host's network namespace, as it is out of the container's reach."""

    address: str
    from_host: bool = False
    port: int = 53


Open = Callable[[Upstream, socket.SocketKind], Awaitable[socket.socket]]


class Forwarder:
    """open_socket gives a socket in the right namespace, not connected and not blocking; a new one for each try, so that the port
    an answer must come to cannot be guessed."""

    def __init__(self, upstreams: Sequence[Upstream], open_socket: Open) -> None:
        self._upstreams, self._open = tuple(upstreams[:SERVERS]), open_socket

    async def ask(self, query: bytes, kind: socket.SocketKind) -> bytes | None:
        """The first useful answer, by UDP or by TCP as the query came; else a useless one; None when there was none at all."""
        useless: bytes | None = None
        for _ in range(ROUNDS):
            for upstream in self._upstreams:
                answer = await self._try(upstream, query, kind)
                if answer and rcode_of(answer) not in _NEXT:
                    return answer
                useless = answer or useless
            if useless:
                break
        return useless

    async def _try(self, upstream: Upstream, query: bytes, kind: socket.SocketKind) -> bytes | None:
        try:
            with await self._open(upstream, kind) as sock:
                exchange = _by_udp if kind == socket.SOCK_DGRAM else _by_tcp
                return await asyncio.wait_for(exchange(sock, upstream, query), PATIENCE)
        except (OSError, EngineError, asyncio.IncompleteReadError) as error:
            log.debug("name server %s: %r", upstream.address, error)
            return None


async def _by_udp(sock: socket.socket, upstream: Upstream, query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    sock.connect((upstream.address, upstream.port))
    await loop.sock_sendall(sock, query)
    while True:
        answer = await loop.sock_recv(sock, LARGEST_TCP)
        if is_answer(query, answer):
            return answer


async def _by_tcp(sock: socket.socket, upstream: Upstream, query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (upstream.address, upstream.port))
    await loop.sock_sendall(sock, struct.pack("!H", len(query)) + query)
    (length,) = struct.unpack("!H", await _exactly(sock, 2))
    answer = await _exactly(sock, length)
    if not is_answer(query, answer):
        raise OSError("an answer to another question")
    return answer


async def _exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        part = await loop.sock_recv(sock, count - len(data))
        if not part:
            raise OSError("the connection ended too early")
        data += part
    return data
