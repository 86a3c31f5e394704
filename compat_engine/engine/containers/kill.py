"""POST /containers/{id}/kill: one signal; SIGKILL is waited for."""

import signal as signals

from compat_engine.engine.containers.stop import kill_and_wait, leave_alone, resume_if_paused, send
from compat_engine.engine.parts import Engine
from compat_engine.engine.validate import signal_number
from compat_engine.errors import Conflict, InvalidParameter, NotFound


async def kill(engine: Engine, word: str, signal: str) -> None:
    """signal: name or number, "" is KILL. Raises InvalidParameter for another, whether there is a container or not, as dockerd;
    NotFound, Conflict when nothing runs."""
    try:
        number = signal_number(signal) if signal else int(signals.SIGKILL)
        container = engine.containers.find(word)
    except (InvalidParameter, NotFound) as error:
        raise type(error)(f"cannot kill container: {word}: {error}") from error
    await container.settled()
    if not container.state.running:
        raise Conflict(f"cannot kill container: {word}: container {container.id} is not running")
    if container.state.status == "restarting":  # whatever the signal, it ends the wait for the next try
        await leave_alone(engine, container)
        return
    if number != signals.SIGKILL and number != signal_number(container.record.config.StopSignal or "SIGTERM"):
        await send(engine, container, number)
        return
    exited = await leave_alone(engine, container)
    if not exited:
        return
    if number == signals.SIGKILL:
        await kill_and_wait(engine, container, exited)
    else:
        await send(engine, container, number)
        await resume_if_paused(engine, container)
