"""Execs: further processes in a running container. Kept in memory only: a daemon that restarts has forgotten them."""

import asyncio
import base64
import time
from dataclasses import dataclass, field, replace
from socket import socket
from struct import pack
from typing import Any

from compat_engine.engine.containers.create import attributes
from compat_engine.engine.detachkeys import DetachKeys
from compat_engine.engine.events import Events
from compat_engine.engine.failures import exit_code, start_error
from compat_engine.engine.parts import Engine
from compat_engine.engine.prepare import exec_process
from compat_engine.engine.registry import Container
from compat_engine.engine.streams import Duplex, pump, socketpair
from compat_engine.engine.validate import check_nul
from compat_engine.errors import Conflict, EngineError, Internal, InvalidParameter, NotFound
from compat_engine.ids import new_id
from compat_engine.runtime.protocol import ExecExit, StartFailed, Streams
from compat_engine.shim.spec import Process
from compat_engine.wire.exec import ExecCreate, ExecStart

KEPT = 300.0  # seconds an exec can be inspected after its end
KILLED = 137  # exit code of an exec that ended with its container
_PREFIX = "OCI runtime exec failed: exec failed: "
_NOT_EXECUTED = 126
_START_LIMIT = 10.0  # seconds a resize waits for the start; the CLI sends both at once


@dataclass(slots=True, eq=False)
class ExecRecord:
    id: str
    container: Container
    request: ExecCreate
    keys: DetachKeys
    begun: bool = False  # a start has been asked for: there is only one
    pid: int = 0
    exit_code: int | None = None
    ended_at: float = 0.0  # monotonic
    started: asyncio.Event = field(default_factory=asyncio.Event)  # runs, or has failed to
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def running(self) -> bool:
        return self.pid > 0 and self.exit_code is None

    @property
    def command(self) -> str:
        words = self.request.Cmd or [""]
        return f"{words[0]} {' '.join(words[1:])}"


class Execs:
    """All execs of all containers, by id."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._execs: dict[str, ExecRecord] = {}

    def add(self, exec: ExecRecord) -> None:
        self._purge()
        self._execs[exec.id] = exec
        exec.container.exec_ids.append(exec.id)

    def find(self, id: str) -> ExecRecord:
        """Raises NotFound."""
        if found := self._execs.get(id):
            return found
        raise NotFound(f"No such exec instance: {id}")

    def exited(self, exit: ExecExit) -> None:
        """The runtime saw it end. One that an earlier daemon started is unknown here."""
        exec = self._execs.get(exit.exec_id)
        if exec and exec.exit_code is None:
            self._die(exec, exit.code)

    def container_exited(self, container: str) -> None:
        """All processes of the container are gone: what ran is over, what was not yet started is forgotten."""
        for exec in self._of(container):
            if not exec.begun:
                self._drop(exec)
            elif exec.exit_code is None:
                self._die(exec, KILLED)

    def end(self, exec: ExecRecord, code: int) -> None:
        """Its exit code is final from now on."""
        if exec.exit_code is None:
            exec.exit_code, exec.ended_at = code, time.monotonic()
        exec.started.set()
        exec.ended.set()
        if exec.id in exec.container.exec_ids:
            exec.container.exec_ids.remove(exec.id)

    def forget(self, container: str) -> None:
        """The container is removed."""
        for exec in self._of(container):
            self.end(exec, KILLED)
            self._drop(exec)

    def _die(self, exec: ExecRecord, code: int) -> None:
        self._events.publish("container", "exec_die", exec.container.id, {**_attributes(exec), "exitCode": str(code)})
        self.end(exec, code)

    def _of(self, container: str) -> list[ExecRecord]:
        return [exec for exec in self._execs.values() if exec.container.id == container]

    def _drop(self, exec: ExecRecord) -> None:
        self._execs.pop(exec.id, None)
        if exec.id in exec.container.exec_ids:
            exec.container.exec_ids.remove(exec.id)

    def _purge(self) -> None:
        oldest = time.monotonic() - KEPT
        for exec in [exec for exec in self._execs.values() if exec.exit_code is not None and exec.ended_at < oldest]:
            self._drop(exec)


@dataclass(frozen=True, slots=True)
class ExecSession:
    """A start that has been checked. Use `run` or `run_detached`, once."""

    engine: Engine
    exec: ExecRecord
    process: Process

    @property
    def tty(self) -> bool:
        return self.exec.request.Tty

    async def run(self, duplex: Duplex) -> None:
        """Start it with its streams on `duplex` until it ends, or the client leaves or detaches. A failed start is written there,
        as the headers are out; the exit code is known before the stream ends."""
        request = self.exec.request
        try:
            ours = await self._attached(Streams(request.AttachStdin, request.AttachStdout, request.AttachStderr))
        except EngineError as error:
            await duplex.write(_in_band(str(error), self.tty))
            await duplex.close_write()
            return
        keys = self.exec.keys if self.tty else None
        if await pump(_UntilEnded(duplex, self.exec), ours, keys, request.AttachStdin):
            self.engine.events.publish("container", "exec_detach", self.exec.container.id, _attributes(self.exec))

    async def run_detached(self) -> None:
        """Start it with no streams. Raises InvalidParameter and others with Docker's text."""
        _check_first(self.exec)
        await self._launch(None)

    async def _attached(self, streams: Streams) -> socket:
        _check_first(self.exec)  # again, as `open` does not take it: a client that leaves in between has started nothing
        ours, theirs = socketpair()
        try:
            await self._launch((theirs, streams))
        except BaseException:
            ours.close()
            raise
        return ours

    async def _launch(self, attached: tuple[socket, Streams] | None) -> None:
        engine, exec = self.engine, self.exec
        exec.begun = True
        engine.events.publish("container", f"exec_start: {exec.command}", exec.container.id, _attributes(exec))
        try:
            if not self.process.cwd.startswith("/"):
                raise Internal(f"{_PREFIX}Cwd must be an absolute path: unknown")
            exec.pid = await engine.runtime.exec(exec.container.id, exec.id, self.process, attached)
        except (StartFailed, EngineError) as error:
            failure = self._failure(error)
            code = exit_code(str(failure))
            engine.execs.end(exec, code if code in (126, 127) else _NOT_EXECUTED)
            raise failure from error
        exec.started.set()

    def _failure(self, error: StartFailed | EngineError) -> EngineError:
        return start_error(error, _PREFIX) if isinstance(error, StartFailed) else error


@dataclass(frozen=True, slots=True)
class _UntilEnded:
    """The client's connection, whose end is held back until the exit code can be inspected."""

    duplex: Duplex
    exec: ExecRecord

    async def read(self) -> bytes:
        return await self.duplex.read()

    async def write(self, data: bytes) -> None:
        await self.duplex.write(data)

    async def close_write(self) -> None:
        await self.exec.ended.wait()
        await self.duplex.close_write()


async def create(engine: Engine, word: str, request: ExecCreate) -> str:
    """POST /containers/{id}/exec: the new exec's id. Raises NotFound, InvalidParameter, Conflict while it does not run."""
    container = engine.containers.find(word)
    await container.settled()
    _check_running(container, word)
    if not request.Cmd:
        raise InvalidParameter("No exec command specified")
    for name in ("Cmd", "Env", "User", "WorkingDir"):
        check_nul(name, getattr(request, name))
    exec = ExecRecord(new_id(), container, request, DetachKeys(request.DetachKeys, "escape"))
    engine.execs.add(exec)
    engine.events.publish("container", f"exec_create: {exec.command}", container.id, _attributes(exec))
    return exec.id


async def open(engine: Engine, id: str, request: ExecStart) -> ExecSession:
    """POST /exec/{id}/start, first half. Raises NotFound, Conflict when it was started before or the container does not run."""
    exec = engine.execs.find(id)
    _check_first(exec)
    _check_running(exec.container, exec.container.id)
    process = exec_process(engine, exec.container, exec.request)
    size = request.ConsoleSize or exec.request.ConsoleSize
    return ExecSession(engine, exec, replace(process, console=(size[0], size[1])) if size and exec.request.Tty else process)


async def resize(engine: Engine, id: str, rows: int, columns: int) -> None:
    """POST /exec/{id}/resize. Raises NotFound also when it has ended, InvalidParameter when it does not start in ten seconds."""
    exec = engine.execs.find(id)
    try:
        await asyncio.wait_for(exec.started.wait(), _START_LIMIT)
    except TimeoutError:
        raise InvalidParameter("timeout waiting for exec session ready") from None
    if not exec.running:
        raise NotFound(f"process does not exist {id}: not found")
    await engine.runtime.resize(exec.container.id, rows, columns, exec.id)


def inspect(engine: Engine, id: str) -> dict[str, Any]:
    """GET /exec/{id}/json. Raises NotFound."""
    exec = engine.execs.find(id)
    request = exec.request
    words = request.Cmd or [""]
    process = {"tty": request.Tty, "entrypoint": words[0], "arguments": words[1:], "privileged": request.Privileged}
    return {
        "ID": exec.id,
        "Running": exec.running,
        "ExitCode": exec.exit_code,
        "ProcessConfig": {**process, "user": request.User} if request.User else process,
        "OpenStdin": request.AttachStdin,
        "OpenStderr": request.AttachStderr,
        "OpenStdout": request.AttachStdout,
        "CanRemove": False,
        "ContainerID": exec.container.id,
        "DetachKeys": base64.b64encode(exec.keys.sequence).decode() if request.DetachKeys else "",
        "Pid": exec.pid,
    }


def _attributes(exec: ExecRecord) -> dict[str, str]:
    return {**attributes(exec.container.record), "execID": exec.id}


def _check_first(exec: ExecRecord) -> None:
    if exec.begun:
        state = "is already running" if exec.exit_code is None else "has already run"
        raise Conflict(f"Error: Exec command {exec.id} {state}")


def _check_running(container: Container, word: str) -> None:
    status = container.state.status
    if status == "paused":
        raise Conflict(f"Container {word} is paused, unpause the container before exec")
    if status == "restarting":
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if status != "running":
        raise Conflict(f"container {container.id} is not running")


def _in_band(text: str, tty: bool) -> bytes:
    data = f"{text}\r\n".encode()
    return data if tty else pack(">BxxxL", 1, len(data)) + data
