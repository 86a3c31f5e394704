"""What a container may use: its limits as plain numbers, its device nodes and the rules that let it open them."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from compat_engine.errors import InvalidParameter
from compat_engine.runtime.cgroups.devices import ALLOW_ALL, DEFAULT, DeviceRule, parse_rule
from compat_engine.runtime.cgroups.resources import Resources, Throttle
from compat_engine.shim.spec import Device
from compat_engine.wire.container import DeviceMapping, HostConfig


def resources(host: HostConfig) -> Resources:
    """HostConfig's limits as plain numbers; 0 or "" leaves the kernel's default."""
    return Resources(
        memory=host.Memory,
        memory_swap=host.MemorySwap,
        memory_reservation=host.MemoryReservation,
        memory_swappiness=host.MemorySwappiness,
        oom_kill_disable=bool(host.OomKillDisable),
        nano_cpus=host.NanoCpus,
        cpu_shares=host.CpuShares,
        cpu_period=host.CpuPeriod,
        cpu_quota=host.CpuQuota,
        cpuset_cpus=host.CpusetCpus,
        cpuset_mems=host.CpusetMems,
        pids_limit=host.PidsLimit or 0,
        blkio_weight=host.BlkioWeight,
        blkio_weight_device=_throttles((item.Path, item.Weight) for item in host.BlkioWeightDevice or ()),
        read_bps=_throttles((item.Path, item.Rate) for item in host.BlkioDeviceReadBps or ()),
        write_bps=_throttles((item.Path, item.Rate) for item in host.BlkioDeviceWriteBps or ()),
        read_iops=_throttles((item.Path, item.Rate) for item in host.BlkioDeviceReadIOps or ()),
        write_iops=_throttles((item.Path, item.Rate) for item in host.BlkioDeviceWriteIOps or ()),
    )


def _throttles(limits: Iterable[tuple[str, int]]) -> tuple[Throttle, ...]:
    found = []
    for path, rate in limits:
        try:
            number = os.stat(path).st_rdev
        except OSError as error:
            raise InvalidParameter(f"stat {path}: {_reason(error)}") from error
        found.append(Throttle(os.major(number), os.minor(number), rate))
    return tuple(found)


def devices(host: HostConfig) -> tuple[tuple[Device, ...], tuple[DeviceRule, ...]]:
    """The nodes to make beside the default ones, and the cgroup's rules. Raises InvalidParameter for what is no device."""
    if host.Privileged:
        return tuple(_host_devices()), ALLOW_ALL
    nodes: list[Device] = []
    rules = list(DEFAULT)
    for mapping in host.Devices or ():
        found = list(_mapped(mapping))
        nodes += found
        access = "".join(letter for letter in "rwm" if letter in (mapping.CgroupPermissions or "rwm"))
        rules += [DeviceRule(True, node.kind, node.major, node.minor, access) for node in found if access]
    rules += [parse_rule(text) for text in host.DeviceCgroupRules or ()]
    return tuple(nodes), tuple(rules)


def _mapped(mapping: DeviceMapping) -> Iterable[Device]:
    source, target = mapping.PathOnHost or "", mapping.PathInContainer or mapping.PathOnHost or ""
    try:
        real = os.path.realpath(source, strict=True)
        if not os.path.isdir(real):
            yield _device(real, target)
            return
        entries = sorted(path for path in Path(real).rglob("*") if path.is_char_device() or path.is_block_device())
    except OSError as error:
        raise InvalidParameter(
            f'error gathering device information while adding custom device "{source}": {_reason(error)}'
        ) from error
    for path in entries:
        yield _device(str(path), f"{target}/{path.relative_to(real)}")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _device(path: str, target: str) -> Device:
    status = os.stat(path)
    kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
    if not kind:
        raise InvalidParameter(f'error gathering device information while adding custom device "{path}": not a device node')
    number = status.st_rdev
    return Device(target, kind, os.major(number), os.minor(number), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


def _host_devices() -> Iterable[Device]:
    """Every node below /dev, less what a container has of its own."""
    own = {"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/fd", "/dev/console", "/dev/ptmx", "/dev/.udev"}
    for directory, names, files in os.walk("/dev"):
        names[:] = [name for name in names if os.path.join(directory, name) not in own]
        for name in files:
            path = os.path.join(directory, name)
            mode = os.lstat(path).st_mode
            if path not in own and (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
                yield _device(path, path)
