"""The runtime on Linux: a launcher that forks shims, a conversation with each shim, the containers' cgroups."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from compat_engine.errors import Conflict
from compat_engine.runtime import bundles
from compat_engine.runtime.cgroups.group import Group
from compat_engine.runtime.cgroups.manager import Cgroups
from compat_engine.runtime.cgroups.resources import Resources
from compat_engine.runtime.cgroups.stats import Usage
from compat_engine.runtime.connection import Message, pair
from compat_engine.runtime.launcher_client import Launcher
from compat_engine.runtime.protocol import Adopted, ExecExit, Exit, NotRunning, StartFailed, Streams
from compat_engine.runtime.shim_client import Shim
from compat_engine.shim import protocol
from compat_engine.shim.spec import Process, Spec, dump_process
from compat_engine.store.tree import Tree

ANSWER_SECONDS = 3.0  # for the word of a shim which an earlier daemon left in the middle of a start
FIRST_CLIENTS = 32  # attach sockets that go with `go`; a shim takes no more descriptors at once than 64
LAST_WORDS_SECONDS = 0.5  # from the end of init's namespaces to its message
CONNECT_TRIES = 20


@dataclass(frozen=True, slots=True)
class LinuxCreated:
    """See protocol.Created."""

    pid: int
    shim: Shim

    @property
    def ended(self) -> bool:
        return self.shim.started.done()

    async def go(self, attached: Sequence[tuple[socket.socket, Streams]] = ()) -> str:
        first, others = attached[:FIRST_CLIENTS], attached[FIRST_CLIENTS:]
        with ExitStack() as ends, suppress(NotRunning):  # it has failed by itself; `started` tells how
            for end, _ in attached:
                ends.enter_context(end)
            for end, streams in others:
                await self.shim.send({"op": protocol.ATTACH, **asdict(streams)}, [end.fileno()])
            message = {"op": protocol.GO, "attach": [asdict(streams) for _, streams in first]}
            await self.shim.send(message, [end.fileno() for end, _ in first])
        try:
            return await self.shim.started
        except StartFailed:
            await self.shim.abandon()
            raise

    async def failure(self) -> StartFailed | None:
        started = self.shim.started
        await asyncio.wait({started}, timeout=LAST_WORDS_SECONDS)
        error = started.exception() if started.done() and not started.cancelled() else None
        return error if isinstance(error, StartFailed) else None

    async def abort(self) -> None:
        await self.shim.abandon()


class LinuxRuntime:
    """See protocol.Runtime. Everything runs on the loop it was opened on."""

    def __init__(self, tree: Tree, cgroups: Cgroups, launcher: Launcher) -> None:
        self.cgroups = cgroups
        self.launcher = launcher
        self._tree = tree
        self._shims: dict[str, Shim] = {}
        self._exits: asyncio.Queue[Exit | ExecExit] = asyncio.Queue()

    @classmethod
    async def open(cls, tree: Tree, cgroups: Cgroups) -> "LinuxRuntime":
        """Starts the launcher. Raises OSError when exec-root cannot be written."""
        tree.bundles.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(tree, cgroups, Launcher(tree.exec / "launcher.log"))

    async def create(self, spec: Spec) -> LinuxCreated:
        await self._predecessor_gone(spec.id)
        try:
            return await self._create(spec)
        except StartFailed as error:
            if error.step != protocol.SHIM:
                raise
            return await self._create(spec)  # the shim was killed with our message in its hands

    async def _create(self, spec: Spec) -> LinuxCreated:
        shim = self._shims[spec.id] = self._shim(spec.id, self.cgroups.group(spec.cgroups))
        try:
            bundles.make(shim.bundle, spec)
            await self._run(shim)
            return LinuxCreated(await shim.created, shim)
        except BaseException:
            await asyncio.shield(shim.abandon())
            raise

    async def attach(self, id: str, streams: Streams) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            try:
                await self._running(id).send({"op": protocol.ATTACH, **asdict(streams)}, [theirs.fileno()])
            except BaseException:
                ours.close()
                raise
        return ours

    async def watch(self, id: str) -> int:
        ours, theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            await self._running(id).send({"op": protocol.WATCH}, [theirs])
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return ours

    async def signal(self, id: str, signal: int, exec_id: str = "") -> None:
        shim = self._running(id)
        if exec_id:
            await shim.send({"op": protocol.SIGNAL, "signal": signal, "exec": exec_id})
        else:
            shim.signal(signal)

    async def resize(self, id: str, rows: int, columns: int, exec_id: str = "") -> None:
        message = {"op": protocol.RESIZE, "rows": rows, "columns": columns}
        await self._running(id).send(_addressed(message, exec_id))

    async def exec(self, id: str, exec_id: str, process: Process, attached: tuple[socket.socket, Streams] | None) -> int:
        with ExitStack() as ends:
            fds = [ends.enter_context(attached[0]).fileno()] if attached else []
            streams = asdict(attached[1]) if attached else None
            message = {"op": protocol.EXEC, "id": exec_id, "process": dump_process(process), "attach": streams}
            try:
                return await self._running(id).exec(exec_id, message, fds)
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                raise StartFailed(errno.E2BIG, "exec", "argument list too long") from error

    async def pause(self, id: str) -> None:
        await self._running(id).group.freeze()

    async def resume(self, id: str) -> None:
        await self._running(id).group.thaw()

    async def pids(self, id: str) -> list[int]:
        return self._running(id).group.pids()

    async def usage(self, id: str) -> Usage:
        """The container's counters now."""
        return self._running(id).group.usage()

    async def update(self, id: str, resources: Resources) -> None:
        """New limits for a running container. Raises Internal with the kernel's reason."""
        self._running(id).group.update(resources)

    async def exits(self) -> AsyncIterator[Exit | ExecExit]:
        while True:
            yield await self._exits.get()

    async def forget(self, id: str) -> None:
        shim = self._shims.get(id)
        if shim is None:
            bundles.remove(self._tree.bundle(id))
        elif not shim.running:
            shim.forgotten = True
            if shim.gone.is_set():
                self._left(shim)

    async def adopt(self, ids: Sequence[str]) -> Adopted:
        wanted = set(ids)
        bundles_there = [bundle for bundle in self._tree.bundles.iterdir() if bundle.is_dir()]
        found = await asyncio.gather(*(self._adopt(item) if item.name in wanted else self._sweep(item) for item in bundles_there))
        live = {item.id: item.pid for item in found if isinstance(item, Shim) and item.running}
        return Adopted(live, [item for item in found if isinstance(item, Exit)])

    async def close(self) -> None:
        for shim in self._shims.values():
            shim.disconnect()
        self._shims.clear()
        await self.launcher.close()

    def _shim(self, id: str, group: Group) -> Shim:
        return Shim(id, self._tree.bundle(id), group, self._exits.put_nowait, self._left)

    def _left(self, shim: Shim) -> None:
        if shim.forgotten:
            bundles.remove(shim.bundle)
            if self._shims.get(shim.id) is shim:
                del self._shims[shim.id]

    def _running(self, id: str) -> Shim:
        shim = self._shims.get(id)
        if shim is None or not shim.running:
            raise NotRunning(id)
        return shim

    async def _predecessor_gone(self, id: str) -> None:
        """An ended container's shim removes its cgroups last: a new one of the same name has to wait for that."""
        if shim := self._shims.get(id):
            if shim.running:
                raise Conflict(f"container {id} is running")
            await shim.gone.wait()

    async def _run(self, shim: Shim) -> None:
        ours, theirs = pair()
        with theirs:
            shim.converse(ours)
            await self.launcher.run({"op": protocol.RUN, "bundle": str(shim.bundle)}, [theirs.fileno()])

    async def _adopt(self, bundle: Path) -> Shim | Exit | None:
        """The shim of a running container, or how the container ended; None when it never ran or nobody saw it end."""
        spec = bundles.spec(bundle)
        shim = self._shim(bundle.name, self.cgroups.group(spec.cgroups if spec else ()))
        try:
            lives = await _connected(shim) and await self._present(shim) and shim.adopt()
        except BaseException:
            shim.disconnect()
            raise
        if lives:
            self._shims[shim.id] = shim
            return shim
        record = bundles.exit(bundle)
        if record is None:
            await shim.abandon()
        else:
            shim.disconnect()  # it may stay for clients that still read
        return record

    async def _present(self, shim: Shim) -> bool:
        """False when the container has ended, or waits for a `go` that will not come. Its files speak for it once it was
        started: a shim that is stuck must not hold back the daemon's start."""
        pid, started = bundles.init(shim.bundle)
        try:
            await shim.send({"op": protocol.HELLO})  # one that is about to leave answers with the exit
            if started and bundles.exit(shim.bundle) is None:
                shim.exists(pid)
                return True
            state = await asyncio.wait_for(shim.state, ANSWER_SECONDS)
        except NotRunning:
            return False
        except TimeoutError:
            shim.exists(pid)
            return True
        shim.exists(state["pid"])
        return bool(state["started"])

    async def _sweep(self, bundle: Path) -> None:
        """End and remove a container nobody knows any more."""
        spec = bundles.spec(bundle)
        shim = self._shim(bundle.name, self.cgroups.group(spec.cgroups if spec else ()))
        if await _connected(shim) and (pid := bundles.init(bundle)[0]):
            shim.exists(pid)
        await shim.abandon()


async def _connected(shim: Shim) -> bool:
    for _ in range(CONNECT_TRIES):
        try:
            shim.converse(bundles.connect(shim.bundle))
            return True
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except BlockingIOError:
            await asyncio.sleep(ANSWER_SECONDS / CONNECT_TRIES)
    return False


def _addressed(message: Message, exec_id: str) -> Message:
    return {**message, "exec": exec_id} if exec_id else message
