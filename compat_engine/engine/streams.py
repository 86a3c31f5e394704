"""Between a client's connection and a shim's attach socket: bytes both ways, half-close, detach keys, back-pressure."""

import asyncio
import socket
from contextlib import suppress
from typing import Protocol

from compat_engine.engine.detachkeys import DetachKeys

CHUNK = 256 << 10


class Duplex(Protocol):
    """A hijacked connection. `read` gives b"" once the client closed its side; `write` waits while the client does not read."""

    async def read(self) -> bytes: ...

    async def write(self, data: bytes) -> None: ...

    async def close_write(self) -> None: ...


async def pump(duplex: Duplex, end: socket.socket, keys: DetachKeys | None, stdin: bool) -> bool:
    """Until the process's output ends, the client leaves, or types the detach keys: True for the last. Closes `end`."""
    output = asyncio.ensure_future(_output(duplex, end))
    source = asyncio.ensure_future(_input(duplex, end, keys, stdin))
    try:
        await asyncio.wait((output, source), return_when=asyncio.FIRST_COMPLETED)
        if not output.done() and not source.result():
            await output  # the client has said all it had to say, and goes on listening
        if output.done():
            output.result()
        return source.done() and source.result()
    except (ConnectionError, BrokenPipeError):
        return False  # the client is gone; that is no error of the container
    finally:
        for task in (output, source):
            task.cancel()
        await asyncio.gather(output, source, return_exceptions=True)
        end.close()


async def _output(duplex: Duplex, end: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(end, CHUNK):
        await duplex.write(data)
    await duplex.close_write()


async def _input(duplex: Duplex, end: socket.socket, keys: DetachKeys | None, stdin: bool) -> bool:
    """True when the client detached. Without stdin the bytes are read and dropped, so that a leaving client is seen."""
    loop = asyncio.get_running_loop()
    while data := await duplex.read():
        if not stdin:
            continue
        detached = False
        if keys:
            data, detached = keys.feed(data)
        try:
            if data:
                await loop.sock_sendall(end, data)
        except (ConnectionError, BrokenPipeError):
            return False  # the process no longer reads
        if detached:
            return True
    if stdin:
        with suppress(OSError):  # the shim closed first: its EOF has come, or will
            end.shutdown(socket.SHUT_WR)
    return False


def socketpair() -> tuple[socket.socket, socket.socket]:
    """(ours, the shim's): ours non-blocking."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    return ours, theirs
