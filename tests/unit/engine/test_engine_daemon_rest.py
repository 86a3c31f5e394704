"""When the daemon gives memory back."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from compat_engine import daemon


async def test_memory_is_given_back_once_after_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    trims: list[int] = []
    server = SimpleNamespace(requests_count=0)
    monkeypatch.setattr(daemon, "_REST", 0.02)
    monkeypatch.setattr(daemon, "trim_memory", lambda: trims.append(server.requests_count))
    task = asyncio.create_task(daemon._trim_at_rest(cast(Any, SimpleNamespace(server=server))))
    for few in (0, daemon._MANY - 1):
        server.requests_count = few
        await asyncio.sleep(0.15)
    assert trims == []
    for _ in range(20):  # busy
        server.requests_count += daemon._MANY
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    task.cancel()
    assert trims == [server.requests_count]
