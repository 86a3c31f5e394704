"""What to run: the value the daemon compiles and the shim and init obey. Plain data, standard library only.

It travels as JSON in the bundle (`spec.json`), so a shim started by an older daemon goes on reading what it was given.
`Spec.load(Spec.dump(spec)) == spec` always holds.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

SHIM_FIRST = '{"shim": '  # how a dumped spec begins


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount(2) inside the container's mount namespace, done by init in list order, before pivot_root.

    `target` is a path inside the container, resolved without leaving the rootfs and made when missing (a file when the source
    is no directory). `flags` are fstab words ("ro", "nosuid", "rbind", "rro", "private", ...); `data` goes to the filesystem.
    type: "bind", "tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup" (v1 or v2, whichever the host has), "overlay" (read-only,
    of the directories `lower`; it is made on the empty directory `source` first).
    """

    type: str
    source: str
    target: str
    flags: tuple[str, ...] = ()
    data: str = ""
    subpath: str = ""  # of a bind or an overlay: what to show of it, found without leaving it
    lower: tuple[str, ...] = ()  # topmost first


@dataclass(frozen=True, slots=True)
class Overlay:
    """The rootfs. lower: absolute directories, topmost first; upper and work: absolute, "" for a read-only view.

    volatile: what is written need not survive the host, so its end does not wait for the disk.
    """

    lower: tuple[str, ...]
    upper: str
    work: str
    volatile: bool = False


@dataclass(frozen=True, slots=True)
class Device:
    """A node made in /dev (or wherever `path` says). kind: "c" or "b" or "p"; mode: permission bits."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Rlimit:
    name: str  # "nofile", as in resource.RLIMIT_NOFILE, lower case
    soft: int  # -1 is unlimited
    hard: int


@dataclass(frozen=True, slots=True)
class User:
    """Resolved by init inside the rootfs when `name` is not numeric: Docker's "user[:group]" as the client gave it."""

    name: str = ""  # "", "uid", "user", "uid:gid", "user:group", ...
    additional: tuple[str, ...] = ()  # GroupAdd: names or numbers


@dataclass(frozen=True, slots=True)
class Process:
    """One process to execve: the container's own or an exec's.

    env holds KEY=VALUE; init adds HOME (from passwd) when absent. caps are names ("CAP_CHOWN"); `seccomp` is the path of a
    compiled BPF program ("" for none). `inner_init`: run under our PID 1 reaper (--init).
    """

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str = "/"
    user: User = User()
    tty: bool = False
    console: tuple[int, int] = (0, 0)  # rows, columns; 0 leaves the kernel's default
    open_stdin: bool = False
    stdin_once: bool = False
    caps_bounding: tuple[str, ...] = ()
    caps_effective: tuple[str, ...] = ()  # permitted = effective for root; a non-root user keeps them only if ambient
    caps_inheritable: tuple[str, ...] = ()
    caps_ambient: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str = ""
    rlimits: tuple[Rlimit, ...] = ()
    oom_score_adj: int | None = None
    inner_init: bool = False


@dataclass(frozen=True, slots=True)
class Namespaces:
    """How init gets each namespace: "new", "host", or an absolute path of a namespace file to join (/proc/PID/ns/net).

    pid may also name a path; user is always "host" until remapping exists.
    """

    mnt: str = "new"
    pid: str = "new"
    net: str = "new"
    uts: str = "new"
    ipc: str = "new"
    cgroup: str = "new"


@dataclass(frozen=True, slots=True)
class CgroupDir:
    """One directory to make and join: `path` absolute; `writes` are (file, value) applied in order before anything joins.

    On v1 and hybrid there is one for each controller hierarchy, on v2 one in all. `device_program` is the path of a compiled
    BPF_CGROUP_DEVICE program to attach (v2 only; v1 uses devices.allow/deny in `writes`).
    """

    path: str
    writes: tuple[tuple[str, str], ...] = ()
    device_program: str = ""


@dataclass(frozen=True, slots=True)
class Log:
    """Where the shim writes output. driver "json-file", "local" or "none"; max_size in bytes, -1 unlimited; max_file >= 1.

    compress: rotated files. buffer: bytes of output that may be kept while the log cannot be written, and lost beyond; -1 lets
    the container wait instead (`mode` blocking).
    """

    driver: str = "json-file"
    path: str = ""  # absolute path of the current log file
    max_size: int = -1
    max_file: int = 1
    compress: bool = False
    buffer: int = -1
    attrs: str = ""  # a JSON object written into every record ("" for none): the labels and env chosen by --log-opt


@dataclass(frozen=True, slots=True)
class Spec:
    """All a shim needs to start one container; nothing in it refers back to the daemon's state."""

    id: str
    process: Process
    rootfs: Overlay
    hostname: str = ""
    domainname: str = ""
    readonly_rootfs: bool = False
    rootfs_propagation: str = "rprivate"
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    namespaces: Namespaces = Namespaces()
    cgroups: tuple[CgroupDir, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    log: Log = Log()
    annotations: dict[str, str] = field(default_factory=dict)

    def dump(self) -> str:
        """JSON; what the shim itself needs is the first line, so that it can leave the rest unread (plan.py)."""
        process = self.process
        shim = {
            "tty": process.tty,
            "open_stdin": process.open_stdin,
            "stdin_once": process.stdin_once,
            "log": self.log,
            "pid_namespace": self.namespaces.pid,
            "net_namespace": self.namespaces.net,
            "cgroups": self.cgroups,
        }
        rest = {name: value for name, value in _fields(self).items() if name not in shim}
        return f"{SHIM_FIRST}{json.dumps(shim, default=_fields)},\n{json.dumps(rest, default=_fields)[1:]}"

    @classmethod
    def load(cls, text: str) -> "Spec":
        raw = json.loads(text)
        shim = raw.pop("shim")
        return _spec({name: shim[name] for name in ("log", "cgroups")} | raw)


def _fields(value: Any) -> dict[str, Any]:
    """A slotted dataclass for json: five times as fast as asdict, which copies all the way down."""
    return {name: getattr(value, name) for name in value.__slots__}


def dump_process(process: Process) -> dict[str, Any]:
    return asdict(process)


def load_process(raw: dict[str, Any]) -> Process:
    """Process from the plain dict `dump_process` made, in the spec or in an `exec` message."""
    return Process(
        **{
            **raw,
            "args": tuple(raw["args"]),
            "env": tuple(raw["env"]),
            "user": User(raw["user"]["name"], tuple(raw["user"]["additional"])),
            "console": (raw["console"][0], raw["console"][1]),
            "rlimits": tuple(Rlimit(**item) for item in raw["rlimits"]),
            **{name: tuple(raw[name]) for name in ("caps_bounding", "caps_effective", "caps_inheritable", "caps_ambient")},
        }
    )


def load_mount(raw: dict[str, Any]) -> Mount:
    return Mount(**{**raw, "flags": tuple(raw["flags"]), "lower": tuple(raw.get("lower", ()))})


def load_cgroups(raw: list[dict[str, Any]]) -> tuple[CgroupDir, ...]:
    return tuple(CgroupDir(**{**item, "writes": tuple((name, value) for name, value in item["writes"])}) for item in raw)


def _spec(raw: dict[str, Any]) -> Spec:
    rootfs = raw["rootfs"]
    return Spec(
        **{
            **raw,
            "process": load_process(raw["process"]),
            "rootfs": Overlay(**{**rootfs, "lower": tuple(rootfs["lower"])}),
            "mounts": tuple(load_mount(item) for item in raw["mounts"]),
            "devices": tuple(Device(**item) for item in raw["devices"]),
            "masked_paths": tuple(raw["masked_paths"]),
            "readonly_paths": tuple(raw["readonly_paths"]),
            "namespaces": Namespaces(**raw["namespaces"]),
            "cgroups": load_cgroups(raw["cgroups"]),
            "sysctls": tuple((name, value) for name, value in raw["sysctls"]),
            "log": Log(**raw["log"]),
        }
    )


# What spares rehearse with (init.py, monitor.py). Host namespaces: entering them does nothing.
REHEARSAL = Spec(
    id="",
    process=Process(("true",), ("PATH=/bin",), caps_effective=("CAP_CHOWN",)),
    rootfs=Overlay(("",), "", ""),
    mounts=(Mount("", "", ""),),
    devices=(Device("", "c", 0, 0),),
    namespaces=Namespaces("host", "host", "host", "host", "host", "host"),
    cgroups=(CgroupDir(""),),
).dump()
