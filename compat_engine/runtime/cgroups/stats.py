"""One reading of a container's counters, as the kernel gives them."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Operations:
    """One line of a block device's counters. op: "read", "write", and on v1 also "sync", "async", "discard", "total"."""

    major: int
    minor: int
    op: str
    value: int


@dataclass(frozen=True, slots=True)
class Usage:
    """memory_*: bytes; memory_limit -1 when unlimited; memory_stats: memory.stat as it is (inactive_file on v2,
    total_inactive_file on v1 is what `docker stats` takes off). cpu_*, throttled_time: nanoseconds; cpu_each: per CPU, v1 only.
    pids_limit 0 when unlimited. io_bytes, io_operations: block devices.
    """

    memory_usage: int = 0
    memory_max: int = 0
    memory_limit: int = -1
    memory_failures: int = 0
    memory_stats: dict[str, int] = field(default_factory=dict)
    cpu_total: int = 0
    cpu_user: int = 0
    cpu_kernel: int = 0
    cpu_each: tuple[int, ...] = ()
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0
    pids: int = 0
    pids_limit: int = 0
    io_bytes: tuple[Operations, ...] = ()
    io_operations: tuple[Operations, ...] = ()
