"""A container that was just created is most likely started next: its init is made ready while the client still gets there.

One at a time and not for long. Nothing of it is seen from outside: what it fails at the start finds out again, and tells.
"""

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass

from compat_engine.engine.compile import compile_spec
from compat_engine.engine.parts import Engine
from compat_engine.engine.prepare import prepare
from compat_engine.engine.registry import Container
from compat_engine.errors import EngineError
from compat_engine.runtime.protocol import Created, StartFailed

log = logging.getLogger(__name__)
SECONDS = 0.25  # from its create; a client that wants to start it at once has done so


async def make_ready(engine: Engine, container: Container, undo: AsyncExitStack) -> Created:
    """A container whose init waits for `go`. Raises StartFailed, EngineError, OSError; what it makes is undone through `undo`."""
    inputs = await prepare(engine, container, undo)
    created = await engine.runtime.create(compile_spec(container.record, inputs))
    undo.push_async_callback(created.abort)
    return created


@dataclass(frozen=True, slots=True)
class _Ready:
    container: Container
    undo: AsyncExitStack
    making: "asyncio.Task[Created | None]"
    expiry: asyncio.TimerHandle


class Standby:
    """The container made ready, if there is one. Who takes or dismisses it holds the container's lock."""

    def __init__(self) -> None:
        self._ready: _Ready | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    def offer(self, engine: Engine, container: Container) -> None:
        """Make it ready, when nothing speaks against it; returns at once."""
        if self._ready is None and container.state.status == "created" and not container.lock.locked() and _suits(container):
            undo = AsyncExitStack()
            making = asyncio.create_task(_try(engine, container, undo))
            expiry = asyncio.get_running_loop().call_later(SECONDS, self._expired, container)
            self._ready = _Ready(container, undo, making, expiry)

    async def take(self, engine: Engine, container: Container, undo: AsyncExitStack) -> Created:
        """What `make_ready` gives, and raises; made before or now."""
        if (ready := self._leave(container)) and (created := await ready.making):
            if not created.ended:  # else: killed, or out of memory; the next one may fare better
                undo.push_async_callback(ready.undo.aclose)
                return created
            await ready.undo.aclose()
        return await make_ready(engine, container, undo)

    async def dismiss(self, container: Container) -> None:
        """Nothing made ready of it is left when this returns: it changes, or its files are wanted."""
        if ready := self._leave(container):
            await ready.making
            await ready.undo.aclose()

    async def close(self) -> None:
        """At the end of the daemon, which waits for what is being dismissed as well."""
        if self._ready:
            await self.dismiss(self._ready.container)
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _leave(self, container: Container) -> _Ready | None:
        ready = self._ready
        if ready is None or ready.container is not container:
            return None
        self._ready = None
        ready.expiry.cancel()
        return ready

    def _expired(self, container: Container) -> None:
        leaving = asyncio.create_task(self._give_up(container))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _give_up(self, container: Container) -> None:
        async with container.lock:
            await self.dismiss(container)


async def _try(engine: Engine, container: Container, undo: AsyncExitStack) -> Created | None:
    try:
        return await make_ready(engine, container, undo)
    except BaseException as error:
        await undo.aclose()
        if not isinstance(error, StartFailed | EngineError | OSError):
            raise
        log.debug("container %s is not made ready: %s", container.id, error)
        return None


def _suits(container: Container) -> bool:
    """Whether all it is made from is the engine's own and stays as it is until the start, and nothing is left to be seen of one
    that is dismissed: no mount point in its layer, no mount on the host, which a daemon that is killed would leave."""
    record, host = container.record, container.record.host_config
    modes = (host.NetworkMode, host.PidMode, host.IpcMode)
    foreign = record.links or host.Devices or host.Privileged or any(mode.startswith("container:") for mode in modes)
    seen = record.mounts or host.Tmpfs or host.IpcMode == "shareable"
    return not foreign and not seen
