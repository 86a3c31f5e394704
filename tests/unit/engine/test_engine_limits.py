from types import SimpleNamespace
from typing import Any, cast

import pytest

from compat_engine.engine.limits import discarded
from compat_engine.wire.container import HostConfig


@pytest.mark.parametrize(
    ("kept", "memory", "beginnings"),
    [
        (True, 0, ["OOM killer is disabled for the container, but no memory limit is set"]),
        (True, 10 << 20, []),
        (False, 0, ["Your kernel does not support OomKillDisable"]),
    ],
)
def test_a_warning_of_no_oom_killer(kept: bool, memory: int, beginnings: list[str]) -> None:
    cgroups = cast(Any, SimpleNamespace(version=1, has=lambda file, parent: kept or file != "memory.oom_control"))
    warnings = discarded(HostConfig(OomKillDisable=True, Memory=memory), cgroups, "/")
    assert len(warnings) == len(beginnings)
    assert all(text.startswith(beginning) for text, beginning in zip(warnings, beginnings, strict=True))
