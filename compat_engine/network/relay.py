"""What arrives by IPv6 at a published port and is not for nftables to translate: all of it where the container has IPv4 only, and
what is sent to ::1, from where the kernel lets nothing out. With --iptables=false, when nothing is translated, IPv4 is carried as
well; and where ports are published "via input", so that the host's own rules for what it receives decide about them. Unlike
everything else of a published port it rests while no daemon runs.
"""

import asyncio
import logging
import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from compat_engine.network.model import Binding, Endpoint
from compat_engine.network.relay_udp import UdpRelay

log = logging.getLogger(__name__)
Held = Iterable[tuple[Binding, socket.socket]]  # the sockets that reserve the ports


@dataclass(slots=True)
class _Relay:
    """One endpoint's."""

    servers: list[asyncio.Server | UdpRelay] = field(default_factory=list)
    clients: "set[_Client]" = field(default_factory=set)

    def close(self) -> None:
        for server in self.servers:
            server.close()
        # A namespace that died says no goodbye: without this, idle connections would stay for ever.
        for client in list(self.clients):
            client.abort()


class Relays:
    def __init__(self, families: Collection[int] = (socket.AF_INET6,)) -> None:
        self._families = families
        self._relays: dict[str, _Relay] = {}  # by endpoint key

    async def open(self, endpoint: Endpoint, held: Held) -> None:
        """Listen on what reserves the endpoint's TCP and UDP ports over these families."""
        for binding, reserved in held:
            if not endpoint.relayed and reserved.family not in self._families:
                continue
            relay = self._relays.setdefault(endpoint.key, _Relay())
            target = (_target(endpoint, reserved.family), binding.container_port)
            if binding.proto == "udp":
                relay.servers.append(UdpRelay(reserved.dup(), target))
            elif binding.proto == "tcp":
                accept = partial(_Client, target, relay.clients)
                # Connections inherit it: in TIME_WAIT they would keep the next daemon from the port for a minute otherwise.
                reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                relay.servers.append(await asyncio.get_running_loop().create_server(accept, sock=reserved.dup()))

    def close(self, endpoint: Endpoint) -> None:
        if relay := self._relays.pop(endpoint.key, None):
            relay.close()

    def close_all(self) -> None:
        for relay in self._relays.values():
            relay.close()
        self._relays.clear()


def _target(endpoint: Endpoint, family: int) -> str:
    """The container's address of that family; the other one where it has no such."""
    own = (endpoint.ipv6, endpoint.ip) if family == socket.AF_INET6 else (endpoint.ip, endpoint.ipv6)
    return own[0] or own[1]


class _Half(asyncio.Protocol):
    """One side: what it hears the other says, at the pace of the slower, each direction ending on its own."""

    transport: asyncio.Transport
    other: "_Half"
    ended = False  # it has nothing more to say

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self.other.ended:
            self.other.transport.close()
            return False
        self.other.transport.write_eof()
        return True  # the other direction goes on

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        # A side that was cut off cuts off the other; one that ended in peace lets it say the rest.
        if error or not self.ended:
            self.other.transport.abort()
        else:
            self.other.transport.close()


class _Client(_Half):
    """The side that came in; it is not read before the container has answered the call."""

    def __init__(self, target: tuple[str, int], all: "set[_Client]") -> None:
        self._target, self._all = target, all
        self._dialling: asyncio.Task[None] | None = None
        self.other = _Half()
        self.other.other = self

    def abort(self) -> None:
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._all.add(self)
        loop = asyncio.get_running_loop()
        loop.call_soon(self.transport.pause_reading)  # until Python 3.11.3 reading begins after this, paused or not
        self._dialling = loop.create_task(self._dial())

    async def _dial(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.other, *self._target)
        except OSError as error:
            log.debug("relay to %s port %d: %s", *self._target, error)
            self.transport.abort()
            return
        if self.transport.is_closing():
            self.other.transport.abort()
        else:
            self.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._all.discard(self)
        if hasattr(self.other, "transport"):  # else it left while the call was being made: _dial sees it
            super().connection_lost(error)
