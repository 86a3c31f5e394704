"""The server of one container: datagrams and connections in, answers out, on the daemon's own loop.

What the table knows is answered at once, from memory the second time. The rest is forwarded, each query in a task of its own,
and no more than MOST_FORWARDED at a time. Who asks sits in the container's own network namespace, as 127.0.0.11 is on its
loopback interface: no answer ever leaves it.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Final, cast

import dns.rcode

from compat_engine.network.dns import messages
from compat_engine.network.dns.forward import Forwarder
from compat_engine.network.dns.messages import LARGEST_TCP, Reply
from compat_engine.network.dns.table import Table

log = logging.getLogger(__name__)
MOST_FORWARDED: Final = 1024  # dockerd's
MOST_CONNECTIONS, IDLE = 128, 10.0  # TCP clients at a time; seconds between two queries of one
_REMEMBERED, _WORTH_REMEMBERING = 512, 512  # queries, bytes of one


class Resolver:
    """Answers to queries, however they came. Call `changed` when the table may have."""

    def __init__(self, table: Callable[[], Table], forwarder: Callable[[], Forwarder]) -> None:
        self._table, self._forwarder = table, forwarder
        self._current: Table | None = None
        self._replies: dict[tuple[bytes, bool], Reply] = {}
        self._turn = 0
        self._forwarded = 0

    def changed(self) -> None:
        self._current = None
        self._replies.clear()

    def local(self, wire: bytes, tcp: bool) -> bytes | None:
        """The answer, or the refusal of what is no question; None when it is to be forwarded."""
        key = (wire[2:], tcp)
        reply = self._replies.get(key)
        if not reply:
            query = messages.read(wire)
            if isinstance(query, dns.rcode.Rcode):
                return messages.refusal(wire, query)
            if not (reply := self._look_up(query, LARGEST_TCP if tcp else query.udp_limit)):
                return None
            if len(wire) <= _WORTH_REMEMBERING:
                if len(self._replies) >= _REMEMBERED:
                    self._replies.clear()
                self._replies[key] = reply
        self._turn += 1
        return reply.wire(wire[:2], self._turn)

    async def forward(self, wire: bytes, kind: socket.SocketKind) -> bytes:
        """Another server's answer, or SERVFAIL; REFUSED at once when too many wait already."""
        if self._forwarded >= MOST_FORWARDED:
            return messages.refusal(wire, dns.rcode.REFUSED)
        self._forwarded += 1
        try:
            return await self._forwarder().ask(wire, kind) or messages.refusal(wire, dns.rcode.SERVFAIL)
        finally:
            self._forwarded -= 1

    def _look_up(self, query: messages.Query, limit: int) -> Reply | None:
        if self._current is None:
            self._current = self._table()
        return messages.answer(query, self._current, limit)


class Server:
    """Serves a resolver on a UDP and a listening TCP socket, which it owns from `open` on."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._datagrams: asyncio.DatagramTransport | None = None
        self._listener: asyncio.Server | None = None

    async def open(self, udp: socket.socket, tcp: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)
        self._listener = await asyncio.start_server(self._connection, sock=tcp)

    def close(self) -> None:
        """Nothing of it, open queries included, is left in the namespace."""
        if self._datagrams:
            self._datagrams.abort()
        if self._listener:
            self._listener.close()
        for task in self._tasks:
            task.cancel()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= MOST_CONNECTIONS:
            writer.transport.abort()
        else:
            self.spawn(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One query after the other until the client leaves, or says nothing for too long, or nonsense."""
        self._connections += 1
        try:
            while messages.is_query(wire := await asyncio.wait_for(_read(reader), IDLE)):
                answer = self.resolver.local(wire, tcp=True) or await self.resolver.forward(wire, socket.SOCK_STREAM)
                writer.write(struct.pack("!H", len(answer)) + answer)
                await asyncio.wait_for(writer.drain(), IDLE)
        except (OSError, asyncio.IncompleteReadError) as error:
            log.debug("DNS over TCP: %r", error)
        finally:
            self._connections -= 1
            writer.close()


async def _read(reader: asyncio.StreamReader) -> bytes:
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    return await reader.readexactly(length)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
        if not messages.is_query(data):
            return
        answer = self._server.resolver.local(data, tcp=False)
        if answer is None:
            self._server.spawn(self._forward(data, client))
        else:
            self._transport.sendto(answer, client)

    async def _forward(self, data: bytes, client: tuple[str, int]) -> None:
        self._transport.sendto(await self._server.resolver.forward(data, socket.SOCK_DGRAM), client)

    def error_received(self, error: Exception) -> None:
        log.debug("DNS over UDP: a client left before its answer: %s", error)
