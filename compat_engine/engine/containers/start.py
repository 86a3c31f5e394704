"""POST /containers/{id}/start: reserve, compile, run; on failure undo all of it in reverse."""

import time
from contextlib import AsyncExitStack

from compat_engine.engine.clock import rfc3339nano
from compat_engine.engine.compile import compile_spec
from compat_engine.engine.containers.create import attributes
from compat_engine.engine.containers.remove import discard
from compat_engine.engine.endpoints import connect, reserve
from compat_engine.engine.parts import Engine
from compat_engine.engine.prepare import prepare
from compat_engine.engine.registry import Container
from compat_engine.errors import Conflict, EngineError, Internal, InvalidParameter, NotModified
from compat_engine.runtime.protocol import StartFailed

PREFIX = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "


async def start(engine: Engine, word: str) -> None:
    """Returns when the process runs. Raises NotModified when it did already, Conflict, and whatever made the start fail."""
    container = engine.containers.find(word)
    async with container.lock:
        status = container.state.status
        if status == "paused":
            raise Conflict("cannot start a paused container, try unpause instead")
        if status == "running" or (status == "restarting" and container.state.pid):
            raise NotModified("container already started")
        if status in ("removing", "dead"):
            raise Conflict("container is marked for removal and cannot be started")
        if container.restart:
            container.restart.cancel()
            container.restart = None
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
            inputs = await prepare(engine, container, endpoints, undo)
            created = await engine.runtime.create(compile_spec(container.record, inputs), attached)
            undo.push_async_callback(created.abort)
            await connect(engine, container, endpoints, created.pid)
            started = await created.go()
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


async def _failed(engine: Engine, container: Container, error: Exception) -> EngineError:
    failure = _as_engine_error(error)
    code = exit_code(str(failure))
    state = container.state.to(
        "created" if container.state.status == "created" else "exited", pid=0, exit_code=code, error=str(failure)
    )
    if state.status == "exited":
        state = state.to("exited", finished_at=rfc3339nano())
    await engine.containers.update(container, state=state)
    if container.record.host_config.AutoRemove:
        await discard(engine, container, volumes=True)
    return failure


def _as_engine_error(error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    if isinstance(error, StartFailed):
        return start_error(error)
    return Internal(str(error))


def start_error(error: StartFailed, prefix: str = PREFIX) -> EngineError:
    """Docker's words for what init reported; the CLI reads its exit code 126 or 127 out of them."""
    text = (
        error.text if error.step in ("user", "cwd-mkdir") else f"{prefix}unable to start container process: {error.text}: unknown"
    )
    if error.step == "exec" and exit_code(text) == 126 and not text.endswith("permission denied"):
        text += ": permission denied"
    return InvalidParameter(text) if exit_code(text) in (126, 127) or error.step in ("user", "cwd-mkdir") else Internal(text)


def exit_code(text: str) -> int:
    """What a failed start leaves as exit code: 127 not found, 126 not executable, 128 else."""
    if "executable file not found" in text or "no such file or directory" in text:
        return 127
    return 126 if any(words in text for words in ("permission denied", "is a directory", "not a directory")) else 128
