"""A process the shim has forked, the container's first or an exec's: its pidfd, its stdio, its way from fork to execve."""

import errno
import fcntl
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from compat_engine.kernel.clone import fork_into
from compat_engine.kernel.tty import set_size
from compat_engine.shim import channel, protocol
from compat_engine.shim.failure import Failure
from compat_engine.shim.loop import IN, Loop
from compat_engine.shim.plan import Stream
from compat_engine.shim.stdio import STDERR, STDOUT, Stdio

_PIPE_SIZE = 1 << 20  # bytes; a burst goes on while the log is written

Script = Callable[[tuple[int, int, int], channel.Socket], NoReturn]


class Forked:
    """A child that runs a script, which talks over its end of `sync`."""

    __slots__ = ("pid", "sync")

    def __init__(self, script: Callable[[channel.Socket], NoReturn], cgroup: int = -1) -> None:
        """Fork it, born in the v2 cgroup `cgroup` unless that is -1. Raises OSError: ENOMEM when the pid namespace it belongs in
        has ended, and those of kernel.clone."""
        self.sync, theirs = channel.pair()
        try:
            self.pid = os.fork() if cgroup < 0 else fork_into(cgroup)
            if self.pid == 0:
                self.sync.close()
                script(theirs)
        except OSError:
            self.sync.close()
            raise
        finally:
            theirs.close()

    def begin(self, message: channel.Message) -> None:
        """Give it the word it waits for. Raises OSError when it has ended."""
        channel.send(self.sync, message)

    def end(self) -> None:
        """Kill it; it is gone when this returns, and what it had mounted too."""
        self.sync.close()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class Watcher:
    """What a child tells: on_message for what only the shim can answer, then on_started or on_failed, then on_exit."""

    def on_message(self, child: "Child", message: channel.Message) -> None:
        raise NotImplementedError

    def on_started(self, child: "Child") -> None:
        raise NotImplementedError

    def on_failed(self, child: "Child", failure: Failure) -> None:
        """It has ended and is reaped."""
        raise NotImplementedError

    def on_exit(self, child: "Child") -> None:
        """It has ended after a start; its output may not be read to the end yet."""
        raise NotImplementedError


class Child:
    """id: the exec's, "" for the container's own. code: 0..255 once it has ended."""

    def __init__(self, loop: Loop, id: str, stream: Stream, watcher: Watcher) -> None:
        self._loop, self.id, self._stream, self._watcher = loop, id, stream, watcher
        self.stdio = Stdio(loop, stream.tty, stream.stdin_once)
        self.pid, self.pidfd, self.code = 0, -1, -1
        self.started = False
        self._executing = False
        self._failure: Failure | None = None
        self._size = (0, 0)  # asked for before there was a terminal
        self._sync: channel.Socket | None = None

    def fork(self, script: Script, cgroup: int) -> None:
        """Run `script`, which has its stdio from the first, in a child of ours. cgroup and errors: as Forked."""
        stdio, kept = self.open_stdio()
        try:
            forked = Forked(lambda sync: script(stdio, sync), cgroup)
        except OSError:
            for fd in kept:
                os.close(fd)
            raise
        finally:
            for fd in set(stdio):
                os.close(fd)
        self._watch(forked, kept)

    def adopt(self, forked: Forked) -> None:
        """Make one that has begun ours, and give it its stdio; one that has ended meanwhile is no error."""
        stdio, kept = self.open_stdio()
        self._watch(forked, kept)
        self.tell(protocol.STDIO, stdio)
        for fd in set(stdio):
            os.close(fd)

    def tell(self, op: str, fds: Sequence[int] = ()) -> None:
        """Send to the script; one that has ended meanwhile is no error, its end is reported anyway."""
        if self._sync is not None:
            try:
                channel.send(self._sync, {"op": op}, fds)
            except OSError as error:
                if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                    raise

    def signal(self, number: int) -> None:
        """By pidfd, so that a reused pid is never hit; a process that has ended is no error."""
        if self.pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def kill(self, failure: Failure) -> None:
        """End it before its start, for a reason of ours."""
        self._failure = self._failure or failure
        self.signal(signal.SIGKILL)

    def resize(self, rows: int, columns: int) -> None:
        self._size = (rows, columns)
        if self.stdio.terminal >= 0:
            set_size(self.stdio.terminal, rows, columns)

    def ended(self, status: int) -> None:
        """It has been reaped with this wait status."""
        code = os.waitstatus_to_exitcode(status)
        self.code = code if code >= 0 else 128 - code
        while self._sync is not None and self._receive():
            pass  # what it said last
        if self.started:
            self._watcher.on_exit(self)
        else:
            died = Failure(0, "init", f"the process ended before its start (exit code {self.code})")
            self._watcher.on_failed(self, self._failure or died)

    def close(self) -> None:
        """Let go of the pidfd."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def _watch(self, forked: Forked, kept: tuple[int, ...]) -> None:
        """kept: our ends of its stdio."""
        self.pid, self._sync = forked.pid, forked.sync
        self.pidfd = os.pidfd_open(self.pid)
        self._connect(kept)
        forked.sync.setblocking(False)
        self._loop.add(forked.sync.fileno(), IN, self._on_sync)

    def open_stdio(self) -> tuple[tuple[int, int, int], tuple[int, ...]]:
        """(the child's three descriptors, ours: stdout, stderr and, when stdin is open, stdin)."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if self._stream.tty:
            return (null, null, null), ()
        out, out_end = os.pipe2(os.O_CLOEXEC)
        err, err_end = os.pipe2(os.O_CLOEXEC)
        if not self._stream.open_stdin:
            return (null, out_end, err_end), (out, err)
        os.close(null)
        stdin_end, stdin = os.pipe2(os.O_CLOEXEC)
        return (stdin_end, out_end, err_end), (out, err, stdin)

    def _connect(self, kept: tuple[int, ...]) -> None:
        for fd, stream in zip(kept, (STDOUT, STDERR), strict=False):
            with suppress(PermissionError):  # too many pipes in the system: the usual 64 KiB do too
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
            self.stdio.add_output(fd, stream)
        if len(kept) > 2:
            self.stdio.set_stdin(kept[2])

    def _on_sync(self, events: int) -> None:
        self._receive()

    def _receive(self) -> bool:
        """Take one message; whether there may be more."""
        assert self._sync is not None
        try:
            received = channel.receive(self._sync)
        except BlockingIOError:
            return False
        if received is None:
            self._loop.remove(self._sync.fileno())
            self._sync.close()
            self._sync = None
            self._closed()
            return False
        self._handle(*received)
        return True

    def _handle(self, message: channel.Message, fds: list[int]) -> None:
        match message["op"]:
            case protocol.CONSOLE:
                self.stdio.set_terminal(fds[0], self._stream.open_stdin)
                if self._size != (0, 0):
                    self.resize(*self._size)
            case protocol.EXECUTING:
                self._executing = True
            case protocol.FAILED:
                self._failure = Failure(message["errno"], message["step"], message["text"])
            case _:
                self._watcher.on_message(self, message)

    def _closed(self) -> None:
        """The socket closes at execve, or when the child ends; `ended` tells of the latter."""
        if self._executing and self._failure is None:
            self.started = True
            self._watcher.on_started(self)
