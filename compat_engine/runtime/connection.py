"""One SEQPACKET socket on the event loop: JSON messages out with descriptors, JSON messages in."""

import asyncio
import json
import socket
from collections.abc import Callable, Sequence
from typing import Any

from compat_engine.shim import protocol

Message = dict[str, Any]
AT_ONCE = 64  # messages taken before other work gets its turn
_buffer = bytearray(protocol.MAX_MESSAGE)  # every connection's: one thread reads, and parses before it reads on


class Connection:
    """Calls `received` for each message and `closed` once, when the peer has gone. Owns `sock`; needs a running loop."""

    def __init__(self, sock: socket.socket, received: Callable[[Message], None], closed: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock, self._received, self._closed = sock, received, closed
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._progress = asyncio.Event()  # the socket takes more, or is closed
        self._loop.add_reader(sock, self._readable)

    @property
    def open(self) -> bool:
        return self._sock.fileno() >= 0

    async def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """The caller keeps and closes `fds`. Waits while the peer is far behind; raises OSError: BrokenPipeError when it is
        gone, EMSGSIZE when the message is too long for a datagram."""
        data = json.dumps(message).encode()
        async with self._turn:
            while True:
                if not self.open:
                    raise BrokenPipeError
                try:
                    socket.send_fds(self._sock, [data], fds)
                    return
                except BlockingIOError:
                    await self._writable()

    def finish(self) -> None:
        """Say that nothing more will come; messages of the peer still arrive."""
        if self.open:
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """`closed` is not called."""
        if self.open:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()
            self._progress.set()

    async def _writable(self) -> None:
        self._progress.clear()
        self._loop.add_writer(self._sock, self._progress.set)
        try:
            await self._progress.wait()
        finally:
            if self.open:
                self._loop.remove_writer(self._sock)

    def _readable(self) -> None:
        for _ in range(AT_ONCE):
            try:
                length = self._sock.recv_into(_buffer)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # the peer left with messages of ours unread; what it sent before comes after this error
            except OSError:
                length = 0
            if not length:
                self.close()
                self._closed()
                return
            self._received(json.loads(_buffer[:length]))
            if not self.open:
                return


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a conversation, close-on-exec; ours becomes a Connection, the other is sent away."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
