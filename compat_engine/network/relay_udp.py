"""Datagrams that arrive at a published port and that nftables does not translate, carried to the container and back.

Each client has a socket towards the container, so that answers find their way; after a silence it is closed.
"""

import asyncio
import logging
import socket
from functools import partial
from typing import Any

log = logging.getLogger(__name__)
IDLE = 90.0  # seconds
MOST = 1000  # clients of one port; the longest silent one makes room
_DATAGRAM = 1 << 16


class UdpRelay:
    """From a bound socket, which it closes in the end, to `target`. Needs a running loop."""

    def __init__(self, listening: socket.socket, target: tuple[str, int], idle: float = IDLE) -> None:
        self._listening, self._target, self._idle = listening, target, idle
        self._flows: dict[Any, tuple[socket.socket, float]] = {}  # by client, the longest silent first
        self._loop = asyncio.get_running_loop()
        listening.setblocking(False)
        self._loop.add_reader(listening, self._asked)
        self._expiry = self._loop.call_later(idle, self._expire)

    def close(self) -> None:
        self._expiry.cancel()
        for client in list(self._flows):
            self._end(client)
        self._loop.remove_reader(self._listening)
        self._listening.close()

    def _asked(self) -> None:
        try:
            data, client = self._listening.recvfrom(_DATAGRAM)
            self._flow(client).send(data)
        except OSError as error:  # not there any more, or the container does not listen: a datagram is lost
            log.debug("relay to %s port %d: %s", *self._target, error)

    def _answered(self, client: Any, flow: socket.socket) -> None:
        try:
            self._listening.sendto(flow.recv(_DATAGRAM), client)
            self._flow(client)
        except OSError as error:
            log.debug("relay from %s port %d: %s", *self._target, error)

    def _flow(self, client: Any) -> socket.socket:
        """The client's socket, now the least silent."""
        found = self._flows.pop(client, None)
        flow = found[0] if found else self._open(client)
        self._flows[client] = flow, self._loop.time()
        return flow

    def _open(self, client: Any) -> socket.socket:
        if len(self._flows) >= MOST:
            self._end(next(iter(self._flows)))
        family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        flow = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            flow.connect(self._target)
        except OSError:
            flow.close()
            raise
        self._loop.add_reader(flow, partial(self._answered, client, flow))
        return flow

    def _end(self, client: Any) -> None:
        flow, _ = self._flows.pop(client)
        self._loop.remove_reader(flow)
        flow.close()

    def _expire(self) -> None:
        old = self._loop.time() - self._idle
        for client in [client for client, (_, last) in self._flows.items() if last <= old]:
            self._end(client)
        self._expiry = self._loop.call_later(self._idle, self._expire)
