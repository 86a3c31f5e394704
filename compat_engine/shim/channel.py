"""Messages on a SEQPACKET socket: a JSON object a datagram, descriptors beside it (protocol.py)."""

import json
import socket
import struct
from collections.abc import Sequence
from typing import Any

from compat_engine.shim import protocol

_MAX_FDS = 64
_INT = struct.calcsize("i")

Message = dict[str, Any]


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> None:
    """Raises BlockingIOError when the reader is too far behind, BrokenPipeError when it is gone."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
    sock.sendmsg([json.dumps(message).encode()], ancillary)


def receive(sock: socket.socket) -> tuple[Message, list[int]] | None:
    """The next message and its descriptors (close-on-exec), None at the end. ValueError: the datagram is no JSON object."""
    data, ancillary, _, _ = sock.recvmsg(protocol.MAX_MESSAGE, socket.CMSG_SPACE(_MAX_FDS * _INT), socket.MSG_CMSG_CLOEXEC)
    fds = [fd for item in ancillary for fd in _descriptors(*item)]
    if not data:
        return None
    message = json.loads(data)
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return message, fds


def _descriptors(level: int, kind: int, data: bytes) -> tuple[int, ...]:
    if (level, kind) != (socket.SOL_SOCKET, socket.SCM_RIGHTS):
        return ()
    count = len(data) // _INT
    return struct.unpack(f"{count}i", data[: count * _INT])


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected, blocking ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
