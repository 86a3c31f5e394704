"""A container whose process has ended and whose exit is not yet recorded: to clients it is one that does not run."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from compat_engine.engine import execs
from compat_engine.engine.containers import attach
from compat_engine.engine.containers.kill import kill
from compat_engine.engine.containers.pause import pause
from compat_engine.engine.containers.resize import resize
from compat_engine.engine.containers.top import top
from compat_engine.engine.containers.update import update
from compat_engine.engine.parts import Engine
from compat_engine.errors import Conflict
from compat_engine.runtime.protocol import NotRunning
from compat_engine.wire.container import UpdateRequest
from compat_engine.wire.exec import ExecCreate, ExecStart
from tests.support.parts import Client, make_engine, run


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    """With a container "c" that has just ended, and nobody who records it."""
    async with make_engine(tmp_path) as engine:
        container = await run(engine, "c")
        await engine.runtime.signal(container.id, signal.SIGKILL)
        await asyncio.wait_for(_gone(engine, container.id), 10)
        yield engine


async def _gone(engine: Engine, id: str) -> None:
    with suppress(NotRunning):
        while await engine.runtime.pids(id):
            await asyncio.sleep(0)


async def start_exec(engine: Engine, word: str) -> None:
    id = await execs.create(engine, word, ExecCreate(Cmd=["true"]))
    await (await execs.open(engine, id, ExecStart(Detach=True))).run_detached()


@pytest.mark.parametrize("use", [pause, top, start_exec, lambda engine, word: resize(engine, word, 1, 1)])
async def test_it_is_not_running(engine: Engine, use: Callable[[Engine, str], Awaitable[object]]) -> None:
    with pytest.raises(Conflict, match=f"^container {engine.containers.find('c').id} is not running$"):
        await use(engine, "c")


async def test_an_update_is_recorded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compat_engine.engine.containers.update.discarded", lambda *_: [])  # it looks at the host
    await update(engine, "c", UpdateRequest(BlkioWeight=500))
    assert engine.containers.find("c").record.host_config.BlkioWeight == 500


async def test_a_signal_finds_nobody(engine: Engine) -> None:
    await kill(engine, "c", "USR1")


async def test_one_who_attaches_sees_the_end(engine: Engine) -> None:
    session = await attach.open(engine, "c", attach.AttachOptions(stream=True, stdout=True))
    client = Client()
    await asyncio.wait_for(session.run(client), 10)
    assert not client.received
