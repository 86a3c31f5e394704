"""What the engine needs of a runtime. Two implementations: `linux.py` (launcher and shims) and `fake.py` (tests)."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from socket import socket
from typing import Protocol

from compat_engine.errors import Conflict
from compat_engine.runtime.cgroups.resources import Resources
from compat_engine.runtime.cgroups.stats import Usage
from compat_engine.shim.spec import Process, Spec


class StartFailed(Exception):
    """init could not start the process. `errno` (0 when unknown) and `step` say where; `str()` is a sentence for people."""

    def __init__(self, errno: int, step: str, text: str) -> None:
        super().__init__(text)
        self.errno, self.step, self.text = errno, step, text


class NotRunning(Conflict):
    """The container's process is gone; its exit may be yet to be recorded."""

    def __init__(self, id: str) -> None:
        super().__init__(f"container {id} is not running")


@dataclass(frozen=True, slots=True)
class Streams:
    """Which of a process's streams an attach socket carries."""

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True


@dataclass(frozen=True, slots=True)
class Exit:
    """A container's process ended. code 0..255, time RFC 3339 with nanoseconds."""

    id: str
    code: int
    oom: bool
    time: str


@dataclass(frozen=True, slots=True)
class ExecExit:
    id: str  # container
    exec_id: str
    code: int


@dataclass(frozen=True, slots=True)
class Adopted:
    """What a new daemon found. live: container id -> init pid; ended: exits nobody has heard of yet."""

    live: dict[str, int]
    ended: list[Exit]


class Created(Protocol):
    """A container whose init waits in its namespaces. Leave by exactly one of `go` and `abort`."""

    @property
    def pid(self) -> int:
        """Of init, as the host sees it."""

    @property
    def ended(self) -> bool:
        """Whether it is known to have left before `go`."""

    async def go(self, attached: Sequence[tuple[socket, Streams]] = ()) -> str:
        """Let it execve, `attached` from the first byte on; the start time (RFC 3339, ns). Owns the shim's ends of `attached`
        from the call on, also on failure. Raises StartFailed, after which nothing of the container is left."""

    async def failure(self) -> StartFailed | None:
        """Why init left before `go`, None when it waits: what to ask when its namespaces could not be furnished."""

    async def abort(self) -> None:
        """Kill init, remove its cgroups; returns when nothing is left."""


class Runtime(Protocol):
    """What is done to a running container raises NotRunning once its process is gone."""

    async def create(self, spec: Spec) -> Created:
        """Start shim and init; returns when init exists."""

    async def attach(self, id: str, streams: Streams) -> socket:
        """A connected, non-blocking stream socket to the running process (protocol.py tells what travels on it)."""

    async def watch(self, id: str) -> int:
        """Read end of a non-blocking pipe: a byte whenever the log grew, EOF when the container has ended. Caller closes it."""

    async def signal(self, id: str, signal: int, exec_id: str = "") -> None: ...

    async def resize(self, id: str, rows: int, columns: int, exec_id: str = "") -> None: ...

    async def exec(self, id: str, exec_id: str, process: Process, attached: tuple[socket, Streams] | None) -> int:
        """Start a process in a running container; its host pid. Raises StartFailed."""

    async def pause(self, id: str) -> None:
        """Freeze the container's cgroup; returns when frozen."""

    async def resume(self, id: str) -> None: ...

    async def pids(self, id: str) -> list[int]:
        """Host pids of all processes in the container's cgroup."""

    def exits(self) -> AsyncIterator[Exit | ExecExit]:
        """Every exit once, in order, as long as the daemon lives."""

    async def forget(self, id: str) -> None:
        """The exit of `id` is recorded elsewhere now: drop what the runtime keeps of it. Else `adopt` tells of it again."""

    async def usage(self, id: str) -> Usage:
        """The container's counters now."""

    async def update(self, id: str, resources: Resources) -> None:
        """New limits for a running container. Raises Internal with the kernel's reason."""

    async def adopt(self, ids: Sequence[str]) -> Adopted:
        """After a daemon restart: connect to the live shims of `ids` and read the exit records of dead ones; ids in neither were
        not running. Sweeps bundles and cgroups that belong to none of `ids`."""

    async def close(self) -> None:
        """End launcher and connections; containers run on."""
