"""GET /containers/{id}/changes: `docker diff`."""

from typing import Any

from compat_engine.engine.containers import roots
from compat_engine.engine.parts import Engine


async def changes(engine: Engine, word: str) -> list[dict[str, Any]] | None:
    """Path and Kind (0 modified, 1 added, 2 deleted); None when nothing changed. Raises NotFound, Conflict."""
    container = roots.find(engine, word)
    with roots.failures(container):
        found = await engine.images.roots.changes(engine.images.snapshots.overlay(container.id))
    return [{"Path": path, "Kind": kind} for path, kind in found] or None
