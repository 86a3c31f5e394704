"""Cgroups of this host, whichever version it has. Needs root."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from compat_engine.errors import Internal
from compat_engine.runtime.cgroups import devices, files
from compat_engine.runtime.cgroups.group import Group
from compat_engine.runtime.cgroups.manager import Cgroups
from compat_engine.runtime.cgroups.resources import Resources
from compat_engine.runtime.cgroups.v2 import V2Group

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@dataclass
class Running:
    group: Group
    process: subprocess.Popen[bytes]


def joined(group: Group, *command: str, stdout: int | None = None) -> subprocess.Popen[bytes]:
    def join() -> None:
        for directory in group.directories:
            files.put(directory, "cgroup.procs", "0")

    return subprocess.Popen(command or ("sleep", "60"), stdout=stdout, preexec_fn=join)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    cgroups, parent = Cgroups.detect(tmp_path), f"test-{os.getpid()}"
    resources = Resources(memory=64 << 20, memory_swap=64 << 20, nano_cpus=500_000_000, pids_limit=20)
    plan = cgroups.plan("one", parent, resources, devices.DEFAULT)
    for item in plan:
        os.mkdir(item.path)
        for file, value in item.writes:
            files.write(item.path, file, value)
    group = cgroups.group(plan)
    process = joined(group)
    yield Running(group, process)
    process.kill()
    process.wait()
    await group.destroy()
    for directory in group.directories:
        assert not os.path.exists(directory)
        os.rmdir(os.path.dirname(directory))


async def test_usage_and_update(running: Running) -> None:
    usage = running.group.usage()
    assert running.group.pids() == [running.process.pid]
    assert (usage.pids, usage.pids_limit, usage.memory_limit) == (1, 20, 64 << 20)
    assert usage.memory_usage > 0 and usage.memory_stats
    assert running.group.oom_kills() == 0
    running.group.update(Resources(memory=128 << 20, memory_swap=256 << 20, pids_limit=30))
    running.group.update(Resources(memory=32 << 20, memory_swap=32 << 20))
    usage = running.group.usage()
    assert (usage.pids_limit, usage.memory_limit) == (30, 32 << 20)
    with pytest.raises(Internal, match="failed to write"):
        running.group.update(Resources(cpuset_cpus="4095"))


async def test_freeze_stops_and_destroy_kills_even_the_frozen(running: Running) -> None:
    """A signal that is caught waits for the thaw; one that is not kills at once on v2, so it would tell nothing."""
    script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done"
    with joined(running.group, "sh", "-c", script, stdout=subprocess.PIPE) as catching:
        assert catching.stdout is not None and catching.stdout.readline() == b"ready\n"
        await running.group.freeze()
        catching.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            catching.wait(0.2)
        await running.group.thaw()
        assert catching.wait(60) == 5
    second = joined(running.group)
    await running.group.freeze()
    reaped = asyncio.get_running_loop().run_in_executor(None, second.wait)
    await running.group.destroy()
    assert await reaped == -9
    await running.group.destroy()
    assert running.group.pids() == []
    with pytest.raises(Internal, match="container not running"):
        await running.group.freeze()


async def test_v2_freezer(tmp_path: Path) -> None:
    roots = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")]
    root = next((root for root in roots if (root / "cgroup.controllers").exists()), None)
    if root is None:
        pytest.skip("no cgroup v2 hierarchy")
    directory = root / f"test-freezer-{os.getpid()}"
    directory.mkdir()
    group = V2Group((str(directory),))
    process = joined(group)
    await group.freeze()
    assert group.pids() == [process.pid]
    await group.thaw()
    reaped = asyncio.get_running_loop().run_in_executor(None, process.wait)
    await group.destroy()
    assert await reaped == -9 and not directory.exists()
