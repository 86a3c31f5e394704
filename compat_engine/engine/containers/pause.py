"""POST /containers/{id}/pause and /unpause: the cgroup freezer."""

from compat_engine.engine.containers.create import attributes
from compat_engine.engine.parts import Engine
from compat_engine.errors import Conflict, Internal


async def pause(engine: Engine, word: str) -> None:
    """Returns when every process is frozen. Raises NotFound, Conflict."""
    container = engine.containers.find(word)
    async with container.lock:
        status = container.state.status
        if status == "paused":
            raise Conflict(f"Container {container.id} is already paused")
        if status == "restarting":
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        if status != "running":
            raise Conflict(f"container {container.id} is not running")
        await engine.runtime.pause(container.id)
        await engine.containers.update(container, state=container.state.to("paused"))
    engine.events.publish("container", "pause", container.id, attributes(container.record))


async def unpause(engine: Engine, word: str) -> None:
    """Raises NotFound; Internal when it is not paused, as dockerd."""
    container = engine.containers.find(word)
    async with container.lock:
        if container.state.status != "paused":
            raise Internal(f"Container {container.id} is not paused")
        await engine.runtime.resume(container.id)
        await engine.containers.update(container, state=container.state.to("running"))
    engine.events.publish("container", "unpause", container.id, attributes(container.record))
