"""THE file that touches transports: a request's connection becomes a plain byte stream in both directions."""

import array
import asyncio
import fcntl
import termios
from typing import Final, Protocol

from aiohttp import WSMsgType, web

from compat_engine.api.route import HEADERS, VERSION
from compat_engine.api.streams import RAW, STDOUT, Unframe, frame, stream_type
from compat_engine.engine.streams import Duplex
from compat_engine.errors import EngineError, InvalidParameter

_READ_AHEAD: Final = 256 << 10  # bytes kept for a slow process before the client is held back
_WRITE_AHEAD: Final = 1 << 20  # bytes kept for a slow client before the process is held back
_HEAD_POLL: Final = 0.0005  # seconds between looks whether the client has taken the head
_HEAD_PATIENCE: Final = 0.1  # seconds; a client slower than this gets the first frame anyway


class Session(Protocol):
    """What `open` of attach and exec give: run it once, with the connection."""

    @property
    def tty(self) -> bool: ...

    async def run(self, duplex: Duplex) -> None: ...


async def hijack(request: web.BaseRequest, session: Session) -> web.StreamResponse:
    """Run `session` on the request's connection, which ends with it. With an Upgrade header the head is a 101, else a 200.
    What the client sends once it has seen the head is the process's input.

    An EngineError of the session comes too late for a status: it is told in-band, as output of the process.
    """
    connection = _switch(request, session.tty)
    try:
        await session.run(connection)
    except EngineError as error:
        text = f"{error}\r\n".encode()
        await connection.write(text if session.tty else frame(STDOUT, text))
    except ConnectionError:
        pass  # the client has left
    finally:
        connection.close()
    return Hijacked(connection.upgraded)


def check_websocket(request: web.BaseRequest) -> None:
    """Before a session is opened. Raises InvalidParameter when the request is no websocket handshake."""
    if not web.WebSocketResponse().can_prepare(request).ok:
        raise InvalidParameter("not websocket protocol")


async def hijack_websocket(request: web.BaseRequest, session: Session) -> web.StreamResponse:
    """The same over a websocket; its frames carry plain bytes, never stdcopy frames (text before 1.28)."""
    socket = web.WebSocketResponse(compress=False)
    socket.headers.update(request[HEADERS])
    await socket.prepare(request)
    duplex = WebSocketDuplex(socket, text=request[VERSION] < (1, 28), framed=not session.tty)
    try:
        await session.run(duplex)
    except EngineError as error:
        await duplex.send(f"{error}\r\n".encode())
    except ConnectionError:
        pass  # the client has left
    finally:
        await socket.close()
    return socket


class Connection(asyncio.Protocol):
    """The Duplex of a hijacked connection. Half-close works both ways; both directions know back-pressure.

    `read` and `write` raise ConnectionResetError once the connection is lost.
    """

    def __init__(self, transport: asyncio.Transport, upgraded: bool) -> None:
        self.upgraded = upgraded
        self._transport = transport
        self._old = transport.get_protocol()
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._eof = False
        self._lost = False
        self._head_taken = False
        self._reading_paused = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._readable.set()
        if len(self._received) >= _READ_AHEAD and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._eof = True
        self._readable.set()
        return True  # keeps the transport open for what the process still has to say

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self._readable.set()
        self._writable.set()
        self._old.connection_lost(error)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What the session calls.

    async def read(self) -> bytes:
        """What has arrived; b"" once the client has closed its side."""
        while not self._received:
            if self._lost:
                raise ConnectionResetError("the client has left")
            if self._eof:
                return b""
            self._readable.clear()
            await self._readable.wait()
        data = bytes(self._received)
        self._received.clear()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Returns when the client is less than the write-ahead behind."""
        if not self._head_taken:
            await self._wait_for_head()
        if self._lost or self._transport.is_closing():
            raise ConnectionResetError("the client has left")
        self._transport.write(data)
        await self._writable.wait()

    async def close_write(self) -> None:
        """No more output; what the client still sends is read."""
        if not self._lost and not self._transport.is_closing() and self._transport.can_write_eof():
            await self._wait_for_head()
            self._transport.write_eof()

    def close(self) -> None:
        """What has been written is still delivered."""
        self._transport.close()

    def begin(self, head: bytes) -> None:
        """Take the connection over and send the head."""
        self._transport.set_write_buffer_limits(high=_WRITE_AHEAD)
        self._transport.set_protocol(self)
        self._transport.write(head)

    async def _wait_for_head(self) -> None:
        """Until the client has read the head from its socket: some clients (docker-py) drop what arrives in the same read.

        On a unix socket the kernel tells what the peer has not read yet; on TCP only what it has not acknowledged.
        """
        self._head_taken = True
        socket = self._transport.get_extra_info("socket")
        give_up = self._loop.time() + _HEAD_PATIENCE
        while socket is not None and not self._lost and self._loop.time() < give_up and _unread(socket.fileno()):
            await asyncio.sleep(_HEAD_POLL)


class WebSocketDuplex:
    """The Duplex of a websocket. There is no half-close: a client that closes has left."""

    def __init__(self, socket: web.WebSocketResponse, text: bool, framed: bool) -> None:
        self._socket = socket
        self._text = text
        self._unframe = Unframe() if framed else None

    async def read(self) -> bytes:
        while True:
            message = await self._socket.receive()
            if message.type == WSMsgType.TEXT:
                data = message.data.encode()
            elif message.type == WSMsgType.BINARY:
                data = message.data
            else:
                raise ConnectionResetError("the client has left")
            if data:
                return bytes(data)

    async def write(self, data: bytes) -> None:
        data = self._unframe.feed(data) if self._unframe else data
        if data:
            await self.send(data)

    async def send(self, data: bytes) -> None:
        if self._text:
            await self._socket.send_str(data.decode("utf-8", "replace"))
        else:
            await self._socket.send_bytes(data)

    async def close_write(self) -> None:
        await self._socket.close()


class Hijacked(web.StreamResponse):
    """What a handler returns when the connection is no longer HTTP: nothing more is sent."""

    def __init__(self, upgraded: bool) -> None:
        super().__init__(status=101 if upgraded else 200)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def _switch(request: web.BaseRequest, tty: bool) -> Connection:
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has left")
    upgraded = "upgrade" in request.headers
    connection = Connection(transport, upgraded)
    connection.begin(_head(request[HEADERS], stream_type(request, tty) if upgraded else RAW, upgraded))
    return connection


def _head(headers: dict[str, str], content_type: str, upgraded: bool) -> bytes:
    lines = ["HTTP/1.1 101 UPGRADED" if upgraded else "HTTP/1.1 200 OK", f"Content-Type: {content_type}"]
    if upgraded:
        lines += ["Connection: Upgrade", "Upgrade: tcp"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def _unread(fd: int) -> bool:
    waiting = array.array("i", [0])
    try:
        fcntl.ioctl(fd, termios.TIOCOUTQ, waiting)
    except OSError:
        return False  # not a socket that can tell
    return waiting[0] > 0
