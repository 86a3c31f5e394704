"""The bytes of one process: output to the log and to every attached client, stdin from the clients. Never blocks."""

import os
import time
from collections.abc import Callable
from typing import Protocol

from compat_engine.kernel.libc import trim_memory
from compat_engine.shim.attachment import Attachment
from compat_engine.shim.loop import GONE, IN, OUT, Loop

STDOUT, STDERR = 1, 2
DRAIN_SECONDS = 0.5  # how long an ended process's pipes are read on while something else holds them open
_SMALL, _LARGE = 1 << 16, 1 << 18  # bytes a read; the large one once a small one came back full
_TRIM_SECONDS = 1.0
_CLOSE_SECONDS = 0.001  # between reads of a busy stream
_HELD_SECONDS = 0.05


class Log(Protocol):
    """Where output is recorded. Each call tells whether the record grew."""

    def write(self, stream: int, chunk: bytes) -> bool: ...

    def end(self, stream: int) -> bool: ...

    def close(self) -> None: ...


class NoLog:
    def write(self, stream: int, chunk: bytes) -> bool:
        return False

    def end(self, stream: int) -> bool:
        return False

    def close(self) -> None:
        pass


class Stdin:
    """The write end of a process's stdin with the bytes it did not take yet."""

    def __init__(self, loop: Loop, fd: int, ready: Callable[[], None]) -> None:
        self._loop, self._fd, self._ready = loop, fd, ready
        self._pending = memoryview(b"")
        self._closing = False
        os.set_blocking(fd, False)
        loop.add(fd, 0, self._event)

    @property
    def accepts(self) -> bool:
        return not self._pending

    def write(self, data: bytes) -> None:
        """What the process cannot take now waits; data for a process that closed its stdin is dropped."""
        if self._fd >= 0:
            self._pending = memoryview(bytes(self._pending) + data)
            self._flush()

    def close(self) -> None:
        """EOF for the process, once it has taken what waits."""
        self._closing = True
        if not self._pending:
            self.abandon()

    def abandon(self) -> None:
        if self._fd >= 0:
            self._loop.remove(self._fd)
            os.close(self._fd)
            self._fd, self._pending = -1, memoryview(b"")

    def _event(self, events: int) -> None:
        if events & GONE:  # no reader is left
            self.abandon()
            self._ready()
        else:
            self._flush()

    def _flush(self) -> None:
        try:
            self._pending = self._pending[os.write(self._fd, self._pending) :]
        except BlockingIOError:
            pass
        except OSError:  # EPIPE, EIO: the process closed its end
            self.abandon()
        if not self._pending and self._closing:
            self.abandon()
        if self._fd >= 0:
            self._loop.modify(self._fd, OUT if self._pending else 0)
        if not self._pending:
            self._ready()


class Stdio:
    """Pumps one process. `grew` is called when the log grew, `finished` once, after `drain`, when all output has been read.

    Slow clients hold reading back, and so the process, until they take bytes or leave, as a pipe would.
    """

    def __init__(self, loop: Loop, tty: bool, stdin_once: bool) -> None:
        self._loop, self.tty, self._stdin_once = loop, tty, stdin_once
        self._log: Log = NoLog()
        self._grew: Callable[[], None] = lambda: None
        self._outputs: dict[int, int] = {}  # descriptor -> stream
        self._attachments: list[Attachment] = []
        self._stdin: Stdin | None = None
        self._held = False
        self._size = _SMALL
        self._trim = 0
        self._finished: Callable[[], None] | None = None
        self._master = -1
        self._last_read = 0.0

    def record(self, log: Log, grew: Callable[[], None]) -> None:
        """In `log`, from now on; each time that grows, `grew` is called."""
        self._log, self._grew = log, grew

    def add_output(self, fd: int, stream: int) -> None:
        """Takes the descriptor over."""
        os.set_blocking(fd, False)
        self._outputs[fd] = stream
        self._listen(fd)

    def set_stdin(self, fd: int) -> None:
        """Takes the descriptor over."""
        self._stdin = Stdin(self._loop, fd, self._stdin_ready)
        self._stdin_ready()

    def set_terminal(self, master: int, open_stdin: bool) -> None:
        """Takes the pty's master over."""
        self._master = master
        self.add_output(master, STDOUT)
        if open_stdin:
            self.set_stdin(os.dup(master))  # epoll knows a descriptor once; reading and writing are watched apart

    @property
    def terminal(self) -> int:
        """The pty's master, -1 when there is none or it is closed."""
        return self._master

    @property
    def attached(self) -> bool:
        return bool(self._attachments)

    def attach(self, attachment: Attachment) -> None:
        self._attachments.append(attachment)
        attachment.start(self)
        if self._finished is not None and not self._outputs:
            attachment.finish()

    def drain(self, finished: Callable[[], None]) -> None:
        """The process has ended: read what is left, within a deadline if others hold its pipes, then call `finished`."""
        self._finished = finished
        if self._stdin is not None:
            self._stdin.abandon()
            self._stdin = None
        for attachment in tuple(self._attachments):
            attachment.drain()
        if self._outputs:
            self._last_read = time.monotonic()
            self._loop.after(DRAIN_SECONDS, self._deadline)
        else:
            self._end()

    # what attachments call

    @property
    def takes_stdin(self) -> bool:
        return self._stdin is not None and self._stdin.accepts

    def stdin_data(self, data: bytes) -> None:
        if self._stdin is not None:
            self._stdin.write(data)

    def stdin_end(self) -> None:
        """A client's stdin has ended."""
        if self._stdin_once and not self.tty and self._stdin is not None:
            self._stdin.close()

    def flow_changed(self) -> None:
        """An attachment filled up, emptied or went away."""
        held = any(item.full for item in self._attachments)
        if held != self._held:
            self._held = held
            for fd in self._outputs:
                self._loop.modify(fd, 0 if held else IN)

    def detached(self, attachment: Attachment) -> None:
        self._attachments.remove(attachment)
        self.flow_changed()

    # inside

    def _stdin_ready(self) -> None:
        for attachment in tuple(self._attachments):
            attachment.stdin_ready()

    def _read(self, fd: int) -> None:
        if self._held:
            self._pause(fd, _HELD_SECONDS)  # a hang-up is reported although we do not ask to read
            return
        try:
            chunk = os.read(fd, self._size)
        except BlockingIOError:
            return
        except OSError:  # EIO: no one has the terminal open any more
            chunk = b""
        if chunk:
            self._adapt(fd, len(chunk))
            self._publish(self._outputs[fd], chunk)
        else:
            self._close(fd)

    def _adapt(self, fd: int, count: int) -> None:
        """Large reads cost a fraction of many small ones: enlarge them, and let a busy writer fill the pipe meanwhile."""
        now = time.monotonic()
        close, self._last_read = now - self._last_read < _CLOSE_SECONDS, now
        if count >= self._size:
            self._size = _LARGE
            self._trim = self._trim or self._loop.after(_TRIM_SECONDS, self._trim_memory)
        elif close and count < _SMALL and self._finished is None:
            self._pause(fd, _CLOSE_SECONDS)

    def _pause(self, fd: int, seconds: float) -> None:
        self._loop.remove(fd)
        self._loop.after(seconds, lambda: self._listen(fd))

    def _listen(self, fd: int) -> None:
        if fd in self._outputs:
            self._loop.add(fd, 0 if self._held else IN, lambda events: self._read(fd))

    def _trim_memory(self) -> None:
        """After a burst give the buffers back: a thousand idle shims must stay small."""
        if time.monotonic() - self._last_read < _TRIM_SECONDS / 2:
            self._trim = self._loop.after(_TRIM_SECONDS, self._trim_memory)
        else:
            self._trim, self._size = 0, _SMALL
            trim_memory()

    def _publish(self, stream: int, chunk: bytes) -> None:
        if self._log.write(stream, chunk):
            self._grew()
        if self._attachments:
            header = b"" if self.tty else bytes((stream, 0, 0, 0)) + len(chunk).to_bytes(4, "big")
            for attachment in tuple(self._attachments):
                attachment.offer(stream, header, chunk)

    def _close(self, fd: int) -> None:
        self._loop.remove(fd)
        stream = self._outputs.pop(fd)
        os.close(fd)
        if fd == self._master:
            self._master = -1
        if self._log.end(stream):
            self._grew()
        if self._finished is not None and not self._outputs:
            self._end()

    def _deadline(self) -> None:
        if not self._outputs:
            return
        quiet = time.monotonic() - self._last_read
        if self._held or quiet < DRAIN_SECONDS:  # a slow reader loses nothing; a busy holder is read on
            self._loop.after(DRAIN_SECONDS, self._deadline)
            return
        for fd in tuple(self._outputs):
            self._close(fd)

    def _end(self) -> None:
        finished, self._finished = self._finished, _nothing
        for attachment in tuple(self._attachments):
            attachment.finish()
        if finished is not None:
            finished()


def _nothing() -> None:
    pass
