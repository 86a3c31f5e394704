"""At start: find the shims that lived on, hear of the exits that happened meanwhile, finish or forget what a crash left half."""

import asyncio
import logging
import shutil

from compat_engine.engine.clock import rfc3339nano
from compat_engine.engine.containers.remove import discard
from compat_engine.engine.containers.start import launch
from compat_engine.engine.endpoints import resolve
from compat_engine.engine.health import watch
from compat_engine.engine.monitor import Monitor
from compat_engine.engine.parts import Engine
from compat_engine.engine.prepare import release_shm
from compat_engine.engine.registry import Container
from compat_engine.errors import EngineError
from compat_engine.runtime.protocol import Exit

log = logging.getLogger(__name__)
LOST = 255  # exit code of a container whose end nobody recorded: the host went down


async def recover(engine: Engine, monitor: Monitor) -> None:
    """Before the first request is served: adopt, settle those that ended, sweep. Restarts follow in `resume`."""
    containers = {container.id: container for container in engine.containers.all()}
    adopted = await engine.runtime.adopt(list(containers))
    ended = {exit.id: exit for exit in adopted.ended}
    for id, container in containers.items():
        if id in adopted.live:
            await _adopt(engine, container, adopted.live[id])
            continue
        release_shm(engine, container)  # of a start that was cut short
        if id in ended:
            if ended[id].time != container.state.finished_at:  # else: recorded already, and the runtime not yet told
                await monitor.record(container, ended[id])
        elif container.state.status == "restarting":
            if not _returns(container):
                await engine.containers.update(container, state=container.state.to("exited"))
        elif container.state.pid or container.state.running:
            await monitor.record(container, Exit(id, LOST, False, rfc3339nano()))
    await engine.networks.keep(adopted.live)  # a start that was under way has reserved addresses
    await _sweep(engine)


async def resume(engine: Engine, monitor: Monitor) -> None:
    """Restart policies, once requests are served, counting anew; who was stopped by hand returns too, unless `unless-stopped`."""
    for container in engine.containers.all():
        async with container.lock:
            if container.state.status in ("exited", "restarting") and not container.restart and _returns(container):
                try:
                    await launch(engine, container, restarts=0)
                except EngineError as error:
                    log.warning("container %s does not start: %s", container.id, error)


async def _adopt(engine: Engine, container: Container, pid: int) -> None:
    for point in container.record.mounts:
        if point.type == "volume":
            await engine.volumes.mount(point.name, container.id)  # it counts among those that keep it mounted
    if container.state.pid != pid:
        # Its start was done, and the daemon died before it could write that down.
        await engine.containers.update(container, state=container.state.to("running", pid=pid, started_at=rfc3339nano()))
    await _resolve(engine, container, pid)
    watch(engine, container)


async def _resolve(engine: Engine, container: Container, pid: int) -> None:
    """It may have ended by now; and a container without names is better than no daemon."""
    try:
        await resolve(engine, container, pid)
    except EngineError as error:
        log.warning("names for container %s: %s", container.id, error)


def _returns(container: Container) -> bool:
    """Also what failed under `on-failure`, while it has tries left; as in dockerd."""
    policy, state = container.record.host_config.RestartPolicy, container.state
    if policy.Name == "on-failure":
        return state.exit_code != 0 and (policy.MaximumRetryCount == 0 or state.restart_count < policy.MaximumRetryCount)
    return policy.Name == "always" or (policy.Name == "unless-stopped" and not state.stopped_by_user)


async def _sweep(engine: Engine) -> None:
    """Directories and layers whose record is gone, or never came to be; --rm containers that have ended."""
    for container in engine.containers.all():
        if container.record.host_config.AutoRemove and container.state.status == "exited":
            await discard(engine, container, volumes=True)
    known = {container.id for container in engine.containers.all()}
    await engine.images.snapshots.sweep(known)
    for path in engine.tree.containers.iterdir():
        if path.name not in known:
            await asyncio.to_thread(shutil.rmtree, path, True)
