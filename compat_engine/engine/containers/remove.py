"""DELETE /containers/{id}: the record goes first, then what belonged to it; a crash between is swept at the next start."""

import asyncio
import logging
import shutil
from dataclasses import replace

from compat_engine.engine.containers.create import attributes
from compat_engine.engine.containers.stop import kill_and_wait, leave_alone
from compat_engine.engine.parts import Engine
from compat_engine.engine.registry import Container
from compat_engine.errors import Conflict, EngineError, Internal

log = logging.getLogger(__name__)


async def remove(engine: Engine, word: str, force: bool, volumes: bool, link: bool) -> None:
    """volumes: anonymous ones too. link: nothing but the link of that name ("holder/alias").

    Raises Conflict while it runs (without force) or is being removed already.
    """
    if link:
        await _unlink(engine, word)
        return
    container = engine.containers.find(word)
    if container.state.status != "removing":
        await container.settled()
    if container.state.status == "removing":
        raise Conflict(f"removal of container {container.id} is already in progress")
    if container.state.running and not force:
        raise Conflict(f'cannot remove container "/{container.name}": {_obstacle(container.state.status)}')
    await asyncio.shield(_remove(engine, container, force, volumes))


async def _unlink(engine: Engine, word: str) -> None:
    """`rm --link holder/alias`: the container it leads to stays. Raises NotFound; Internal for a container's own name."""
    engine.containers.find(word)
    holder, link = engine.containers.linked(word)
    if not holder:
        raise Internal("Conflict, cannot remove the default link name of the container")
    rest = tuple(other for other in holder.record.links if other != link)
    await engine.containers.update(holder, record=replace(holder.record, links=rest))


def _obstacle(status: str) -> str:
    if status == "paused":
        return "container is paused and must be unpaused first"
    if status == "restarting":
        return "container is restarting: stop the container before removing or force remove"
    return "container is running: stop the container before removing or force remove"


async def _remove(engine: Engine, container: Container, force: bool, volumes: bool) -> None:
    if force and (exited := await leave_alone(engine, container)):
        await kill_and_wait(engine, container, exited)
    async with container.lock:
        if engine.containers.get(container.id) is not container:
            return  # --rm was faster
        if container.state.running:
            raise Conflict(f'cannot remove container "/{container.name}": {_obstacle(container.state.status)}')
        await discard(engine, container, volumes)


async def discard(engine: Engine, container: Container, volumes: bool) -> None:
    """Lock held, nothing runs. Readers see `removing` until it is gone."""
    await engine.standby.dismiss(container)
    engine.containers.mark_removing(container, container.state)
    await engine.containers.erase(container)
    _leave(engine, container)
    await _clear(engine, container, volumes)


async def discard_ended(engine: Engine, container: Container) -> None:
    """The same for --rm after an exit. Here it may be gone before it is from the disk: a daemon that finds the record there
    finds that it has ended, and does this again."""
    _leave(engine, container)
    await engine.containers.erase(container)
    await _clear(engine, container, volumes=True)


def _leave(engine: Engine, container: Container) -> None:
    container.drop_attached()
    engine.execs.forget(container.id)
    engine.containers.forget(container)
    engine.events.publish("container", "destroy", container.id, attributes(container.record))
    container.announce_removal()


async def _clear(engine: Engine, container: Container, volumes: bool) -> None:
    """Its files; a sweep finds what a crash leaves of them."""
    await engine.images.snapshots.remove(container.id)
    await asyncio.to_thread(shutil.rmtree, engine.tree.container(container.id), True)
    if volumes:
        await _anonymous_volumes(engine, container)


async def _anonymous_volumes(engine: Engine, container: Container) -> None:
    for point in container.record.mounts:
        if point.anonymous and not _used(engine, point.name):
            try:
                await engine.volumes.remove(point.name, True)
            except EngineError as error:
                log.warning("anonymous volume %s stays: %s", point.name, error)
                continue
            engine.events.publish("volume", "destroy", point.name, {"driver": point.driver})


def _used(engine: Engine, volume: str) -> bool:
    return any(point.name == volume for container in engine.containers.all() for point in container.record.mounts)
