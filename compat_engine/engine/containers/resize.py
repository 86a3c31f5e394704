"""POST /containers/{id}/resize."""

from compat_engine.engine.containers.create import attributes
from compat_engine.engine.parts import Engine


async def resize(engine: Engine, word: str, rows: int, columns: int) -> None:
    """The size of the container's terminal, in characters. Raises NotFound, Conflict while it does not run."""
    container = engine.containers.running(word)
    await engine.runtime.resize(container.id, rows, columns)
    size = {"height": str(rows), "width": str(columns)}
    engine.events.publish("container", "resize", container.id, {**attributes(container.record), **size})
