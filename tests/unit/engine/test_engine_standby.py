"""Who is made ready after a create, for how long, and what ends it. What making ready is stands in for by a counter here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from compat_engine.engine import standby
from compat_engine.engine.containers.remove import remove
from compat_engine.engine.containers.rename import rename
from compat_engine.engine.containers.update import update
from compat_engine.engine.parts import Engine
from compat_engine.engine.records import Link, MountPoint
from compat_engine.engine.registry import Container
from compat_engine.errors import Internal
from compat_engine.wire.container import UpdateRequest
from tests.support.parts import add, make_engine


class Maker:
    """In make_ready's place: counts, tells what it gave to whom, and what was undone."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.undone: list[str] = []
        self.pause = asyncio.Event()
        self.pause.set()
        self.error: Exception | None = None
        self.ended = False

    async def __call__(self, engine: Engine, container: Container, undo: AsyncExitStack) -> Any:
        undo.callback(self.undone.append, container.name)
        await self.pause.wait()
        if self.error:
            raise self.error
        self.made.append(container.name)
        return self


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with make_engine(tmp_path) as engine:
        yield engine


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Maker:
    maker = Maker()
    monkeypatch.setattr(standby, "make_ready", maker)
    return maker


async def test_a_start_takes_what_was_made(engine: Engine, maker: Maker) -> None:
    container = await add(engine, "one")
    maker.pause.clear()
    engine.standby.offer(engine, container)
    async with AsyncExitStack() as undo:
        taking = asyncio.create_task(engine.standby.take(engine, container, undo))
        await asyncio.sleep(0)
        maker.pause.set()  # a start that comes before it is ready waits for it
        assert cast(Any, await taking) is maker
        assert (maker.made, maker.undone) == (["one"], [])
    assert maker.undone == ["one"]  # a start that fails later


async def test_without_one_a_start_makes_its_own(engine: Engine, maker: Maker) -> None:
    one, other = await add(engine, "one"), await add(engine, "other")
    engine.standby.offer(engine, one)
    await asyncio.sleep(0)
    async with AsyncExitStack() as undo:
        await engine.standby.take(engine, other, undo)
    assert maker.made == ["one", "other"] and maker.undone == ["other"]


async def test_what_fails_is_tried_again_by_the_start(engine: Engine, maker: Maker) -> None:
    container = await add(engine, "one")
    maker.error = Internal("not now")
    engine.standby.offer(engine, container)
    await asyncio.sleep(0.01)
    assert maker.undone == ["one"]
    maker.error = None
    async with AsyncExitStack() as undo:
        assert cast(Any, await engine.standby.take(engine, container, undo)) is maker
    assert maker.made == ["one"]


async def test_what_has_ended_meanwhile_is_made_again(engine: Engine, maker: Maker) -> None:
    container = await add(engine, "one")
    engine.standby.offer(engine, container)
    await asyncio.sleep(0.01)
    maker.ended = True
    async with AsyncExitStack() as undo:
        await engine.standby.take(engine, container, undo)
        assert (maker.made, maker.undone) == (["one", "one"], ["one"])
    assert maker.undone == ["one", "one"]


async def test_one_at_a_time_and_not_for_long(engine: Engine, maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "SECONDS", 0.02)
    one, other = await add(engine, "one"), await add(engine, "other")
    engine.standby.offer(engine, one)
    engine.standby.offer(engine, other)
    await asyncio.sleep(0.005)
    assert maker.made == ["one"] and maker.undone == []
    await asyncio.sleep(0.05)
    assert maker.undone == ["one"]
    engine.standby.offer(engine, other)
    await asyncio.sleep(0.005)
    assert maker.made == ["one", "other"]


async def test_what_changes_a_container_dismisses_it(engine: Engine, maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compat_engine.engine.containers.update.discarded", lambda *asked: [])
    container = await add(engine, "one")
    engine.standby.offer(engine, container)
    await rename(engine, "one", "two")
    assert maker.undone == ["one"]
    engine.standby.offer(engine, container)
    await update(engine, "two", UpdateRequest(PidsLimit=5))
    assert maker.undone == ["one", "two"]
    engine.standby.offer(engine, container)
    await remove(engine, "two", force=False, volumes=False, link=False)
    assert maker.undone == ["one", "two", "two"]


async def test_the_end_of_the_daemon_dismisses_it(engine: Engine, maker: Maker) -> None:
    engine.standby.offer(engine, await add(engine, "one"))
    await engine.standby.close()
    assert maker.made == maker.undone == ["one"]


async def test_the_end_of_the_daemon_waits_for_one_that_expires(
    engine: Engine, maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "SECONDS", 0.0)
    maker.pause.clear()
    engine.standby.offer(engine, await add(engine, "one"))
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(engine.standby.close())
    await asyncio.sleep(0.01)
    assert not closing.done()
    maker.pause.set()
    await closing
    assert maker.undone == ["one"]


@pytest.mark.parametrize(
    "host",
    [
        {"NetworkMode": "container:other"},
        {"PidMode": "container:other"},
        {"IpcMode": "container:other"},
        {"IpcMode": "shareable"},
        {"Privileged": True},
        {"Tmpfs": {"/t": ""}},
        {"Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"}]},
    ],
)
async def test_what_is_not_the_engines_own_is_not_made_ready(engine: Engine, maker: Maker, host: dict[str, object]) -> None:
    engine.standby.offer(engine, await add(engine, "one", host=host))
    await asyncio.sleep(0.01)
    assert maker.made == []


@pytest.mark.parametrize("type", ["bind", "volume", "image", "tmpfs"])
async def test_one_with_mounts_is_not_made_ready(engine: Engine, maker: Maker, type: str) -> None:
    mount = MountPoint(type=type, source="/x", destination="/y")
    engine.standby.offer(engine, await add(engine, "one", mounts=(mount,)))
    await asyncio.sleep(0.01)
    assert maker.made == []


async def test_one_that_is_busy_or_runs_is_left_alone(engine: Engine, maker: Maker) -> None:
    container = await add(engine, "one")
    async with container.lock:
        engine.standby.offer(engine, container)
    await engine.containers.update(container, state=container.state.to("running", pid=1))
    engine.standby.offer(engine, container)
    linked = await add(engine, "two")
    linked.record = replace(linked.record, links=(Link("a", "b", "c"),))
    engine.standby.offer(engine, linked)
    await asyncio.sleep(0.01)
    assert maker.made == []
