"""Consumes the runtime's exits: teardown, restart policy, --rm, events. One task; a container's work is a task of its own."""

import asyncio
import logging
import time
from collections.abc import Coroutine

from compat_engine.engine import volumes
from compat_engine.engine.containers.create import attributes
from compat_engine.engine.containers.remove import discard_ended
from compat_engine.engine.containers.start import launch
from compat_engine.engine.endpoints import disconnected
from compat_engine.engine.health import unwatch
from compat_engine.engine.parts import Engine
from compat_engine.engine.prepare import release_shm
from compat_engine.engine.registry import Container
from compat_engine.errors import EngineError
from compat_engine.runtime.protocol import ExecExit, Exit

log = logging.getLogger(__name__)
FIRST_BACKOFF, LONGEST_BACKOFF, HEALTHY_AFTER = 0.1, 60.0, 10.0  # seconds


class Monitor:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tasks: set[asyncio.Task[None]] = set()
        self.closing = False  # set before a shutdown stops containers: no policy restarts them then

    async def run(self) -> None:
        async for exit in self._engine.runtime.exits():
            if isinstance(exit, ExecExit):
                self._engine.execs.exited(exit)
            elif container := self._engine.containers.get(exit.id):
                self._spawn(self.exited(container, exit))

    async def exited(self, container: Container, exit: Exit) -> None:
        """Record an exit and do what follows from it. Raises nothing: a failure here must not stop the next container's."""
        try:
            async with container.lock:
                if container.state.pid:  # else: heard of already
                    await self.record(container, exit)
        except Exception:  # the last resort of a task nobody awaits; the container stays listed and can be removed
            log.exception("exit of container %s", container.id)

    async def record(self, container: Container, exit: Exit) -> None:
        """Lock held, or no request served yet."""
        engine, record = self._engine, container.record
        unwatch(container)
        engine.execs.container_exited(container.id)
        await release(engine, container)
        lasted = time.monotonic() - container.started if container.started else 0.0
        again = not self.closing and should_restart(container, exit.code)
        state = container.state.to(
            "restarting" if again else "exited", pid=0, exit_code=exit.code, oom_killed=exit.oom, finished_at=exit.time,
            restart_count=container.state.restart_count + again,
        )  # fmt: skip
        removed = not again and record.host_config.AutoRemove and not container.auto_remove_held
        if removed:
            engine.containers.mark_removing(container, state)
        else:
            await engine.containers.update(container, state=state)
        if exit.oom:
            engine.events.publish("container", "oom", container.id, attributes(record))
        engine.events.publish(
            "container", "die", container.id,
            {**attributes(record), "exitCode": str(exit.code), "execDuration": str(int(lasted))},
        )  # fmt: skip
        if again:
            self.schedule(container, lasted)
        container.announce_exit()
        if removed:
            await discard_ended(engine, container)
        await engine.runtime.forget(container.id)  # only now that the exit is on record, or nothing is left to have one

    def schedule(self, container: Container, lasted: float) -> None:
        """The next try of a restart policy: 100 ms, doubled each time up to a minute, anew after ten good seconds."""
        first = container.backoff == 0 or lasted >= HEALTHY_AFTER
        container.backoff = FIRST_BACKOFF if first else min(container.backoff * 2, LONGEST_BACKOFF)
        container.restart = self._spawn(self._again(container, container.backoff))

    async def _again(self, container: Container, delay: float) -> None:
        """A try that fails is the last one, as in dockerd: what it lacks does not come back by itself."""
        await asyncio.sleep(delay)
        async with container.lock:
            container.restart = None
            if container.state.status != "restarting" or self.closing:
                return
            try:
                await launch(self._engine, container, restarts=container.state.restart_count)
            except EngineError as error:
                log.warning("restart of container %s: %s", container.id, error)
                container.announce_exit(str(error))

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def settle(self) -> None:
        """Cancel sleeping restarts and wait for teardowns under way."""
        for container in self._engine.containers.all():
            if container.restart:
                container.restart.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def release(engine: Engine, container: Container) -> None:
    """What a container holds only while it runs: addresses and ports, mounted volumes, its shareable shm."""
    await disconnected(engine, container)
    for point in container.record.mounts:
        if point.type == "volume":
            await volumes.unmount(engine, container.id, point)
    release_shm(engine, container)


def should_restart(container: Container, code: int) -> bool:
    policy = container.record.host_config.RestartPolicy
    if container.state.stopped_by_user:
        return False
    if policy.Name == "on-failure":
        limit = policy.MaximumRetryCount
        return code != 0 and (limit == 0 or container.state.restart_count < limit)
    return policy.Name in ("always", "unless-stopped")
