"""POST /containers/{id}/start: reserve, compile, run; on failure undo all of it in reverse."""

import time
from contextlib import AsyncExitStack

from compat_engine.engine.containers.create import attributes
from compat_engine.engine.containers.remove import discard
from compat_engine.engine.endpoints import connect, disconnected, reserve
from compat_engine.engine.failures import exit_code, start_error
from compat_engine.engine.health import watch
from compat_engine.engine.mounts import check_sources
from compat_engine.engine.netfiles import write_network_files
from compat_engine.engine.parts import Engine
from compat_engine.engine.registry import Container
from compat_engine.errors import Conflict, EngineError, Internal, InvalidParameter, NotModified
from compat_engine.runtime.protocol import StartFailed


async def start(engine: Engine, word: str) -> None:
    """Returns when the process runs. Raises NotModified when it did already, Conflict, InvalidParameter, and what made
    the start fail."""
    container = engine.containers.find(word)
    async with container.lock:
        status = container.state.status
        if status == "paused":
            raise Conflict("cannot start a paused container, try unpause instead")
        if status in ("running", "restarting"):
            raise NotModified("container already started")
        if status in ("removing", "dead"):
            raise Conflict("container is marked for removal and cannot be started")
        check_sources(container.record.host_config)
        container.backoff = 0.0
        await launch(engine, container, restarts=0)


async def launch(engine: Engine, container: Container, restarts: int) -> None:
    """The container's lock is held. Leaves a failed start recorded (State.Error, exit code) and nothing of it in the kernel."""
    attached, container.attached = container.attached, []
    try:
        async with AsyncExitStack() as undo:
            for end, _ in attached:
                undo.callback(end.close)
            endpoints = await reserve(engine, container)
            undo.push_async_callback(engine.networks.release, container.id)
            write_network_files(engine, container, endpoints)
            created = await engine.standby.take(engine, container, undo)
            try:
                await connect(engine, container, endpoints, created.pid)
            except EngineError as error:  # init may have failed first, and taken its namespace along
                raise await created.failure() or error from error
            undo.push_async_callback(disconnected, engine, container)
            started = await created.go(attached)
            undo.pop_all()
    except (StartFailed, EngineError, OSError) as error:
        raise await _failed(engine, container, error) from error
    container.started = time.monotonic()
    state = container.state.to(
        "running", pid=created.pid, started_at=started, error="", oom_killed=False, exit_code=0,
        restart_count=restarts, stopped_by_user=False,
    )  # fmt: skip
    await engine.containers.update(container, state=state)
    engine.events.publish("container", "start", container.id, attributes(container.record))
    watch(engine, container)


async def _failed(engine: Engine, container: Container, error: Exception) -> EngineError:
    failure = _as_engine_error(error)
    before = container.state
    code = exit_code(str(failure)) if isinstance(error, StartFailed) else 128
    if before.status == "restarting":
        code = before.exit_code  # a policy's: of the run before
    status = "created" if before.status == "created" else "exited"
    state = before.to(status, pid=0, exit_code=code, error=str(failure))
    await engine.containers.update(container, state=state)
    if container.record.host_config.AutoRemove:
        await discard(engine, container, volumes=True)
    return failure


def _as_engine_error(error: Exception) -> EngineError:
    if isinstance(error, InvalidParameter):
        return Internal(str(error))  # the fault is not this request's, as dockerd sees it
    if isinstance(error, EngineError):
        return error
    if isinstance(error, StartFailed):
        return start_error(error)
    return Internal(str(error))
