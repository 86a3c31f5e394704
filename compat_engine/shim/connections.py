"""The daemons that listen: the control socket of the one that started us, and whoever connects to shim.sock later."""

import os
from collections.abc import Callable

from compat_engine.shim import channel
from compat_engine.shim.loop import IN, Loop

Receive = Callable[[channel.Socket, channel.Message, list[int]], None]


class Connections:
    """received: called with each message; descriptors it leaves in the list are closed. lost: called at a connection's end."""

    def __init__(
        self, loop: Loop, received: Receive, lost: Callable[[channel.Socket], None], report: Callable[[str], None]
    ) -> None:
        self._loop, self._received, self._lost, self._report = loop, received, lost, report
        self._open: list[channel.Socket] = []

    def add(self, sock: channel.Socket) -> None:
        sock.setblocking(False)
        self._open.append(sock)
        self._loop.add(sock.fileno(), IN, lambda events: self._receive(sock))

    def listen(self, listener: channel.Socket) -> None:
        self._loop.add(listener.fileno(), IN, lambda events: self._accept(listener))

    def send(self, sock: channel.Socket, message: channel.Message) -> None:
        """A daemon that does not read is dropped: it will connect again and ask for the state."""
        try:
            channel.send(sock, message)
        except OSError:
            self._drop(sock)

    def broadcast(self, message: channel.Message) -> None:
        for sock in tuple(self._open):
            self.send(sock, message)

    def _accept(self, listener: channel.Socket) -> None:
        try:
            sock = channel.accept(listener)
        except BlockingIOError:
            return
        self.add(sock)

    def _receive(self, sock: channel.Socket) -> None:
        try:
            received = channel.receive(sock)
        except BlockingIOError:
            return
        except ValueError as error:
            self._report(f"a message that is none: {error}")
            received = None
        if received is None:
            self._drop(sock)
            return
        message, fds = received
        try:
            self._received(sock, message, fds)
        except (KeyError, TypeError, IndexError) as error:  # a daemon of another version, or a broken one: not our end
            self._report(f"message {message.get('op')!r}: {type(error).__name__} {error}")
        finally:
            for fd in fds:
                os.close(fd)

    def _drop(self, sock: channel.Socket) -> None:
        if sock in self._open:
            self._open.remove(sock)
            self._loop.remove(sock.fileno())
            self._lost(sock)  # may keep the other direction open until we leave
