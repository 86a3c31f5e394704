"""Limits the host cannot keep: they are left out, and the client is warned in Docker's words."""

from collections.abc import Callable
from dataclasses import dataclass

from compat_engine.runtime.cgroups.manager import Cgroups
from compat_engine.wire.container import HostConfig


@dataclass(frozen=True, slots=True)
class _Limit:
    """asked: whether a request has it. files: what keeps it on cgroup v1 and v2, "" where nothing does."""

    asked: Callable[[HostConfig], object]
    files: tuple[str, str]
    what: str
    consequence: str


_KERNEL, _MOUNTED = "Your kernel does not support", "or the cgroup is not mounted."
_DISCARDED = "Limitation discarded."
_UNLIMITED = (
    "OOM killer is disabled for the container, but no memory limit is set, "
    "this can result in the system running out of resources."
)
_LIMITS = (
    _Limit(lambda host: host.Memory, ("memory.limit_in_bytes", "memory.max"), "memory limit capabilities", _DISCARDED),
    _Limit(
        lambda host: host.Memory and host.MemorySwap != -1,
        ("memory.memsw.limit_in_bytes", "memory.swap.max"),
        "swap limit capabilities",
        "Memory limited without swap.",
    ),
    _Limit(
        lambda host: host.MemorySwappiness not in (None, -1),
        ("memory.swappiness", ""),
        "memory swappiness capabilities",
        "Memory swappiness discarded.",
    ),
    _Limit(
        lambda host: host.MemoryReservation,
        ("memory.soft_limit_in_bytes", "memory.low"),
        "memory soft limit capabilities",
        _DISCARDED,
    ),
    _Limit(lambda host: host.PidsLimit, ("pids.max", "pids.max"), "PIDs limit capabilities", "PIDs limit discarded."),
    _Limit(lambda host: host.NanoCpus, ("cpu.cfs_quota_us", "cpu.max"), "CPU CFS scheduler", "CPU period and quota discarded."),
    _Limit(lambda host: host.CpuShares, ("cpu.shares", "cpu.weight"), "CPU shares", "Shares discarded."),
    _Limit(lambda host: host.CpusetCpus or host.CpusetMems, ("cpuset.cpus", "cpuset.cpus"), "cpuset", "Cpuset discarded."),
    _Limit(lambda host: host.BlkioWeight, ("blkio.weight", "io.weight"), "Block I/O weight", "Weight discarded."),
)


def discarded(host: HostConfig, cgroups: Cgroups, parent: str) -> list[str]:
    """One warning for each limit asked for that this host has no file for."""
    column = cgroups.version - 1
    missing = (limit for limit in _LIMITS if limit.asked(host) and not _kept(limit.files[column], cgroups, parent))
    warnings = [f"{_KERNEL} {limit.what} {_MOUNTED} {limit.consequence}" for limit in missing]
    if host.OomKillDisable and not _kept(("memory.oom_control", "")[column], cgroups, parent):
        warnings.append(f"{_KERNEL} OomKillDisable. OomKillDisable discarded.")
    elif host.OomKillDisable and not host.Memory:
        warnings.append(_UNLIMITED)
    return warnings


def _kept(file: str, cgroups: Cgroups, parent: str) -> bool:
    return bool(file) and cgroups.has(file, parent)
