"""Where a commit is done: what may wait for a disk in a thread, the rest at once."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from compat_engine.store.records import Put, Records

TABLE = "things"


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[Records]:
    found = Records(tmp_path / "state.db")
    yield found
    found.close()


async def commit(records: Records, key: str, durable: bool, takes: float = 0) -> bool:
    """Whether it was done here."""
    threads: list[threading.Thread] = []

    def first() -> None:
        threads.append(threading.current_thread())
        time.sleep(takes)

    await records.commit(Put(TABLE, key, "{}"), durable=durable, first=first)
    return threads == [threading.current_thread()]


async def test_only_what_has_no_disk_to_wait_for_is_done_at_once(records: Records) -> None:
    assert [await commit(records, "a", durable=True), await commit(records, "b", durable=False)] == [False, True]
    assert set(await records.load(TABLE)) == {"a", "b"}


async def test_one_at_a_time_and_in_order(records: Records) -> None:
    slow = asyncio.create_task(commit(records, "a", durable=True, takes=0.05))
    await asyncio.sleep(0.01)
    assert not await commit(records, "a", durable=False)
    assert slow.done() and not slow.result()


async def test_a_slow_disk_is_waited_for_once(records: Records) -> None:
    assert await commit(records, "a", durable=False, takes=0.01)
    assert not await commit(records, "b", durable=False, takes=0.01)
    assert not await commit(records, "c", durable=False)  # quick again, as this one finds
    assert await commit(records, "d", durable=False)


async def test_what_fails_first_commits_nothing(records: Records) -> None:
    def fail() -> None:
        raise FileExistsError

    for durable in (True, False):
        with pytest.raises(FileExistsError):
            await records.commit(Put(TABLE, "a", "{}"), durable=durable, first=fail)
    assert await records.load(TABLE) == {}


async def test_the_log_does_not_grow_for_ever(tmp_path: Path, records: Records) -> None:
    sizes = []
    for number in range(3000):
        await records.commit(Put(TABLE, str(number % 50), f'"{"x" * 2000}"'), durable=False)
        sizes.append((tmp_path / "state.db-wal").stat().st_size)
    await records.load(TABLE)  # after what the thread was given
    assert max(sizes[2000:]) <= max(sizes[:2000]), "the log is never begun anew"
    assert len(await records.load(TABLE)) == 50
