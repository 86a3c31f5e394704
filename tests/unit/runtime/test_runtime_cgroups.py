from pathlib import Path

import pytest

from compat_engine.errors import Internal, InvalidParameter
from compat_engine.runtime.cgroups import devices, v1, v2
from compat_engine.runtime.cgroups.manager import Cgroups, mounted, v1_hierarchies
from compat_engine.runtime.cgroups.resources import Resources, Throttle
from compat_engine.runtime.cgroups.stats import Operations
from compat_engine.runtime.cgroups.v1 import V1, Hierarchy
from compat_engine.runtime.cgroups.v2 import V2
from compat_engine.runtime.protocol import StartFailed

HYBRID = """\
30 22 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:28 / /mnt/memory rw,relatime - cgroup cgroup rw,memory
34 30 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
35 30 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""
LIMITED = Resources(
    memory=64 << 20,
    memory_swap=128 << 20,
    nano_cpus=1_500_000_000,
    cpu_shares=1024,
    pids_limit=-1,
    cpuset_cpus="0-1",
    read_bps=(Throttle(8, 0, 1000),),
)


def test_hierarchies_are_found_once_each_with_the_named_one() -> None:
    found = v1_hierarchies(mounted(HYBRID.splitlines()))
    assert [(item.path.removeprefix("/sys/fs/cgroup/"), sorted(item.controllers)) for item in found] == [
        ("cpu,cpuacct", ["cpu", "cpuacct"]),
        ("memory", ["memory"]),
        ("systemd", []),
    ]


def test_v1_plan_has_a_directory_a_hierarchy_and_leaves_out_what_the_kernel_lacks(tmp_path: Path) -> None:
    hierarchies = [Hierarchy(str(tmp_path / name), frozenset({name})) for name in ("memory", "cpu", "pids", "devices")]
    for item in hierarchies:
        (Path(item.path) / "p").mkdir(parents=True)
    for file in ("memory/p/memory.limit_in_bytes", "cpu/p/cpu.cfs_period_us", "cpu/p/cpu.cfs_quota_us", "devices/p/devices.deny"):
        (tmp_path / file).touch()
    (tmp_path / "devices/p/devices.allow").touch()
    plan = V1(hierarchies).plan("id", "p", LIMITED, (devices.parse_rule("c 10:* rw"),))
    assert {item.path.removeprefix(f"{tmp_path}/"): item.writes for item in plan} == {
        "memory/p/id": (("memory.limit_in_bytes", "67108864"),),
        "cpu/p/id": (("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "150000")),
        "pids/p/id": (),
        "devices/p/id": (("devices.deny", "a"), ("devices.allow", "c 10:* rw")),
    }


def test_a_parent_does_not_lead_out_of_the_hierarchy(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    driver = V1([Hierarchy(str(tmp_path / "memory"), frozenset({"memory"}))])
    (plan,) = Cgroups(driver).plan("id", "/../a/../../p", Resources(), ())
    assert plan.path == f"{tmp_path}/memory/p/id"


def test_v2_plan_writes_for_enabled_controllers_only(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for directory in (tmp_path, tmp_path / "p"):
        (directory / "cgroup.controllers").write_text("cpu memory pids\n")
        (directory / "cgroup.subtree_control").write_text("cpu memory pids\n")
    (plan,) = V2(str(tmp_path), tmp_path / "cache").plan("id", "p", LIMITED, devices.DEFAULT)
    assert plan.path == f"{tmp_path}/p/id"
    assert plan.writes == (
        ("memory.max", "67108864"),
        ("memory.swap.max", "67108864"),
        ("cpu.max", "150000 100000"),
        ("cpu.weight", "39"),
        ("pids.max", "max"),
    )
    assert Path(plan.device_program).read_bytes() == devices.program(devices.DEFAULT)


def test_limits_of_both_versions() -> None:
    assert ("blkio.throttle.read_bps_device", "8:0 1000") in v1.limits(LIMITED)
    assert ("io.max", "8:0 rbps=1000") in v2.limits(LIMITED)
    assert v1.limits(Resources()) == v2.limits(Resources()) == ()
    unlimited = Resources(memory=1 << 20, memory_swap=-1, cpu_quota=-1)
    assert ("memory.memsw.limit_in_bytes", "-1") in v1.limits(unlimited)
    assert {("memory.swap.max", "max"), ("cpu.max", "max 100000")} <= set(v2.limits(unlimited))
    assert [v2.weight_of_shares(n) for n in (0, 2, 1024, 262144)] == [0, 1, 39, 10000]


def test_device_rules() -> None:
    assert devices.v1_writes(devices.ALLOW_ALL) == (("devices.deny", "a"), ("devices.allow", "a"))
    with pytest.raises(InvalidParameter, match="invalid device cgroup rule format: 'x 1:3 r'"):
        devices.parse_rule("x 1:3 r")


def test_counters_of_block_devices() -> None:
    text = "8:0 Read 4096\n8:0 Write 0\nTotal 4096"
    assert v1.parse_operations(text) == (Operations(8, 0, "read", 4096), Operations(8, 0, "write", 0))
    line = "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0"
    assert v2.parse_io(line, {"rios": "read", "wios": "write"}) == (Operations(8, 0, "read", 3), Operations(8, 0, "write", 4))


@pytest.mark.parametrize(("shares", "text"), [(1, "minimum allowed cpu-shares is 2"), (262_145, "maximum allowed cpu-shares is 262144")])
def test_shares_the_kernel_does_not_know_are_refused(tmp_path: Path, shares: int, text: str) -> None:
    driver = V1([Hierarchy(str(tmp_path / "cpu"), frozenset({"cpu"}))])
    (tmp_path / "cpu/p").mkdir(parents=True)
    with pytest.raises(StartFailed, match=text):
        driver.plan("id", "p", Resources(cpu_shares=shares), ())
    with pytest.raises(Internal, match=text):
        driver.group((str(tmp_path / "cpu/p"),)).update(Resources(cpu_shares=shares))
