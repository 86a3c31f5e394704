"""cgroup v1 and hybrid: a hierarchy a controller, each with its own directory for a container (cgroup-v1/*.rst)."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compat_engine.errors import Internal
from compat_engine.runtime.cgroups import devices, files
from compat_engine.runtime.cgroups.devices import DeviceRule
from compat_engine.runtime.cgroups.files import Writes
from compat_engine.runtime.cgroups.group import Group
from compat_engine.runtime.cgroups.resources import Resources, Throttle
from compat_engine.runtime.cgroups.stats import Operations, Usage
from compat_engine.runtime.protocol import StartFailed
from compat_engine.shim.spec import CgroupDir

_CONTROLLERS = "blkio cpu cpuacct cpuset devices freezer hugetlb memory misc net_cls net_prio perf_event pids rdma"
CONTROLLERS = frozenset(_CONTROLLERS.split())
CPUSET = ("cpuset.cpus", "cpuset.mems")
_SHARES = (2, 1 << 18)  # the kernel's least and most
NO_LIMIT = 1 << 62  # what the kernel shows for none is a little below 2^63


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """controllers: those mounted at `path`; none for a named one (systemd's)."""

    path: str
    controllers: frozenset[str]


class V1:
    """Plans and finds containers' directories in the mounted hierarchies."""

    version = 1

    def __init__(self, hierarchies: Sequence[Hierarchy]) -> None:
        self.hierarchies = tuple(hierarchies)
        self._by_controller = {name: item.path for item in hierarchies for name in item.controllers}
        self._offered: set[str] = set()  # control files seen

    def has(self, file: str, parent: str) -> bool:
        if file not in self._offered:
            path = self._by_controller.get(file.partition(".")[0])
            if path is None or not os.path.exists(f"{path}/{parent}/{file}"):
                return False
            self._offered.add(file)
        return True

    def plan(self, id: str, parent: str, resources: Resources, rules: Sequence[DeviceRule]) -> tuple[CgroupDir, ...]:
        self.make_parent(parent)
        if wrong := _wrong_shares(resources.cpu_shares):
            during = "error during container init: error setting cgroup config for procHooks process"
            raise StartFailed(0, "cgroup", f"{during}: {wrong}")
        asked = [item for item in (*limits(resources), *devices.v1_writes(rules)) if self.has(item[0], parent)]
        asked = [*self._cpuset(parent), *asked]
        return tuple(
            CgroupDir(
                os.path.join(item.path, parent, id),
                tuple(write for write in asked if write[0].partition(".")[0] in item.controllers),
            )
            for item in self.hierarchies
        )

    def group(self, directories: tuple[str, ...]) -> "V1Group":
        by_controller: dict[str, str] = {}
        for path in directories:
            for item in self.hierarchies:
                if path.startswith(f"{item.path}/"):
                    by_controller.update(dict.fromkeys(item.controllers, path))
        return V1Group(directories, by_controller)

    def _cpuset(self, parent: str) -> Writes:
        """A new cpuset is empty and nobody can join it, unless the parent has its children start as it is itself."""
        root = self._by_controller.get("cpuset")
        if root is None or files.read(f"{root}/{parent}", "cgroup.clone_children") == "1":
            return ()
        return tuple((name, files.read(f"{root}/{parent}", name)) for name in CPUSET)

    def make_parent(self, parent: str) -> None:
        if all(os.path.isdir(f"{item.path}/{parent}") for item in self.hierarchies):
            return
        for item in self.hierarchies:
            path = item.path
            for name in parent.split("/"):
                above, path = path, f"{path}/{name}"
                os.makedirs(path, exist_ok=True)
                if "cpuset" in item.controllers:
                    _seed_cpuset(path, above)


def _seed_cpuset(path: str, above: str) -> None:
    for name in CPUSET:
        if not files.read(path, name):
            files.write(path, name, files.read(above, name))
    files.write(path, "cgroup.clone_children", "1")


def limits(r: Resources) -> Writes:
    """(file, value) in an order a fresh cgroup takes."""
    writes: list[tuple[str, str]] = []

    def put(file: str, value: int | str) -> None:
        if value:
            writes.append((file, str(value)))

    put("memory.limit_in_bytes", r.memory)
    put("memory.memsw.limit_in_bytes", r.memory_swap)
    put("memory.soft_limit_in_bytes", r.memory_reservation)
    if r.memory_swappiness is not None and r.memory_swappiness >= 0:
        writes.append(("memory.swappiness", str(r.memory_swappiness)))
    put("memory.oom_control", int(r.oom_kill_disable))
    put("cpu.shares", r.cpu_shares)
    put("cpu.cfs_period_us", r.period)
    put("cpu.cfs_quota_us", r.quota)
    put("cpu.rt_period_us", r.cpu_realtime_period)
    put("cpu.rt_runtime_us", r.cpu_realtime_runtime)
    put("cpuset.cpus", r.cpuset_cpus)
    put("cpuset.mems", r.cpuset_mems)
    put("pids.max", "max" if r.pids_limit < 0 else r.pids_limit)
    put("blkio.bfq.weight", r.blkio_weight)
    for file, throttles in _THROTTLES:
        for throttle in throttles(r):
            put(file, f"{throttle.major}:{throttle.minor} {throttle.rate}")
    for size, limit in r.hugetlb:
        put(f"hugetlb.{size}.limit_in_bytes", limit)
    return tuple(writes)


def _wrong_shares(shares: int) -> str:
    """What is wrong with them: the kernel would take the next it knows, and Docker does not."""
    least, most = _SHARES
    if 0 < shares < least:
        return f"the minimum allowed cpu-shares is {least}"
    return f"the maximum allowed cpu-shares is {most}" if shares > most else ""


_THROTTLES: tuple[tuple[str, Callable[[Resources], tuple[Throttle, ...]]], ...] = (
    ("blkio.bfq.weight_device", lambda r: r.blkio_weight_device),
    ("blkio.throttle.read_bps_device", lambda r: r.read_bps),
    ("blkio.throttle.write_bps_device", lambda r: r.write_bps),
    ("blkio.throttle.read_iops_device", lambda r: r.read_iops),
    ("blkio.throttle.write_iops_device", lambda r: r.write_iops),
)


class V1Group(Group):
    def __init__(self, directories: tuple[str, ...], by_controller: dict[str, str]) -> None:
        super().__init__(directories)
        self._by_controller = by_controller

    @property
    def main(self) -> str:
        return self._path("freezer") or next(iter(self.directories), "")

    def oom_kills(self) -> int:
        return files.pairs(files.read(self._path("memory"), "memory.oom_control")).get("oom_kill", 0)

    def update(self, resources: Resources) -> None:
        if wrong := _wrong_shares(resources.cpu_shares):
            raise Internal(f"runc did not terminate successfully: exit status 1: {wrong}\n: unknown")
        for file, value in self._ordered(limits(resources)):
            files.write(self._path(file.partition(".")[0]), file, value)

    def usage(self) -> Usage:
        memory, cpu, cpuacct, pids = (self._path(name) for name in ("memory", "cpu", "cpuacct", "pids"))
        throttling = files.pairs(files.read(cpu, "cpu.stat"))
        limit = files.number(memory, "memory.limit_in_bytes")
        return Usage(
            memory_usage=files.number(memory, "memory.usage_in_bytes"),
            memory_max=files.number(memory, "memory.max_usage_in_bytes"),
            memory_limit=limit if 0 < limit < NO_LIMIT else -1,
            memory_failures=files.number(memory, "memory.failcnt"),
            memory_stats=files.pairs(files.read(memory, "memory.stat")),
            cpu_total=files.number(cpuacct, "cpuacct.usage"),
            cpu_user=files.number(cpuacct, "cpuacct.usage_user"),
            cpu_kernel=files.number(cpuacct, "cpuacct.usage_sys"),
            cpu_each=tuple(int(word) for word in files.read(cpuacct, "cpuacct.usage_percpu").split()),
            periods=throttling.get("nr_periods", 0),
            throttled_periods=throttling.get("nr_throttled", 0),
            throttled_time=throttling.get("throttled_time", 0),
            pids=files.number(pids, "pids.current"),
            pids_limit=max(files.number(pids, "pids.max"), 0),
            io_bytes=self._io("io_service_bytes_recursive"),
            io_operations=self._io("io_serviced_recursive"),
        )

    def _io(self, name: str) -> tuple[Operations, ...]:
        """From the bfq scheduler, which counts all when it is in use; else from throttling, which always counts."""
        path = self._path("blkio")
        found = parse_operations(files.read(path, f"blkio.bfq.{name}"))
        return found or parse_operations(files.read(path, f"blkio.throttle.{name}"))

    def _ordered(self, writes: Writes) -> Writes:
        """memory + swap may never be below memory: which is raised first depends on what is there."""
        swap = dict(writes).get("memory.memsw.limit_in_bytes")
        current = files.number(self._path("memory"), "memory.memsw.limit_in_bytes")
        if swap is None or 0 <= int(swap) <= current:
            return writes
        return tuple(sorted(writes, key=lambda item: item[0] != "memory.memsw.limit_in_bytes"))

    def _freeze(self, frozen: bool) -> None:
        if path := self._path("freezer"):
            with files.perhaps_gone():
                files.put(path, "freezer.state", "FROZEN" if frozen else "THAWED")

    def _frozen(self) -> bool:
        state = files.read(self._path("freezer"), "freezer.state")
        if state == "FREEZING":
            self._freeze(True)  # a process forked while it was being frozen: the kernel wants to be asked again
        return state == "FROZEN"

    def _path(self, controller: str) -> str:
        return self._by_controller.get(controller, "")


def parse_operations(text: str) -> tuple[Operations, ...]:
    """Lines of "8:0 Read 4096"; the last, the sum over all devices, is left out."""
    lines = [line.split() for line in text.splitlines()]
    return tuple(
        Operations(int(major), int(minor), op.lower(), int(value))
        for device, op, value in (line for line in lines if len(line) == 3)
        for major, _, minor in (device.partition(":"),)
    )
