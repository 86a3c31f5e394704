"""POST /containers/{id}/attach: join the streams of a container, running or yet to start."""

import socket
from dataclasses import dataclass

from compat_engine.engine.containers import logs
from compat_engine.engine.containers.create import attributes
from compat_engine.engine.detachkeys import DetachKeys
from compat_engine.engine.parts import Engine
from compat_engine.engine.registry import Container
from compat_engine.engine.streams import Duplex, pump, socketpair
from compat_engine.errors import Conflict
from compat_engine.logs.query import LogQuery
from compat_engine.runtime.protocol import NotRunning, Streams


@dataclass(frozen=True, slots=True)
class AttachOptions:
    stream: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False
    detach_keys: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    engine: Engine
    container: Container
    options: AttachOptions
    keys: DetachKeys
    end: socket.socket | None

    @property
    def tty(self) -> bool:
        return bool(self.container.record.config.Tty)

    async def run(self, duplex: Duplex) -> None:
        """Logs first when asked for, then the live streams until the process ends or the client detaches or leaves."""
        try:
            if self.options.logs:
                await self._replay(duplex)
            if self.end is None:
                await duplex.close_write()
                return
            stdin = self.options.stdin and bool(self.container.record.config.OpenStdin)
            if await pump(duplex, self.end, self.keys if self.tty else None, stdin):
                self.engine.events.publish("container", "detach", self.container.id, attributes(self.container.record))
        finally:
            if self.end is not None:
                self.end.close()

    async def _replay(self, duplex: Duplex) -> None:
        query = LogQuery(stdout=self.options.stdout, stderr=self.options.stderr)
        replay = await logs.open(self.engine, self.container.id, query)
        async for frames in replay.frames:
            await duplex.write(frames)


async def open(engine: Engine, word: str, options: AttachOptions) -> Session:
    """Raises NotFound, InvalidParameter (detach keys), Conflict while paused or restarting."""
    container = engine.containers.find(word)
    if container.state.status == "paused":
        raise Conflict(f"container {word} is paused, unpause the container before attach")
    if container.state.status == "restarting":
        raise Conflict(f"container {word} is restarting, wait until the container is running")
    keys = DetachKeys(options.detach_keys)
    end = await _join(engine, container, options) if options.stream else None
    engine.events.publish("container", "attach", container.id, attributes(container.record))
    return Session(engine, container, options, keys, end)


async def _join(engine: Engine, container: Container, options: AttachOptions) -> socket.socket:
    streams = Streams(options.stdin, options.stdout, options.stderr)
    async with container.lock:  # not between a start's look at the waiting clients and its end
        if container.state.status != "running":
            ours, theirs = socketpair()
            container.attached.append((theirs, streams))
            return ours
        try:
            return await engine.runtime.attach(container.id, streams)
        except NotRunning:  # it has just ended, and its output with it
            ours, theirs = socketpair()
            theirs.close()
            return ours
