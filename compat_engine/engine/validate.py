"""What of a create request can be refused before anything is made. Each check raises InvalidParameter with Docker's text."""

import os
import re
import signal
from ipaddress import ip_address
from pathlib import Path

from compat_engine.engine import logconfig
from compat_engine.engine.security import parse_security
from compat_engine.errors import Internal, InvalidParameter
from compat_engine.network.files import split_extra_host
from compat_engine.runtime.capabilities import resolve
from compat_engine.runtime.cgroups.devices import parse_rule
from compat_engine.wire.base import Wire
from compat_engine.wire.container import Config, HostConfig

MINIMUM_MEMORY = 6 << 20
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_LARGEST_MEMORY = (1 << 62) - 1  # twice as much, with swap, is still a number of 64 bits
_HOSTNAME = 64
_DIGITS = 19  # of the largest number of 64 bits
_SHORTEST_CHECK = 1_000_000  # nanoseconds
_SYSCTL = re.compile(r"net\..+|kernel\.(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)|fs\.mqueue\..+")
_SIGNAL = re.compile(r"([A-Z0-9]+)|RTMIN\+([1-9]|1[0-5])|RTMAX(-(?:[1-9]|1[0-4]))")
_LAST_SIGNAL = 64
_TOLD = ("Cmd", "Entrypoint", "Env", "Hostname", "Volumes", "WorkingDir")  # of Config, what the kernel is told
_PORT = re.compile(r"\d+(-\d+)?(/(tcp|udp|sctp))?", re.IGNORECASE)


def validate(config: Config, host: HostConfig) -> list[str]:
    """Warnings for the client; raises InvalidParameter, or NotImplementedHere for what this engine does not have."""
    warnings: list[str] = []
    for check in (_nul, _identity, _restart, _modes, _ports, _health, _memory, _cpu, _other_resources, _forwarding, _absent):
        warnings += check(config, host) or ()
    logconfig.check(host.LogConfig.Type or "json-file", host.LogConfig.Config or {})
    parse_security(host.SecurityOpt or ())
    resolve(host.CapAdd or (), host.CapDrop or (), bool(host.Privileged))
    return warnings


def signal_number(word: str) -> int:
    """TERM, SIGTERM, 15, RTMIN+3 -> number. Raises InvalidParameter."""
    name = word.upper().removeprefix("SIG")
    if _number(word) > _LAST_SIGNAL:
        raise InvalidParameter(f"the linux daemon does not support signal {word}")
    if _number(name) in range(1, _LAST_SIGNAL + 1):
        return _number(name)
    found = _SIGNAL.fullmatch(name)
    base, above, below = found.groups() if found else ("", "", "")
    if above or below:
        return int(signal.SIGRTMIN) + int(above) if above else int(signal.SIGRTMAX) + int(below)
    number = getattr(signal, f"SIG{base}", None)
    if not isinstance(number, signal.Signals):
        raise InvalidParameter(f"invalid signal: {word}")
    return int(number)


def check_nul(name: str, value: object) -> None:
    """To the kernel a text ends at a NUL byte. Raises InvalidParameter."""
    if value and _has_nul(value):
        raise InvalidParameter(f"invalid {name}: contains a NUL byte")


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, Wire):
        return _has_nul(vars(value))
    if isinstance(value, dict):
        return any(map(_has_nul, (*value, *value.values())))
    return isinstance(value, list) and any(map(_has_nul, value))


def _nul(config: Config, host: HostConfig) -> None:
    for name in _TOLD:
        check_nul(name, getattr(config, name))
    for name, value in vars(host).items():
        check_nul(name, value)


def _identity(config: Config, host: HostConfig) -> None:
    if config.Hostname and len(config.Hostname) > _HOSTNAME:
        raise InvalidParameter(f"invalid hostname format: {config.Hostname}")
    if config.StopSignal:
        signal_number(config.StopSignal)
    for word in config.Env or ():
        if not word or word.startswith("="):
            raise InvalidParameter("invalid environment variable: " + word)
    if config.WorkingDir and not config.WorkingDir.startswith("/"):
        raise InvalidParameter(f"the working directory '{config.WorkingDir}' is invalid, it needs to be an absolute path")
    if host.Isolation not in ("", "default"):
        raise InvalidParameter(f"Invalid isolation: \"{host.Isolation}\" - linux only supports 'default'")
    if config.Hostname and host.UTSMode == "host":
        raise InvalidParameter("conflicting options: hostname and the UTS mode")
    for entry in host.ExtraHosts or ():
        name, _, address = entry.partition(":") if "=" not in entry else entry.partition("=")
        if not name or not address:
            raise InvalidParameter(f'bad format for add-host: "{entry}"')
        try:
            split_extra_host(entry, ("its address is known at the start",))
        except ValueError as error:
            raise InvalidParameter(str(error)) from error


def _restart(config: Config, host: HostConfig) -> None:
    name, retries = host.RestartPolicy.Name, host.RestartPolicy.MaximumRetryCount
    if name not in ("", "no", "always", "on-failure", "unless-stopped"):
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if retries < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    if retries and name != "on-failure":
        raise InvalidParameter("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if host.AutoRemove and name not in ("", "no"):
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")


def _modes(config: Config, host: HostConfig) -> list[str]:
    for kind, mode, fixed in (
        ("IPC", host.IpcMode, ("", "private", "shareable", "host", "none")),
        ("PID", host.PidMode, ("", "host")),
        ("UTS", host.UTSMode, ("", "host")),
        ("user namespace", host.UsernsMode, ("", "host")),
        ("cgroup namespace", host.CgroupnsMode, ("", "private", "host")),
    ):
        shared = kind in ("IPC", "PID") and mode.startswith("container:") and mode != "container:"
        if mode not in fixed and not shared:
            raise InvalidParameter(f"invalid {kind} mode: {mode}")
    network = host.NetworkMode
    if network == "container:":
        raise InvalidParameter("Invalid network mode: invalid container format container:<name|id>")
    if network.startswith("container:"):
        if config.Hostname:
            raise InvalidParameter("conflicting options: hostname and the network mode")
        if host.Links:
            raise InvalidParameter(
                "conflicting options: container type network can't be used with links. This would result in undefined behavior"
            )
        if host.Dns:
            raise InvalidParameter("conflicting options: dns and the network mode")
        if host.ExtraHosts:
            raise InvalidParameter("conflicting options: custom host-to-IP mapping and the network mode")
        if host.PortBindings or host.PublishAllPorts:
            raise InvalidParameter("conflicting options: port publishing and the container type network mode")
        if config.ExposedPorts:
            raise InvalidParameter("conflicting options: port exposing and the container type network mode")
    if network == "host" and host.Links:
        raise InvalidParameter(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
        )
    if network == "host" and host.PortBindings:
        return ["Published ports are discarded when using host network mode"]
    return []


def _health(config: Config, host: HostConfig) -> None:
    check = config.Healthcheck
    if not check:
        return
    for name, value in (("Interval", check.Interval), ("Timeout", check.Timeout), ("StartPeriod", check.StartPeriod)):
        if value and value < _SHORTEST_CHECK:
            raise InvalidParameter(f"{name} in Healthcheck cannot be less than 1ms")
    if check.StartInterval and check.StartInterval < _SHORTEST_CHECK:
        raise InvalidParameter("StartInterval in Healthcheck cannot be less than 1ms")
    if check.Retries < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")


def _ports(config: Config, host: HostConfig) -> None:
    for port, bindings in (host.PortBindings or {}).items():
        if not _PORT.fullmatch(port) or not all(map(_is_port, port.partition("/")[0].split("-"))):
            raise InvalidParameter(f'invalid port specification: "{port}"')
        for binding in bindings or ():
            first, _, last = binding.HostPort.partition("-")
            if binding.HostPort and not (_is_port(first) and (not last or _is_port(last))):
                raise InvalidParameter(f'invalid port specification: "{binding.HostPort}"')


def _is_port(text: str) -> bool:
    return 0 <= _number(text) < 1 << 16


def _number(text: str) -> int:
    """-1 for what is none, or none of 64 bits: int() refuses thousands of digits with a text of its own."""
    return int(text) if text.isdecimal() and len(text) <= _DIGITS else -1


def _memory(config: Config, host: HostConfig) -> None:
    memory, swap, reservation = host.Memory, host.MemorySwap, host.MemoryReservation
    if 0 < memory < MINIMUM_MEMORY or memory < 0:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if memory > _LARGEST_MEMORY:
        raise InvalidParameter(f"invalid memory limit: {memory}")
    if memory and 0 < swap < memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if swap > 0 and not memory:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit, see usage")
    if 0 < reservation < MINIMUM_MEMORY:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if memory and reservation > memory:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit, see usage")
    swappiness = host.MemorySwappiness
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise InvalidParameter(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")


def _cpu(config: Config, host: HostConfig) -> None:
    cpus = os.cpu_count() or 1
    if host.NanoCpus:
        if host.CpuQuota or host.CpuPeriod:
            raise InvalidParameter(
                f"Conflicting options: Nano CPUs and CPU {'Period' if host.CpuPeriod else 'Quota'} cannot both be set"
            )
        if not 0 < host.NanoCpus <= cpus * 10**9:
            raise InvalidParameter(f"Range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")
    if host.CpuPeriod and not 1000 <= host.CpuPeriod <= 1_000_000:
        raise InvalidParameter("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if host.CpuQuota and 0 < host.CpuQuota < 1000:
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if host.CpuShares and host.CpuShares < 0:
        raise InvalidParameter(f"invalid CPU shares ({host.CpuShares}): value must be a positive integer")
    _available("CPUs", host.CpusetCpus, "cpu")
    _available("memory nodes", host.CpusetMems, "node")


def _available(what: str, asked: str, kind: str) -> None:
    if not asked:
        return
    online = Path(f"/sys/devices/system/{kind}/online")
    text = online.read_text().strip() if online.exists() else "0"
    try:
        wanted = cpu_set(asked)
    except ValueError:
        name = "cpus" if kind == "cpu" else "mems"
        raise InvalidParameter(f"Invalid value {asked} for cpuset {name}: invalid format: {asked}") from None
    if wanted - cpu_set(text):
        raise InvalidParameter(f"Requested {what} are not available - requested {asked}, available: {text}")


def cpu_set(text: str) -> set[int]:
    """ "0-2,4" -> {0, 1, 2, 4}. Raises ValueError."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        low, high = int(first), int(last if dash else first)
        if not 0 <= low <= high < 8192:
            raise ValueError(text)
        found.update(range(low, high + 1))
    return found


def _other_resources(config: Config, host: HostConfig) -> None:
    if host.OomScoreAdj and not -1000 <= host.OomScoreAdj <= 1000:
        raise InvalidParameter(f"Invalid value {host.OomScoreAdj}, range for oom score adj is [-1000, 1000]")
    if host.ShmSize < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    if host.BlkioWeight and not 10 <= host.BlkioWeight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    for limit in host.Ulimits or ():
        if 0 <= limit.Hard < limit.Soft:
            raise InvalidParameter(f"ulimit soft limit must be less than or equal to hard limit: {limit.Soft} > {limit.Hard}")
    for rule in host.DeviceCgroupRules or ():
        parse_rule(rule)


def _forwarding(config: Config, host: HostConfig) -> list[str]:
    off = host.NetworkMode not in ("host", "none") and FORWARDING.read_text().strip() == "0"
    return ["IPv4 forwarding is disabled. Networking will not work."] if off else []


def _absent(config: Config, host: HostConfig) -> None:
    """Parts of Docker that are not here yet are refused, never dropped."""
    if host.Runtime not in (None, "", "runc", "compat"):
        raise InvalidParameter(f"unknown or invalid runtime name: {host.Runtime}")
    if host.StorageOpt:
        raise InvalidParameter("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
    if host.CpuRealtimePeriod or host.CpuRealtimeRuntime:
        raise InvalidParameter("Your kernel does not support CPU real-time scheduler")
    for name in ("CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth"):
        if getattr(host, name):
            raise InvalidParameter(f"{name} is not supported on Linux")
    if (host.VolumeDriver or "local") != "local":
        raise InvalidParameter(f'error looking up volume plugin {host.VolumeDriver}: plugin "{host.VolumeDriver}" not found')


def validate_start(host: HostConfig) -> None:
    """What Docker notices only at start. Raises Internal."""
    for server in host.Dns or ():
        try:
            ip_address(server)
        except ValueError as error:
            raise Internal(f'bad nameserver address {server}: ParseAddr("{server}"): unable to parse IP') from error
    for name in host.Sysctls or {}:
        if not _SYSCTL.fullmatch(name):
            raise Internal(f'sysctl "{name}" is not in a separate kernel namespace')
        if name.startswith("net.") and host.NetworkMode == "host":
            raise Internal(f'sysctl "{name}" not allowed in host network namespace')
    for request in host.DeviceRequests or ():
        text = "[" + " ".join(f"[{' '.join(group)}]" for group in request.Capabilities or ()) + "]"
        raise Internal(f'could not select device driver "{request.Driver}" with capabilities: {text}')
