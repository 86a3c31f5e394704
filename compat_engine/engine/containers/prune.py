"""POST /containers/prune."""

from typing import Any
from weakref import WeakSet

from compat_engine.engine.containers.remove import remove
from compat_engine.engine.filters import Filters, check_filters, prunable_labels, until
from compat_engine.engine.humantime import seconds_of
from compat_engine.engine.parts import Engine
from compat_engine.engine.registry import Container, Registry
from compat_engine.errors import Conflict, EngineError

_ACCEPTED = frozenset(("until", "label", "label!"))
_under_way: WeakSet[Registry] = WeakSet()


async def prune(engine: Engine, filters: Filters) -> dict[str, Any]:
    """Remove what does not run. Raises InvalidParameter, and Conflict while another prune is under way."""
    check_filters(filters, _ACCEPTED)
    before = until(filters)
    if engine.containers in _under_way:
        raise Conflict("a prune operation is already running")
    _under_way.add(engine.containers)
    try:
        deleted, reclaimed = await _prune(engine, [item for item in engine.containers.all() if _wanted(item, before, filters)])
    finally:
        _under_way.discard(engine.containers)
    engine.events.publish("container", "prune", "", {"reclaimed": str(reclaimed)})
    return {"ContainersDeleted": deleted or None, "SpaceReclaimed": reclaimed}


async def _prune(engine: Engine, containers: list[Container]) -> tuple[list[str], int]:
    deleted, reclaimed = [], 0
    for container in containers:
        try:
            size = await engine.images.snapshots.usage(container.id)
            await remove(engine, container.id, force=False, volumes=False, link=False)
        except EngineError:
            continue  # started, or removed, by somebody else meanwhile
        deleted.append(container.id)
        reclaimed += size
    return deleted, reclaimed


def _wanted(container: Container, before: float | None, filters: Filters) -> bool:
    if container.state.running or container.state.status == "removing":
        return False
    if before is not None and seconds_of(container.record.created) > before:
        return False
    return prunable_labels(filters, container.record.config.Labels)
