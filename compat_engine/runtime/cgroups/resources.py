"""What a container may use, as plain numbers: HostConfig's resource fields after the engine has read them."""

from dataclasses import dataclass

UNLIMITED = -1


@dataclass(frozen=True, slots=True)
class Throttle:
    """A limit for one block device: bytes or operations a second; a weight in `blkio_weight_device`."""

    major: int
    minor: int
    rate: int


@dataclass(frozen=True, slots=True)
class Resources:
    """Zero, "" and None leave the kernel's default; -1 is unlimited where the Engine API says so.

    memory*: bytes; memory_swap counts memory and swap together. cpu_period, cpu_quota: microseconds; nano_cpus: CPUs x 10^9,
    the other way to say them. hugetlb: (page size as in the file's name, "2MB"; bytes).
    """

    memory: int = 0
    memory_swap: int = 0
    memory_reservation: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    nano_cpus: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int = 0
    blkio_weight: int = 0
    blkio_weight_device: tuple[Throttle, ...] = ()
    read_bps: tuple[Throttle, ...] = ()
    write_bps: tuple[Throttle, ...] = ()
    read_iops: tuple[Throttle, ...] = ()
    write_iops: tuple[Throttle, ...] = ()
    hugetlb: tuple[tuple[str, int], ...] = ()

    @property
    def period(self) -> int:
        return self.cpu_period or (100_000 if self.nano_cpus or self.cpu_quota else 0)

    @property
    def quota(self) -> int:
        return self.nano_cpus * 100_000 // 1_000_000_000 if self.nano_cpus else self.cpu_quota
