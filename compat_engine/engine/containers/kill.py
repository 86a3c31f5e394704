"""POST /containers/{id}/kill: one signal; SIGKILL is waited for."""

import signal as signals

from compat_engine.engine.containers.stop import cancel_restart, kill_and_wait, resume_if_paused, send
from compat_engine.engine.parts import Engine
from compat_engine.engine.validate import signal_number
from compat_engine.errors import Conflict


async def kill(engine: Engine, word: str, signal: str) -> None:
    """signal: name or number, "" is KILL. Raises Conflict when nothing runs."""
    container = engine.containers.find(word)
    number = signal_number(signal) if signal else int(signals.SIGKILL)
    if not container.state.running:
        raise Conflict(f"cannot kill container: {word}: container {container.id} is not running")
    ends = number == signals.SIGKILL or number == signal_number(container.record.config.StopSignal or "SIGTERM")
    async with container.lock:
        if ends:
            await engine.containers.update(container, state=container.state.to(container.state.status, stopped_by_user=True))
        if await cancel_restart(engine, container):
            return
    if not container.state.running:
        return
    if number == signals.SIGKILL:
        await kill_and_wait(engine, container, container.exited())
        return
    await send(engine, container, number)
    if ends:
        await resume_if_paused(engine, container)
