from types import SimpleNamespace
from typing import Any

import pytest

from compat_engine.engine.containers import restart
from compat_engine.engine.records import ContainerRecord, RunState
from compat_engine.engine.registry import Container
from compat_engine.wire.container import Config, HostConfig


@pytest.mark.parametrize(("meanwhile", "launches"), [("exited", 1), ("running", 0), ("paused", 0)])
async def test_what_others_do_between_stop_and_start(meanwhile: str, launches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    record = ContainerRecord(
        id="ab" * 32, name="c", created="", config=Config(), host_config=HostConfig(), image="", endpoints={}, args=("sh",)
    )
    container = Container(record, RunState().to("running", pid=5))
    launched = []

    async def end(*_: Any) -> None:
        container.state = container.state.to(meanwhile, pid=0 if meanwhile == "exited" else 6)

    async def launch(*_: Any, restarts: int) -> None:
        launched.append(restarts)

    monkeypatch.setattr(restart, "end", end)
    monkeypatch.setattr(restart, "launch", launch)
    engine: Any = SimpleNamespace(
        containers=SimpleNamespace(find=lambda word: container), events=SimpleNamespace(publish=lambda *_: None)
    )
    await restart.restart(engine, "c", 0, "")
    assert len(launched) == launches
