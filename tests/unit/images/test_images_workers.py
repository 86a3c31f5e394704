"""The worker process comes with a job and goes when there was none for a while."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from compat_engine.images import workers
from compat_engine.images.workers import Workers
from tests.support.tars import Item, tar

IDLE = 0.3
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class House:
    def __init__(self, path: Path) -> None:
        self.workers = Workers()
        self.blob, self.root = path / "blob", path / "root"
        self.blob.write_bytes(tar(Item("f", b"data")))
        self.root.mkdir()
        self.others: set[str] = set()

    async def work(self) -> set[str]:
        """One job; the processes there are after it."""
        fds = [os.open(path, os.O_RDONLY) for path in (self.blob, self.root)]
        await self.workers.run("extract", fds)
        for fd in fds:
            os.close(fd)
        return self.processes()

    def processes(self) -> set[str]:
        """Children of ours, zombies too."""
        return {word for task in Path("/proc/self/task").glob("*/children") for word in task.read_text().split()} - self.others


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(workers, "IDLE_SECONDS", IDLE)
    house = House(tmp_path)
    house.others = house.processes()
    yield house
    await house.workers.close()
    assert not house.processes()


async def test_it_goes_when_it_is_not_wanted_any_more(house: House) -> None:
    assert len(first := await house.work()) == 1
    while house.processes():
        await asyncio.sleep(0.02)
    assert len(second := await house.work()) == 1 and first != second


async def test_it_stays_while_it_is_wanted(house: House) -> None:
    seen = set()
    for _ in range(8):
        seen |= await house.work()
        await asyncio.sleep(IDLE / 3)
    assert len(seen) == 1


async def test_one_that_was_killed_is_replaced(house: House) -> None:
    (pid,) = await house.work()
    os.kill(int(pid), 9)
    while ") Z " not in Path(f"/proc/{pid}/stat").read_text():
        await asyncio.sleep(0.01)
    assert len(await house.work() - {pid}) == 1
    while pid in house.processes():
        await asyncio.sleep(0.02)  # reaped as well
