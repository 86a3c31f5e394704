"""GET /containers/{id}/export: the root filesystem as a tar, without volumes."""

from collections.abc import AsyncIterator

from compat_engine.engine.containers import roots
from compat_engine.engine.containers.create import attributes
from compat_engine.engine.parts import Engine


async def export(engine: Engine, word: str) -> AsyncIterator[bytes]:
    """Raises NotFound, Conflict with the first piece."""
    container = roots.find(engine, word)
    await container.settled()
    engine.events.publish("container", "export", container.id, attributes(container.record))
    with roots.failures(container):
        async for piece in engine.images.roots.export(roots.alone(engine, container)):
            yield piece
