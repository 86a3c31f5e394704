"""One attached client: a stream socket that takes the process's output and gives it stdin (protocol.py)."""

import time
from collections import deque
from contextlib import suppress
from typing import Any, Protocol

from compat_engine.shim import channel
from compat_engine.shim.loop import GONE, IN, OUT, Loop
from compat_engine.shim.protocol import ATTACH_BUFFER, STALL_SECONDS

_SHUT_RDWR = 2
_READ = 1 << 16  # bytes of stdin a read
_BATCH = 64  # buffers a sendmsg


class Owner(Protocol):
    """The process's side (Stdio)."""

    @property
    def takes_stdin(self) -> bool: ...

    def stdin_data(self, data: bytes) -> None: ...

    def stdin_end(self) -> None: ...

    def flow_changed(self) -> None: ...

    def detached(self, attachment: "Attachment") -> None: ...


class Attachment:
    """`wanted` is the message's {stdin, stdout, stderr}. Owns the socket."""

    def __init__(self, loop: Loop, sock: channel.Socket, wanted: dict[str, Any]) -> None:
        self._loop, self._sock = loop, sock
        self._stdin = bool(wanted.get("stdin", False))
        self._streams = {number for number, name in ((1, "stdout"), (2, "stderr")) if wanted.get(name, True)}
        self._queue: deque[memoryview] = deque()
        self._waiting = 0  # bytes in the queue
        self._limit = ATTACH_BUFFER
        self._moved = 0.0  # when the client last took something, or was given its last chance
        self._timer = 0
        self.full = False
        self._finishing = False
        self._owner: Owner | None = None

    def start(self, owner: Owner) -> None:
        self._owner = owner
        self._sock.setblocking(False)
        self._loop.add(self._sock.fileno(), self._events(), self._event)

    def stdin_ready(self) -> None:
        """The process takes stdin now, or no longer."""
        self._listen()

    def offer(self, stream: int, header: bytes, chunk: bytes) -> None:
        """Send at once what the client takes now, keep the rest."""
        if stream not in self._streams or self._owner is None:
            return
        if self._queue:
            self._keep(header, chunk)
            return
        try:
            sent = self._sock.sendmsg((header, chunk))
        except BlockingIOError:
            sent = 0
        except OSError:  # the client is gone
            self.close()
            return
        if sent < len(header) + len(chunk):
            self._moved = time.monotonic()
            self._keep(header[sent:], memoryview(chunk)[max(0, sent - len(header)) :])
            self._listen()

    def drain(self) -> None:
        """The process has ended: room for what its pipes still hold, so that a client that does not read delays nobody."""
        self._limit += ATTACH_BUFFER
        self._set_full(self._waiting >= self._limit)
        self._watch()

    def finish(self) -> None:
        """No more output will come: close when the client has taken all, or takes nothing for STALL_SECONDS."""
        self._finishing = True
        if not self._queue:
            self.close()
        else:
            self._watch()

    def close(self) -> None:
        if self._owner is None:
            return
        owner, self._owner = self._owner, None
        self._loop.remove(self._sock.fileno())
        self._loop.cancel(self._timer)
        self._queue.clear()
        with suppress(OSError):  # the client closed first
            self._sock.shutdown(_SHUT_RDWR)
        self._sock.close()
        owner.detached(self)

    def _events(self) -> int:
        reads = self._stdin and self._owner is not None and self._owner.takes_stdin
        return (IN if reads else 0) | (OUT if self._queue else 0)

    def _listen(self) -> None:
        if self._owner is not None:
            self._loop.modify(self._sock.fileno(), self._events())

    def _event(self, events: int) -> None:
        if events & GONE:
            self._hung_up()
            return
        if events & OUT:
            self._flush()
        if events & IN and self._owner is not None:
            self._read_stdin()

    def _hung_up(self) -> None:
        """The client closed both ways; the stdin it left in the socket still counts."""
        while self._stdin and self._read_stdin():
            pass
        self.close()

    def _read_stdin(self) -> bool:
        """Whether there may be more."""
        assert self._owner is not None
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            self._owner.stdin_data(data)
        else:
            self._stdin = False
            self._owner.stdin_end()
        self._listen()
        return bool(data) and self._owner is not None

    def _keep(self, *buffers: bytes | memoryview) -> None:
        for buffer in buffers:
            if len(buffer):
                self._queue.append(memoryview(buffer))
                self._waiting += len(buffer)
        self._set_full(self._waiting >= self._limit)

    def _flush(self) -> None:
        try:
            sent = self._sock.sendmsg([self._queue[index] for index in range(min(_BATCH, len(self._queue)))])
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._moved = time.monotonic()
        self._waiting -= sent
        while sent:
            head = self._queue.popleft()
            if sent < len(head):
                self._queue.appendleft(head[sent:])
                break
            sent -= len(head)
        if self._waiting < self._limit // 2:
            self._set_full(False)
        if not self._queue:
            if self._finishing:
                self.close()
            else:
                self._listen()

    def _set_full(self, full: bool) -> None:
        if full != self.full:
            self.full = full
            if self._owner is not None:
                self._owner.flow_changed()

    def _watch(self) -> None:
        if not self._timer:
            self._moved = time.monotonic()
            self._timer = self._loop.after(STALL_SECONDS, self._stalled)

    def _stalled(self) -> None:
        self._timer = 0
        if not self._queue:
            return
        quiet = time.monotonic() - self._moved
        if quiet >= STALL_SECONDS:
            self.close()
        else:
            self._timer = self._loop.after(STALL_SECONDS - quiet, self._stalled)
