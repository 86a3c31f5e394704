"""A Runtime in memory, for tests of what stands on it: containers are coroutines, their streams are real sockets.

It keeps the contract of `protocol.Runtime` and of shim/protocol.py's attach sockets, and writes json-file logs. Unlike a
kernel it lets SIGTERM end a container's first process, so that `stop` takes no ten seconds.
"""

import asyncio
import itertools
import json
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from compat_engine.errors import NotFound
from compat_engine.runtime.cgroups.resources import Resources
from compat_engine.runtime.cgroups.stats import Usage
from compat_engine.runtime.fake_programs import Exited, Program, find
from compat_engine.runtime.protocol import Adopted, ExecExit, Exit, NotRunning, StartFailed, Streams
from compat_engine.shim.spec import Process, Spec

ENDING = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
_pids = itertools.count(1 << 22)  # above pid_max's ceiling: never a real process


def program_of(process: Process) -> Program:
    found = find(process.args[0])
    if found is None:
        what = "no such file or directory" if "/" in process.args[0] else "executable file not found in $PATH"
        raise StartFailed(2, "exec", f'exec: "{process.args[0]}": {what}')
    return found


class Client:
    """The shim's end of an attach socket."""

    def __init__(self, end: socket.socket, streams: Streams, process: "FakeProcess") -> None:
        loop = asyncio.get_running_loop()
        end.setblocking(False)
        self.streams = streams
        self._end, self._process = end, process
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue()
        self._sender = loop.create_task(self._send())
        self._receiver = loop.create_task(self._receive())

    def write(self, data: bytes) -> None:
        self._outgoing.put_nowait(data)

    async def close(self) -> None:
        """After everything written has been taken, or the client has gone."""
        self.write(b"")
        await self._sender
        self._receiver.cancel()
        self._end.close()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while data := await self._outgoing.get():
                await loop.sock_sendall(self._end, data)
            self._end.shutdown(socket.SHUT_RDWR)

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        wanted = self.streams.stdin and self._process.process.open_stdin
        with suppress(ConnectionError):
            while data := await loop.sock_recv(self._end, 1 << 16):
                if wanted:
                    self._process.stdin.feed_data(data)
        if wanted and self._process.process.stdin_once:
            self._process.stdin.feed_eof()


class FakeProcess:
    """A container's process or an exec's: a program, its clients, its log."""

    def __init__(self, process: Process, hostname: str, log: str = "") -> None:
        self.process, self.hostname, self.cwd = process, hostname, process.cwd
        self.env = dict(word.split("=", 1) for word in process.env)
        self.pid = next(_pids)
        self.program = program_of(process)
        self.stdin = asyncio.StreamReader()
        self.clients: list[Client] = []
        self.watchers: list[int] = []
        self.unpaused = asyncio.Event()
        self.unpaused.set()
        self._log = log
        self._task: asyncio.Task[int] | None = None
        self._killed_by = 0
        if not process.open_stdin:
            self.stdin.feed_eof()

    def attach(self, end: socket.socket, streams: Streams) -> None:
        self.clients.append(Client(end, streams, self))

    async def run(self) -> int:
        """The exit code, once clients have all of the output."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        if self._killed_by:
            self._task.cancel()  # before it could begin
        try:
            code = await self._task
        except asyncio.CancelledError:
            if not self._killed_by:
                raise
            code = 128 + self._killed_by
        await asyncio.gather(*(client.close() for client in self.clients))
        for fd in self.watchers:
            os.close(fd)
        return code

    def signal(self, number: int) -> None:
        if number in ENDING:
            self._killed_by = self._killed_by or number
            if self._task:
                self._task.cancel()

    async def read_line(self) -> bytes:
        line = await self.stdin.readline()
        await self.unpaused.wait()
        return line

    def write(self, stream: int, data: bytes) -> None:
        if self._log:
            self._record("stdout" if stream == 1 else "stderr", data)
        framed = data.replace(b"\n", b"\r\n") if self.process.tty else struct.pack(">BxxxL", stream, len(data)) + data
        for client in self.clients:
            if client.streams.stdout if stream == 1 or self.process.tty else client.streams.stderr:
                client.write(framed)

    async def _run(self) -> int:
        try:
            return await self.program(self, list(self.process.args[1:]))
        except Exited as exited:
            return exited.code

    def _record(self, stream: str, data: bytes) -> None:
        with open(self._log, "a", encoding="utf-8") as log:
            for line in data.decode(errors="replace").splitlines(keepends=True):
                log.write(json.dumps({"log": line, "stream": stream, "time": now()}) + "\n")
        for fd in self.watchers:
            with suppress(BlockingIOError, BrokenPipeError):
                os.write(fd, b".")


@dataclass(slots=True)
class FakeContainer:
    spec: Spec
    main: FakeProcess
    execs: dict[str, FakeProcess] = field(default_factory=dict)


class FakeCreated:
    def __init__(self, runtime: "FakeRuntime", container: FakeContainer) -> None:
        self._runtime, self._container = runtime, container
        self.pid = container.main.pid
        self.ended = False

    async def go(self, attached: Sequence[tuple[socket.socket, Streams]] = ()) -> str:
        for end, streams in attached:
            self._container.main.attach(end, streams)
        self._runtime.begin(self._container)
        return now()

    async def failure(self) -> StartFailed | None:
        return None  # what cannot be started is refused by `create`

    async def abort(self) -> None:
        await asyncio.gather(*(client.close() for client in self._container.main.clients))


class FakeRuntime:
    """See protocol.Runtime."""

    def __init__(self) -> None:
        self._containers: dict[str, FakeContainer] = {}
        self._exits: asyncio.Queue[Exit | ExecExit] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def create(self, spec: Spec) -> FakeCreated:
        log = spec.log.path if spec.log.driver == "json-file" else ""
        return FakeCreated(self, FakeContainer(spec, FakeProcess(spec.process, spec.hostname, log)))

    def begin(self, container: FakeContainer) -> None:
        self._containers[container.spec.id] = container
        self._spawn(self._live(container))

    async def attach(self, id: str, streams: Streams) -> socket.socket:
        process = self._process(id, "")
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        process.attach(theirs, streams)
        return ours

    async def watch(self, id: str) -> int:
        process = self._process(id)
        ours, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        process.watchers.append(theirs)
        return ours

    async def signal(self, id: str, signal: int, exec_id: str = "") -> None:
        self._process(id, exec_id).signal(signal)

    async def resize(self, id: str, rows: int, columns: int, exec_id: str = "") -> None:
        self._process(id, exec_id)

    async def exec(self, id: str, exec_id: str, process: Process, attached: tuple[socket.socket, Streams] | None) -> int:
        try:
            container = self._container(id)
            started = FakeProcess(process, container.spec.hostname)
        except (StartFailed, NotRunning):
            if attached:
                attached[0].close()
            raise
        if attached:
            started.attach(*attached)
        container.execs[exec_id] = started
        self._spawn(self._live_exec(container, exec_id))
        return started.pid

    async def pause(self, id: str) -> None:
        self._process(id).unpaused.clear()

    async def resume(self, id: str) -> None:
        self._process(id).unpaused.set()

    async def pids(self, id: str) -> list[int]:
        container = self._container(id)
        return [container.main.pid, *(process.pid for process in container.execs.values())]

    async def usage(self, id: str) -> Usage:
        return Usage(memory_usage=1 << 20, pids=len(await self.pids(id)))

    async def update(self, id: str, resources: Resources) -> None:
        self._container(id)

    async def exits(self) -> AsyncIterator[Exit | ExecExit]:
        while True:
            yield await self._exits.get()

    async def forget(self, id: str) -> None:
        return  # an exit is kept nowhere

    async def adopt(self, ids: Sequence[str]) -> Adopted:
        for id in self._containers.keys() - set(ids):
            self._containers[id].main.signal(signal.SIGKILL)
        return Adopted({id: self._containers[id].main.pid for id in ids if id in self._containers}, [])

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _live(self, container: FakeContainer) -> None:
        code = await container.main.run()
        for process in container.execs.values():
            process.signal(signal.SIGKILL)
        del self._containers[container.spec.id]
        self._exits.put_nowait(Exit(container.spec.id, code, False, now()))

    async def _live_exec(self, container: FakeContainer, exec_id: str) -> None:
        code = await container.execs[exec_id].run()
        del container.execs[exec_id]
        self._exits.put_nowait(ExecExit(container.spec.id, exec_id, code))

    def _container(self, id: str) -> FakeContainer:
        try:
            return self._containers[id]
        except KeyError:
            raise NotRunning(id) from None

    def _process(self, id: str, exec_id: str = "") -> FakeProcess:
        container = self._container(id)
        if exec_id and exec_id not in container.execs:
            raise NotFound(f"No such exec instance: {exec_id}")
        return container.execs[exec_id] if exec_id else container.main

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
