"""POST /containers/{id}/stop: the stop signal, patience, SIGKILL."""

import asyncio
import signal as signals
from contextlib import suppress

from compat_engine.engine.containers.create import attributes
from compat_engine.engine.parts import Engine
from compat_engine.engine.registry import Container, Ended
from compat_engine.engine.validate import signal_number
from compat_engine.errors import Internal, InvalidParameter, NotModified
from compat_engine.runtime.protocol import NotRunning

DEFAULT_TIMEOUT = 10  # seconds
KILL_PATIENCE = 10  # seconds a SIGKILL may take before the container counts as stuck


async def stop(engine: Engine, word: str, timeout: int | None, signal: str) -> None:
    """Returns once the process has ended. timeout: seconds, negative for ever, None the container's own. Raises NotModified."""
    container = engine.containers.find(word)
    await container.settled()
    number = asked_signal(signal, f"cannot stop container: {word}")
    if not container.state.running:
        raise NotModified("container already stopped")
    await asyncio.shield(end(engine, container, timeout, number))
    engine.events.publish("container", "stop", container.id, attributes(container.record))


def asked_signal(word: str, failing: str) -> int | None:
    """The signal a client names, None for "": the container's own. Raises Internal, `failing` and why: as dockerd, no 400."""
    try:
        return signal_number(word) if word else None
    except InvalidParameter as error:
        raise Internal(f"{failing}: {error}") from error


async def end(engine: Engine, container: Container, timeout: int | None, signal: int | None = None, by_user: bool = True) -> None:
    """Stop without asking back or announcing it; also for restart and shutdown (by_user false: restart policies still count)."""
    exited = await leave_alone(engine, container, by_user)
    if not exited:
        return
    config = container.record.config
    if timeout is None:
        timeout = DEFAULT_TIMEOUT if config.StopTimeout is None else config.StopTimeout
    await send(engine, container, signal or signal_number(config.StopSignal or "SIGTERM"))
    await resume_if_paused(engine, container)
    try:
        await asyncio.wait_for(asyncio.shield(exited), None if timeout < 0 else timeout)
    except TimeoutError:
        await kill_and_wait(engine, container, exited)


async def leave_alone(engine: Engine, container: Container, by_user: bool = True) -> asyncio.Future[Ended] | None:
    """Tell the restart policy to keep away: the exit to come, or None when there is no process (any more).

    The lock is held only for that: a kill must get through while a stop waits.
    """
    async with container.lock:
        state = container.state
        if not state.running:
            return None
        if by_user and not state.stopped_by_user:
            await engine.containers.update(container, state=state.to(state.status, stopped_by_user=True))
        if state.status == "restarting":
            container.cancel_restart()
            await engine.containers.update(container, state=container.state.to("exited"))
            container.announce_exit()
            return None
        return container.exited()


async def kill_and_wait(engine: Engine, container: Container, exited: asyncio.Future[Ended]) -> None:
    """SIGKILL and wait. Raises Internal when the kernel does not let go of the process."""
    await send(engine, container, signals.SIGKILL)
    for _ in range(KILL_PATIENCE):
        await resume_if_paused(engine, container)  # each time: somebody may pause it now, before the signal is taken
        done, _pending = await asyncio.wait({exited}, timeout=1)
        if done:
            return
    raise Internal(f"cannot kill container: {container.id}: tried to kill container, but did not receive an exit event")


async def send(engine: Engine, container: Container, number: int) -> None:
    """Deliver a signal and tell of it; a process that is gone already is what the caller wants, not an error."""
    try:
        await engine.runtime.signal(container.id, number)
    except NotRunning:
        return
    engine.events.publish("container", "kill", container.id, {**attributes(container.record), "signal": str(int(number))})


async def resume_if_paused(engine: Engine, container: Container) -> None:
    """A frozen process takes no signal, not even SIGKILL on cgroup v1."""
    if container.state.status == "paused":
        with suppress(NotRunning):  # it has ended
            await engine.runtime.resume(container.id)
