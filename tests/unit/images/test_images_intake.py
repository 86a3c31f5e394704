"""Where a client's bytes go before they are the store's."""

import asyncio
import time
from pathlib import Path
from tempfile import mkdtemp

import pytest

from compat_engine.images.intake import workspace


async def enter(tmp: Path) -> None:
    async with workspace(tmp):
        await asyncio.sleep(60)


@pytest.mark.parametrize("wait", [0.0, 0.3])
async def test_a_waiter_cancelled_at_any_time_leaves_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: float) -> None:
    def slowly(suffix: str, prefix: str, directory: Path) -> str:
        time.sleep(0.1)
        return mkdtemp(suffix, prefix, directory)

    monkeypatch.setattr("compat_engine.images.intake.mkdtemp", slowly)
    task = asyncio.ensure_future(enter(tmp_path))
    await asyncio.sleep(0.02 + wait)
    assert len(list(tmp_path.iterdir())) == (1 if wait else 0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.2)
    assert not list(tmp_path.iterdir())


async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await enter(tmp_path / "missing")
