"""Messages on a SEQPACKET socket: a JSON object a datagram, descriptors beside it (protocol.py).

Plain `_socket` sockets and no more of `json` than its C parts: every object a shim touches is a page of its own memory, for
each container, and the library's classes around them are worth half a megabyte.
"""

import _socket
import struct
from collections.abc import Sequence
from json.decoder import JSONDecoder
from json.encoder import encode_basestring_ascii
from typing import Any

from compat_engine.shim import protocol

_MAX_FDS = 64
_INT = struct.calcsize("i")
_decode = JSONDecoder().raw_decode

Message = dict[str, Any]
Socket = _socket.socket


def send(sock: Socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Raises BlockingIOError when the reader is too far behind, BrokenPipeError when it is gone."""
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
    sock.sendmsg([encode(message).encode()], rights)


def receive(sock: Socket) -> tuple[Message, list[int]] | None:
    """The next message and its descriptors (close-on-exec), None at the end. ValueError: the datagram is no JSON object."""
    try:
        data, ancillary = _receive(sock)
    except ConnectionResetError:  # the peer left with words of ours unread; what it said before comes after this error
        data, ancillary = _receive(sock)
    fds = [fd for item in ancillary for fd in _descriptors(*item)]
    if not data:
        return None
    return decode(data.decode()), fds


def _receive(sock: Socket) -> tuple[bytes, list[tuple[int, int, bytes]]]:
    return sock.recvmsg(protocol.MAX_MESSAGE, _socket.CMSG_SPACE(_MAX_FDS * _INT), _socket.MSG_CMSG_CLOEXEC)[:2]


def encode(value: object) -> str:
    """JSON of what messages hold: objects, lists, strings, integers, truth values, null."""
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, dict):
        return "{" + ", ".join([f"{encode_basestring_ascii(name)}: {encode(item)}" for name, item in value.items()]) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join([encode(item) for item in value]) + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    raise TypeError(f"no message holds a {type(value).__name__}")


def decode(text: str, start: int = 0) -> Message:
    """The JSON object that begins at `start`, whatever follows it."""
    message, _ = _decode(text, start)
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return message


def _descriptors(level: int, kind: int, data: bytes) -> tuple[int, ...]:
    if (level, kind) != (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
        return ()
    count = len(data) // _INT
    return struct.unpack(f"{count}i", data[: count * _INT])


def adopt(fd: int) -> Socket:
    """The socket object of a descriptor that was received; owns it."""
    return Socket(fileno=fd)


def pair() -> tuple[Socket, Socket]:
    """Two connected, blocking, close-on-exec ends."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)


def listen(path: str) -> Socket:
    """A non-blocking listener at `path`."""
    listener = Socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(16)
    listener.setblocking(False)
    return listener


def accept(listener: Socket) -> Socket:
    """Raises BlockingIOError."""
    fd, _ = listener._accept()  # type: ignore[attr-defined]  # socket.socket.accept is a wrapper of it
    return adopt(fd)
