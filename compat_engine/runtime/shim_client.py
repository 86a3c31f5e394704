"""The daemon's end of one shim: what was asked, what it told, and what to do when it goes without a word."""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compat_engine.errors import Internal
from compat_engine.runtime import bundles
from compat_engine.runtime.cgroups.group import Group
from compat_engine.runtime.connection import Connection, Message
from compat_engine.runtime.protocol import ExecExit, Exit, NotRunning, StartFailed
from compat_engine.shim import protocol

log = logging.getLogger(__name__)
KILLED = 128 + signal.SIGKILL
Report = Callable[[Exit | ExecExit], None]
SEND_SECONDS = 10.0  # for a shim to take a message, when many wait before it
EXEC_SECONDS = 30.0  # from the request of an exec to its start
LEAVE_SECONDS = 5.0  # from the kill of init to the end of its shim; after that the daemon clears up itself


class Shim:
    """`created`, `started` and `state` are the answers to run, go and hello. `gone`: the shim has left and cleared up."""

    def __init__(self, id: str, bundle: Path, group: Group, report: Report, left: "Callable[[Shim], None]") -> None:
        """report: told of exits. left: told once, when `gone` is set."""
        loop = asyncio.get_running_loop()
        self.id, self.bundle, self.group = id, bundle, group
        self.pid = 0
        self.created: asyncio.Future[int] = loop.create_future()
        self.started: asyncio.Future[str] = loop.create_future()
        self.state: asyncio.Future[Message] = loop.create_future()
        self.gone = asyncio.Event()
        self._silent = asyncio.Event()  # its connection has ended
        self.running = False  # started and not exited: the only time its exit is reported and it takes orders
        self.forgotten = False
        self._abandoned = False
        self._ended = False
        self._report, self._left = report, left
        self._pidfd = -1
        self._execs: dict[str, asyncio.Future[int]] = {}
        self._connection: Connection | None = None
        self._burial: asyncio.Task[None] | None = None

    def converse(self, sock: socket.socket) -> None:
        """Take over the control socket, or a connection to an older shim."""
        self._connection = Connection(sock, self._received, self._closed)

    async def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Raises NotRunning when the shim has gone, Internal when it takes nothing for too long, OSError EMSGSIZE."""
        try:
            if self._connection is None:
                raise BrokenPipeError
            async with asyncio.timeout(SEND_SECONDS):
                await self._connection.send(message, fds)
        except TimeoutError as error:
            raise self._stuck() from error
        except (BrokenPipeError, ConnectionResetError) as error:
            raise NotRunning(self.id) from error

    def signal(self, number: int) -> None:
        """To init, past the shim: a pidfd never names another process, and a stuck shim is in nobody's way."""
        try:
            if self._pidfd < 0:
                raise ProcessLookupError
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError as error:
            raise NotRunning(self.id) from error

    async def exec(self, exec_id: str, message: Message, fds: Sequence[int]) -> int:
        """Host pid. Raises StartFailed, NotRunning when the container ends meanwhile, Internal when the shim does not answer:
        what it starts in the end is then killed."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._execs[exec_id] = future
        try:
            await self.send(message, fds)
            async with asyncio.timeout(EXEC_SECONDS):
                return await future
        except TimeoutError as error:
            await self.send({"op": protocol.SIGNAL, "signal": signal.SIGKILL, "exec": exec_id})
            raise self._stuck() from error
        finally:
            self._execs.pop(exec_id, None)

    async def abandon(self) -> None:
        """Give up a start: init killed, cgroups and bundle gone when it returns. Whoever waits for a start must come here when
        it fails. May be called more than once."""
        if self.forgotten and self.gone.is_set():
            return
        self._abandoned, self.running = True, False
        if self._connection is not None:
            self._kill()
            if not self.pid:
                self._connection.finish()  # a shim that loses its daemon before `go` undoes what it has made so far
            try:
                await asyncio.wait_for(self._silent.wait(), LEAVE_SECONDS)
            except TimeoutError:
                self.disconnect()
        await self.group.destroy()
        self.forgotten = True
        self._leave()

    def adopt(self) -> bool:
        """It takes orders and reports from here on; False when it has ended meanwhile."""
        self.running = not (self._ended or self._silent.is_set())
        return self.running

    def disconnect(self) -> None:
        """The daemon leaves; the container runs on."""
        if self._burial:
            self._burial.cancel()
        if self._connection:
            self._connection.close()
        self._drop_pidfd()

    def exists(self, pid: int) -> None:
        """Init's pid is known, from a shim that lives; 0 for not yet made."""
        self.pid = pid
        if pid and self._pidfd < 0:
            try:
                self._pidfd = os.pidfd_open(pid)
            except ProcessLookupError:
                self._pidfd = -1  # dead already, its exit is on the way

    def _received(self, message: Message) -> None:
        if handler := _HANDLERS.get(message["op"]):  # a shim of a later version may tell more
            handler(self, message)

    def _on_created(self, message: Message) -> None:
        self.exists(message["pid"])
        _resolve(self.created, message["pid"])

    def _on_started(self, message: Message) -> None:
        self.running = not self._abandoned
        _resolve(self.started, message["time"])

    def _on_failed(self, message: Message) -> None:
        self._fail_start(_failure(message))

    def _on_state(self, message: Message) -> None:
        _resolve(self.state, message)

    def _on_exited(self, message: Message) -> None:
        self._end(Exit(self.id, message["code"], message["oom"], message["time"]))

    def _on_exec_started(self, message: Message) -> None:
        if future := self._execs.get(message["id"]):
            _resolve(future, message["pid"])

    def _on_exec_failed(self, message: Message) -> None:
        if future := self._execs.get(message["id"]):
            _fail(future, _failure(message))

    def _on_exec_exited(self, message: Message) -> None:
        self._report(ExecExit(self.id, message["id"], message["code"]))

    def _closed(self) -> None:
        text = "the container's supervisor ended unexpectedly, see launcher.log in exec-root"
        self._fail_start(StartFailed(0, protocol.SHIM, text))
        _fail(self.state, NotRunning(self.id))
        self._fail_execs()
        self._silent.set()
        if self.running:
            self._burial = asyncio.get_running_loop().create_task(self._bury())
        elif self._ended and not self._abandoned:
            self._burial = asyncio.get_running_loop().create_task(self._clear())

    async def _bury(self) -> None:
        """The shim went without `exited`: it wrote the record just before, or it was killed and init is on its own, its output
        lost. Such a container is ended, and said to have been killed."""
        record = bundles.exit(self.bundle)
        if record is None:
            oom = self.group.oom_kills() > 0
            self._kill()
            await self._destroyed()
            record = bundles.exit(self.bundle) or Exit(self.id, KILLED, oom, _now())
        self._end(record)
        await self._clear()

    async def _clear(self) -> None:
        """A shim removes the cgroups before it leaves, unless it was killed."""
        await self._destroyed()
        self._leave()

    async def _destroyed(self) -> None:
        """An exit is not told before everything is dead, however long a process hangs in the kernel."""
        while True:
            try:
                return await self.group.destroy()
            except Internal as error:
                log.warning("container %s has lost its supervisor: %s", self.id, error)

    def _end(self, exit: Exit) -> None:
        self._fail_start(StartFailed(0, protocol.SHIM, "the process ended before it was started"))
        _fail(self.state, NotRunning(self.id))
        self._fail_execs()
        self._ended = True
        if self.running:
            self.running = False
            self._report(exit)

    def _leave(self) -> None:
        self._drop_pidfd()
        if not self.gone.is_set():
            self.gone.set()
            self._left(self)

    def _stuck(self) -> Internal:
        return Internal(f"container {self.id}: its supervisor does not answer")

    def _kill(self) -> None:
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                return  # what was wanted

    def _drop_pidfd(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _fail_start(self, error: StartFailed) -> None:
        for step in (self.created, self.started):
            _fail(step, error)

    def _fail_execs(self) -> None:
        for future in self._execs.values():
            _fail(future, NotRunning(self.id))


_HANDLERS: dict[str, Callable[[Shim, Message], None]] = {
    protocol.CREATED: Shim._on_created,
    protocol.STARTED: Shim._on_started,
    protocol.FAILED: Shim._on_failed,
    protocol.STATE: Shim._on_state,
    protocol.EXITED: Shim._on_exited,
    protocol.EXEC_STARTED: Shim._on_exec_started,
    protocol.EXEC_FAILED: Shim._on_exec_failed,
    protocol.EXEC_EXITED: Shim._on_exec_exited,
}


def _failure(message: Message) -> StartFailed:
    return StartFailed(message["errno"], message["step"], message["text"])


def _resolve(future: "asyncio.Future[Any]", value: object) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # seen: nobody may be waiting for it


def _now() -> str:
    nanoseconds = time.time_ns()
    seconds = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
    return f"{seconds:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 1_000_000_000:09d}Z"
