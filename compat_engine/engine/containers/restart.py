"""POST /containers/{id}/restart: stop when running, then start; never 304."""

import asyncio

from compat_engine.engine.containers.create import attributes
from compat_engine.engine.containers.start import launch
from compat_engine.engine.containers.stop import asked_signal, end
from compat_engine.engine.parts import Engine
from compat_engine.engine.registry import Container
from compat_engine.errors import Conflict


async def restart(engine: Engine, word: str, timeout: int | None, signal: str) -> None:
    """Returns when the new process runs. Raises what `stop` and `start` raise."""
    container = engine.containers.find(word)
    number = asked_signal(signal, f"Cannot restart container {word}")
    # A client that leaves must not leave the container stopped half way.
    await asyncio.shield(_restart(engine, container, timeout, number))


async def _restart(engine: Engine, container: Container, timeout: int | None, number: int | None) -> None:
    if container.state.running:
        container.auto_remove_held = True
        try:
            await end(engine, container, timeout, number)
            engine.events.publish("container", "stop", container.id, attributes(container.record))
        finally:
            container.auto_remove_held = False
    async with container.lock:
        if container.state.status in ("removing", "dead"):
            raise Conflict("container is marked for removal and cannot be started")
        if container.state.status not in ("running", "paused"):  # somebody else may have started, and paused it
            await launch(engine, container, restarts=0)
    engine.events.publish("container", "restart", container.id, attributes(container.record))
