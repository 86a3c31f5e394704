"""From records and reservations to the one value a shim obeys. Pure: everything looked up before stands in `Inputs`."""

from dataclasses import dataclass, field

from compat_engine.engine.mounts import tmpfs_options
from compat_engine.engine.records import ContainerRecord, MountPoint
from compat_engine.engine.security import parse_security
from compat_engine.shim.spec import CgroupDir, Device, Log, Mount, Namespaces, Overlay, Process, Rlimit, Spec, User
from compat_engine.wire.container import Config, HostConfig

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MASKED = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
DEFAULT_SYSCTLS = {"net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0"}
DEFAULT_DEVICES = tuple(
    Device(f"/dev/{name}", "c", major, minor)
    for name, major, minor in (
        ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0),
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Inputs:
    """What start has looked up and reserved.

    files: container path -> host path of the generated ones (/etc/hosts ...). shm: a host directory to show as /dev/shm, "" for
    a tmpfs of its own. devices: beside the default ones. linked: variables of links. images: mounts of type image, by target.
    """

    rootfs: Overlay
    namespaces: Namespaces
    cgroups: tuple[CgroupDir, ...]
    caps: tuple[str, ...]
    seccomp: str
    devices: tuple[Device, ...]
    files: dict[str, str]
    log: Log
    shm: str = ""
    hostname: str = ""
    shm_size: int = 64 << 20
    linked: tuple[str, ...] = ()
    images: dict[str, Mount] = field(default_factory=dict)


def compile_spec(record: ContainerRecord, inputs: Inputs) -> Spec:
    host, privileged = record.host_config, bool(record.host_config.Privileged)
    return Spec(
        id=record.id,
        process=main_process(record, inputs),
        rootfs=inputs.rootfs,
        hostname=inputs.hostname,
        domainname=record.config.Domainname or "",
        readonly_rootfs=bool(host.ReadonlyRootfs),
        rootfs_propagation=_root_propagation(record.mounts),
        mounts=_mounts(record, inputs),
        devices=(*DEFAULT_DEVICES, *inputs.devices),
        masked_paths=_paths(host.MaskedPaths, MASKED, privileged),
        readonly_paths=_paths(host.ReadonlyPaths, READONLY, privileged),
        namespaces=inputs.namespaces,
        cgroups=inputs.cgroups,
        sysctls=_sysctls(host, inputs.namespaces),
        log=inputs.log,
    )


def main_process(record: ContainerRecord, inputs: Inputs) -> Process:
    config, host = record.config, record.host_config
    size = host.ConsoleSize or (0, 0)
    return Process(
        args=record.args,
        env=environment(config, inputs.hostname, bool(config.Tty), inputs.linked),
        cwd=config.WorkingDir or "/",
        user=User(config.User or "", tuple(host.GroupAdd or ())),
        tty=bool(config.Tty),
        console=(size[0], size[1]),
        open_stdin=bool(config.OpenStdin),
        stdin_once=bool(config.StdinOnce),
        caps_bounding=inputs.caps,
        caps_effective=inputs.caps,
        no_new_privileges=parse_security(host.SecurityOpt or ()).no_new_privileges,
        seccomp=inputs.seccomp,
        rlimits=rlimits(host),
        oom_score_adj=host.OomScoreAdj or None,
        inner_init=bool(host.Init),
    )


def environment(config: Config, hostname: str, tty: bool, linked: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Docker's order: what the engine sets, overridden in place by the container's own, then the rest of those."""
    base = {"PATH": PATH.partition("=")[2], "HOSTNAME": hostname}
    if tty:
        base["TERM"] = "xterm"
    base |= dict(word.split("=", 1) for word in linked)
    own = dict(word.split("=", 1) for word in config.Env or () if "=" in word)
    for word in config.Env or ():
        if "=" not in word:
            base.pop(word, None)  # a name alone removes what the engine would set
    return tuple(f"{name}={value}" for name, value in {**base, **own}.items())


def rlimits(host: HostConfig) -> tuple[Rlimit, ...]:
    return tuple(Rlimit((limit.Name or "").lower(), limit.Soft or 0, limit.Hard or 0) for limit in host.Ulimits or ())


def _mounts(record: ContainerRecord, inputs: Inputs) -> tuple[Mount, ...]:
    taken = {point.destination for point in record.mounts} | set(record.host_config.Tmpfs or {})
    system = [mount for mount in _system_mounts(record, inputs) if mount.target not in taken]
    files = [
        Mount("bind", source, target, ("rbind", "rprivate")) for target, source in inputs.files.items() if target not in taken
    ]
    user = [inputs.images.get(point.destination) or _user_mount(point) for point in record.mounts]
    for path, options in (record.host_config.Tmpfs or {}).items():
        flags, data = tmpfs_options(options)
        user.append(Mount("tmpfs", "tmpfs", path, flags, data))
    # Parents before children, so that none is hidden; what the user mounts comes after what every container has.
    return (*system, *sorted([*files, *user], key=lambda mount: mount.target.rstrip("/").count("/")))


def _system_mounts(record: ContainerRecord, inputs: Inputs) -> list[Mount]:
    host = record.host_config
    privileged = bool(host.Privileged)
    basic = ("nosuid", "noexec", "nodev")
    access = () if privileged else ("ro",)
    writable_cgroups = privileged or parse_security(host.SecurityOpt or ()).writable_cgroups
    return [
        Mount("proc", "proc", "/proc", basic),
        Mount("tmpfs", "tmpfs", "/dev", ("nosuid", "strictatime"), "mode=755,size=65536k"),
        Mount("devpts", "devpts", "/dev/pts", ("nosuid", "noexec"), "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        Mount("sysfs", "sysfs", "/sys", (*basic, *access)),
        Mount("cgroup", "cgroup", "/sys/fs/cgroup", (*basic, "relatime", *(() if writable_cgroups else ("ro",)))),
        Mount("mqueue", "mqueue", "/dev/mqueue", basic),  # shows the queues of whichever ipc namespace init is in
        *(() if host.IpcMode == "none" else (_shm(inputs, basic),)),
    ]


def _shm(inputs: Inputs, flags: tuple[str, ...]) -> Mount:
    if inputs.shm:
        return Mount("bind", inputs.shm, "/dev/shm", ("rbind", *flags))
    return Mount("tmpfs", "shm", "/dev/shm", flags, f"mode=1777,size={inputs.shm_size}")


def _user_mount(point: MountPoint) -> Mount:
    if point.type == "tmpfs":
        return Mount("tmpfs", "tmpfs", point.destination, point.flags, point.data)
    flags = point.flags or ("rbind",)
    if not point.rw and not {"ro", "rro"} & set(flags):
        flags = (*flags, "rro")
    return Mount("bind", point.source, point.destination, (*flags, point.propagation or "rprivate"), subpath=point.subpath)


def _root_propagation(points: tuple[MountPoint, ...]) -> str:
    wanted = {point.propagation.removeprefix("r") for point in points}
    return "rshared" if "shared" in wanted else "rslave" if "slave" in wanted else "rprivate"


def _paths(asked: list[str] | None, default: tuple[str, ...], privileged: bool) -> tuple[str, ...]:
    """An empty list is a wish (systempaths=unconfined), an absent one Docker's default."""
    if privileged:
        return ()
    return default if asked is None else tuple(asked)


def _sysctls(host: HostConfig, namespaces: Namespaces) -> tuple[tuple[str, str], ...]:
    asked = dict(host.Sysctls or {})
    defaults = DEFAULT_SYSCTLS if namespaces.net == "new" else {}
    return tuple({**defaults, **asked}.items())
