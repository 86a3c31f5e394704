"""cgroup v2: one hierarchy, one directory a container (admin-guide/cgroup-v2.rst)."""

import errno
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from compat_engine.runtime.cgroups import devices, files
from compat_engine.runtime.cgroups.devices import DeviceRule
from compat_engine.runtime.cgroups.files import Writes
from compat_engine.runtime.cgroups.group import Group
from compat_engine.runtime.cgroups.resources import Resources
from compat_engine.runtime.cgroups.stats import Operations, Usage
from compat_engine.shim.spec import CgroupDir

ENGINE = "compat-engine"  # leaf that takes the processes of a root which may not have both processes and controllers


class V2:
    """Plans and finds containers' directories in the hierarchy mounted at `root`; device programs are kept in `cache`."""

    version = 2

    def __init__(self, root: str, cache: Path) -> None:
        self.root, self._cache = root, cache

    def has(self, file: str, parent: str) -> bool:
        return file.partition(".")[0] in files.read(f"{self.root}/{parent}", "cgroup.subtree_control").split()

    def plan(self, id: str, parent: str, resources: Resources, rules: Sequence[DeviceRule]) -> tuple[CgroupDir, ...]:
        self.make_parent(parent)
        enabled = files.read(f"{self.root}/{parent}", "cgroup.subtree_control").split()
        writes = tuple(item for item in limits(resources) if item[0].partition(".")[0] in enabled)
        return (CgroupDir(os.path.join(self.root, parent, id), writes, self._program(rules)),)

    def group(self, directories: tuple[str, ...]) -> "V2Group":
        return V2Group(directories)

    def make_parent(self, parent: str) -> None:
        """Every level down to the parent hands all it has on to its children."""
        path = self.root
        for name in ("", *parent.split("/")):
            path = f"{path}/{name}" if name else path
            os.makedirs(path, exist_ok=True)
            enable_controllers(path)

    def _program(self, rules: Sequence[DeviceRule]) -> str:
        program = devices.program(rules)
        path = self._cache / f"devices-{hashlib.sha256(program).hexdigest()}.bpf"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_bytes(program)
            partial.rename(path)
        return str(path)


def enable_controllers(path: str) -> None:
    """Give the children of the cgroup at `path` all its controllers. One the kernel does not let go (cpu with real-time
    processes about) stays away, and its limits with it."""
    missing = set(files.read(path, "cgroup.controllers").split()) - set(files.read(path, "cgroup.subtree_control").split())
    for name in sorted(missing):
        try:
            files.put(path, "cgroup.subtree_control", f"+{name}")
        except OSError as error:
            if error.errno == errno.EBUSY and _move_processes(path):
                files.put(path, "cgroup.subtree_control", f"+{name}")
            elif error.errno not in (errno.EBUSY, errno.EINVAL, errno.EOPNOTSUPP):
                raise


def _move_processes(path: str) -> bool:
    """In a cgroup namespace the root has processes, and such a cgroup can have no controllers below it: move them to a leaf."""
    leaf = f"{path}/{ENGINE}"
    os.makedirs(leaf, exist_ok=True)
    found = files.read(path, "cgroup.procs").split()
    for pid in found:
        try:
            files.put(leaf, "cgroup.procs", pid)
        except ProcessLookupError:
            continue
    return bool(found)


def limits(r: Resources) -> Writes:
    writes: list[tuple[str, str]] = []

    def put(file: str, value: int | str) -> None:
        if value:
            writes.append((file, "max" if value == -1 else str(value)))

    put("memory.max", r.memory)
    if r.memory_swap > 0:
        writes.append(("memory.swap.max", str(max(r.memory_swap - r.memory, 0))))
    put("memory.swap.max", min(r.memory_swap, 0))
    put("memory.low", r.memory_reservation)
    if r.period or r.quota:
        writes.append(("cpu.max", f"{r.quota if r.quota > 0 else 'max'} {r.period}"))
    put("cpu.weight", weight_of_shares(r.cpu_shares))
    put("cpuset.cpus", r.cpuset_cpus)
    put("cpuset.mems", r.cpuset_mems)
    put("pids.max", -1 if r.pids_limit < 0 else r.pids_limit)
    put("io.weight", f"default {weight_of_blkio(r.blkio_weight)}" if r.blkio_weight else "")
    for device in r.blkio_weight_device:
        put("io.weight", f"{device.major}:{device.minor} {weight_of_blkio(device.rate)}")
    for key, throttles in (("rbps", r.read_bps), ("wbps", r.write_bps), ("riops", r.read_iops), ("wiops", r.write_iops)):
        for device in throttles:
            put("io.max", f"{device.major}:{device.minor} {key}={device.rate}")
    for size, limit in r.hugetlb:
        put(f"hugetlb.{size}.max", limit)
    return tuple(writes)


def weight_of_shares(shares: int) -> int:
    """cpu.shares 2..262144 on the scale of cpu.weight, 1..10000; 0 stays 0, for unset."""
    return 1 + (max(min(shares, 262144), 2) - 2) * 9999 // 262142 if shares else 0


def weight_of_blkio(weight: int) -> int:
    """blkio.weight 10..1000 on the scale of io.weight, 1..10000."""
    return 1 + (weight - 10) * 9999 // 990


class V2Group(Group):
    @property
    def main(self) -> str:
        return next(iter(self.directories), "")

    def oom_kills(self) -> int:
        return files.pairs(files.read(self.main, "memory.events")).get("oom_kill", 0)

    def update(self, resources: Resources) -> None:
        for file, value in limits(resources):
            files.write(self.main, file, value)

    def usage(self) -> Usage:
        path = self.main
        cpu, events = files.pairs(files.read(path, "cpu.stat")), files.pairs(files.read(path, "memory.events"))
        return Usage(
            memory_usage=files.number(path, "memory.current"),
            memory_max=files.number(path, "memory.peak"),
            memory_limit=files.to_int(files.read(path, "memory.max") or "max"),
            memory_failures=events.get("max", 0),
            memory_stats=files.pairs(files.read(path, "memory.stat")),
            cpu_total=cpu.get("usage_usec", 0) * 1000,
            cpu_user=cpu.get("user_usec", 0) * 1000,
            cpu_kernel=cpu.get("system_usec", 0) * 1000,
            periods=cpu.get("nr_periods", 0),
            throttled_periods=cpu.get("nr_throttled", 0),
            throttled_time=cpu.get("throttled_usec", 0) * 1000,
            pids=files.number(path, "pids.current"),
            pids_limit=max(files.number(path, "pids.max"), 0),
            io_bytes=parse_io(files.read(path, "io.stat"), {"rbytes": "read", "wbytes": "write"}),
            io_operations=parse_io(files.read(path, "io.stat"), {"rios": "read", "wios": "write"}),
        )

    def _freeze(self, frozen: bool) -> None:
        with files.perhaps_gone():
            files.put(self.main, "cgroup.freeze", "1" if frozen else "0")

    def _frozen(self) -> bool:
        return files.pairs(files.read(self.main, "cgroup.events")).get("frozen", 0) == 1


def parse_io(text: str, names: dict[str, str]) -> tuple[Operations, ...]:
    """Lines of "8:0 rbytes=1 wbytes=2 ..."; `names`: the keys wanted, and what each is called."""
    found: list[Operations] = []
    for line in text.splitlines():
        device, *fields = line.split()
        major, _, minor = device.partition(":")
        values = dict(field.split("=", 1) for field in fields)
        found += [Operations(int(major), int(minor), op, int(values[key])) for key, op in names.items() if key in values]
    return tuple(found)
