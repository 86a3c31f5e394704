"""Volume use cases: what /volumes answers, and the events."""

import logging
from contextlib import suppress
from typing import Any

from compat_engine.engine.filters import Filters, any_match, boolean_filter, check_filters, labels_match, prunable_labels
from compat_engine.engine.parts import Engine
from compat_engine.engine.records import MountPoint
from compat_engine.errors import Conflict, EngineError, InvalidParameter, NotFound
from compat_engine.ids import new_id
from compat_engine.units import boolean
from compat_engine.volumes.model import ANONYMOUS, Volume
from compat_engine.wire.volume import VolumeCreate

log = logging.getLogger(__name__)
_LIST_FILTERS = frozenset(("dangling", "driver", "label", "name"))
_PRUNE_FILTERS = frozenset(("label", "label!", "all"))


async def create(engine: Engine, request: VolumeCreate) -> dict[str, Any]:
    """POST /volumes/create: the volume of that name, made unless it is there."""
    name, labels = request.Name, request.Labels
    if not name:
        name, labels = new_id(), {**(labels or {}), ANONYMOUS: ""}
    known = engine.volumes.exists(name)
    volume = await engine.volumes.create(name, request.Driver, request.DriverOpts, labels)
    if not known:
        engine.events.publish("volume", "create", name, {"driver": volume.driver})
    return view(volume)


def inspect(engine: Engine, name: str) -> dict[str, Any]:
    """GET /volumes/{name}. Raises NotFound."""
    return view(engine.volumes.get(name))


def list_volumes(engine: Engine, filters: Filters) -> dict[str, Any]:
    """GET /volumes. Raises InvalidParameter for a filter that is not known."""
    check_filters(filters, _LIST_FILTERS)
    dangling = boolean_filter(filters, "dangling")
    used = _used(engine) if dangling is not None else {}
    found = [
        view(volume)
        for volume in engine.volumes.list()
        if any_match(filters.get("name", ()), [volume.name])
        and (not filters.get("driver") or volume.driver in filters["driver"])
        and labels_match(filters, volume.labels)
        and (dangling is None or dangling == (volume.name not in used))
    ]
    return {"Volumes": found, "Warnings": None}


async def remove(engine: Engine, name: str, force: bool) -> None:
    """DELETE /volumes/{name}. Raises NotFound (not with force), Conflict while a container has it."""
    if not engine.volumes.exists(name):
        await engine.volumes.remove(name, force)
        return
    if users := _used(engine).get(name):
        raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
    await engine.volumes.remove(name, force)
    engine.events.publish("volume", "destroy", name, {"driver": "local"})


async def prune(engine: Engine, filters: Filters) -> dict[str, Any]:
    """POST /volumes/prune: what no container has; named volumes only with the filter all=true (API 1.42)."""
    check_filters(filters, _PRUNE_FILTERS)
    everything = _all(filters)
    used = _used(engine)
    deleted, reclaimed = [], 0
    for volume in engine.volumes.list():
        if volume.name in used or not (everything or volume.anonymous) or not prunable_labels(filters, volume.labels):
            continue
        try:
            size = await engine.volumes.usage(volume.name)
            await remove(engine, volume.name, False)
        except EngineError:
            continue  # taken, or removed, by somebody else meanwhile
        deleted.append(volume.name)
        reclaimed += size
    engine.events.publish("volume", "prune", "", {"reclaimed": str(reclaimed)})
    return {"VolumesDeleted": deleted, "SpaceReclaimed": reclaimed}


async def mount(engine: Engine, container: str, point: MountPoint) -> None:
    """Before a container starts. Raises NotFound, Internal."""
    await engine.volumes.mount(point.name, container)
    where = {"destination": point.destination, "propagation": point.propagation, "read/write": str(point.rw).lower()}
    engine.events.publish("volume", "mount", point.name, {"container": container, "driver": point.driver, **where})


async def unmount(engine: Engine, container: str, point: MountPoint) -> None:
    """After it has ended, or could not be started. A failure is logged: the rest of the teardown has to go on."""
    try:
        await engine.volumes.unmount(point.name, container)
    except EngineError as error:
        log.warning("volume %s: %s", point.name, error)
    engine.events.publish("volume", "unmount", point.name, {"container": container, "driver": point.driver})


def view(volume: Volume) -> dict[str, Any]:
    """A volume as the API shows it."""
    return {
        "CreatedAt": volume.created,
        "Driver": volume.driver,
        "Labels": volume.labels,
        "Mountpoint": str(volume.mountpoint),
        "Name": volume.name,
        "Options": volume.options,
        "Scope": volume.scope,
    }


async def usage(engine: Engine) -> list[dict[str, Any]]:
    """All volumes with UsageData, as `system df` shows them."""
    used = _used(engine)
    found = []
    for volume in engine.volumes.list():
        with suppress(NotFound):  # removed while others were measured
            size = await engine.volumes.usage(volume.name)
            found.append({**view(volume), "UsageData": {"Size": size, "RefCount": len(used.get(volume.name, ()))}})
    return found


def _used(engine: Engine) -> dict[str, list[str]]:
    """volume name -> ids of the containers that have it, running or not."""
    used: dict[str, list[str]] = {}
    for container in engine.containers.all():
        for name in {point.name for point in container.record.mounts if point.type == "volume"}:
            used.setdefault(name, []).append(container.id)
    return used


def _all(filters: Filters) -> bool:
    try:
        return True in {boolean(value) for value in filters.get("all", ())}  # each is read, also behind a true one
    except InvalidParameter as error:
        raise InvalidParameter(f"invalid filter 'all': {error}") from error
