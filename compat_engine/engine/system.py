"""GET /version, /info, /system/df: what the engine says of itself and its host. Never waits for a container."""

import logging
import os
import platform
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from compat_engine import __version__
from compat_engine.engine import volumes
from compat_engine.engine.clock import rfc3339nano
from compat_engine.engine.containers import list as containers
from compat_engine.engine.containers.list import ListOptions
from compat_engine.engine.parts import Engine
from compat_engine.engine.transfers import settings
from compat_engine.errors import InvalidParameter
from compat_engine.kernel.mountinfo import mount_of
from compat_engine.store.records import Put

log = logging.getLogger(__name__)

MIN_API_VERSION: Final = "1.24"
_TYPES: Final = ("container", "image", "volume", "build-cache")
_BUILT: Final = Path(__file__)
_INDEX: Final = "https://index.docker.io/v1/"
_LIMITS: Final = {  # field of info -> control file on v1, on v2
    "MemoryLimit": ("memory.limit_in_bytes", "memory.max"),
    "SwapLimit": ("memory.memsw.limit_in_bytes", "memory.swap.max"),
    "CpuCfsPeriod": ("cpu.cfs_period_us", "cpu.max"),
    "CpuCfsQuota": ("cpu.cfs_quota_us", "cpu.max"),
    "CPUShares": ("cpu.shares", "cpu.weight"),
    "CPUSet": ("cpuset.cpus", "cpuset.cpus"),
    "OomKillDisable": ("memory.oom_control", ""),
    "PidsLimit": ("pids.max", "pids.max"),
}


def version(engine: Engine) -> dict[str, Any]:
    host = os.uname()
    built = rfc3339nano(_BUILT.stat().st_mtime_ns)
    details = {
        "ApiVersion": engine.config.api_version,
        "Arch": _go_architecture(host.machine),
        "BuildTime": built,
        "Experimental": "false",
        "GitCommit": "",
        "GoVersion": _interpreter(),
        "KernelVersion": host.release,
        "MinAPIVersion": MIN_API_VERSION,
        "Os": sys.platform,
    }
    return {
        "Platform": {"Name": "compat-engine"},
        "Components": [{"Name": "Engine", "Version": __version__, "Details": details}],
        "Version": __version__,
        "ApiVersion": details["ApiVersion"],
        "MinAPIVersion": MIN_API_VERSION,
        "GitCommit": "",
        "GoVersion": details["GoVersion"],
        "Os": details["Os"],
        "Arch": details["Arch"],
        "KernelVersion": host.release,
        "BuildTime": built,
    }


async def info(engine: Engine) -> dict[str, Any]:
    limits = _limits(engine)
    return {
        "ID": await daemon_id(engine),
        **_counts(engine),
        **_storage(engine),
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": None,
            "Log": ["json-file", "local"],
        },
        **limits,
        "KernelMemoryTCP": False,
        "IPv4Forwarding": _flag("/proc/sys/net/ipv4/ip_forward"),
        "Debug": logging.getLogger("compat_engine").isEnabledFor(logging.DEBUG),
        "NFd": len(os.listdir("/proc/self/fd")),
        "NGoroutines": _threads(),
        "SystemTime": rfc3339nano(),
        "LoggingDriver": engine.config.log_driver,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": str(engine.cgroups.version),
        "NEventsListener": engine.events.listeners,
        **_host(),
        "IndexServerAddress": _INDEX,
        "RegistryConfig": settings(engine.config),
        "GenericResources": None,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Labels": list(engine.config.labels),
        "ExperimentalBuild": False,
        "ServerVersion": __version__,
        **_runtimes(),
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": engine.config.live_restore,
        "Isolation": "",
        "SecurityOptions": _security_options(engine),
        **_pools(engine),
        "FirewallBackend": {"Driver": "nftables"},
        "CDISpecDirs": [],
        "Warnings": _warnings(limits, engine.cgroups.version) or None,
    }


def _pools(engine: Engine) -> dict[str, Any]:
    """The address pools, where some are configured."""
    pools = [{"Base": base, "Size": size} for base, size in engine.config.default_address_pools]
    return {"DefaultAddressPools": pools} if pools else {}


async def disk_usage(engine: Engine, types: Sequence[str]) -> dict[str, Any]:
    """types: container, image, volume, build-cache; none of them is all. Raises InvalidParameter."""
    for word in types:
        if word not in _TYPES:
            raise InvalidParameter(f"unknown object type: {word}")
    asked = frozenset(types or _TYPES)
    everything = ListOptions(all=True, size=True)
    return {
        "LayersSize": sum(_layers(engine).values()) if "image" in asked else 0,
        "Images": _images(engine) if "image" in asked else None,
        "Containers": msgspec.json.decode(await containers.list(engine, everything)) if "container" in asked else None,
        "Volumes": await volumes.usage(engine) if "volume" in asked else None,
        "BuildCache": [] if "build-cache" in asked else None,
    }


async def daemon_id(engine: Engine) -> str:
    """Made once for a data root."""
    known = await engine.records.load("daemon")
    if "id" not in known:
        known["id"] = str(uuid.uuid4())
        await engine.records.commit(Put("daemon", "id", known["id"]))
    return known["id"]


def _counts(engine: Engine) -> dict[str, int]:
    statuses = [container.state.status for container in engine.containers.all()]
    running = sum(status in ("running", "restarting") for status in statuses)
    paused = statuses.count("paused")
    return {
        "Containers": len(statuses),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(statuses) - running - paused,
        "Images": len(engine.images.all()),
    }


def _storage(engine: Engine) -> dict[str, Any]:
    features = [("Supports d_type", "true"), ("Using metacopy", "false"), ("Native Overlay Diff", "true"), ("userxattr", "false")]
    return {
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", mount_of(os.path.realpath(engine.config.data_root)).type], *map(list, features)],
        "DockerRootDir": str(engine.config.data_root),
    }


def _host() -> dict[str, Any]:
    host = os.uname()
    release = _os_release()
    return {
        "KernelVersion": host.release,
        "OperatingSystem": release.get("PRETTY_NAME", "Linux"),
        "OSVersion": release.get("VERSION_ID", ""),
        "OSType": sys.platform,
        "Architecture": host.machine,
        "NCPU": len(os.sched_getaffinity(0)),
        "MemTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "Name": host.nodename,
    }


def _runtimes() -> dict[str, Any]:
    """The runtime is part of the engine; it goes by the name every client asks for."""
    commit = {"ID": __version__}
    return {
        "Runtimes": {"runc": {"path": "compat-engine"}},
        "DefaultRuntime": "runc",
        "InitBinary": "compat-engine",
        "ContainerdCommit": commit,
        "RuncCommit": commit,
        "InitCommit": commit,
    }


def _limits(engine: Engine) -> dict[str, bool]:
    column = engine.cgroups.version - 1
    parent = engine.config.cgroup_parent
    return {name: bool(files[column]) and engine.cgroups.has(files[column], parent) for name, files in _LIMITS.items()}


def _warnings(limits: dict[str, bool], cgroup_version: int) -> list[str]:
    texts = {
        "MemoryLimit": "WARNING: No memory limit support",
        "SwapLimit": "WARNING: No swap limit support",
        "CpuCfsQuota": "WARNING: No cpu cfs quota support",
        "CpuCfsPeriod": "WARNING: No cpu cfs period support",
        "CPUShares": "WARNING: No cpu shares support",
        "CPUSet": "WARNING: No cpuset support",
        "PidsLimit": "WARNING: No pids limit support",
        **({"OomKillDisable": "WARNING: No oom kill disable support"} if cgroup_version == 1 else {}),
    }
    return [text for name, text in texts.items() if not limits[name]]


def _security_options(engine: Engine) -> list[str]:
    options = ["name=seccomp,profile=builtin"]
    return [*options, "name=cgroupns"] if engine.cgroups.version == 2 else options


def _images(engine: Engine) -> list[dict[str, Any]]:
    """Every image, with how much of it only it has."""
    users = [container.record.image for container in engine.containers.all()]
    return [
        {
            "Id": image.id,
            "ParentId": "",
            "RepoTags": engine.images.tags(image.id),
            "RepoDigests": engine.images.digests(image.id),
            "Created": _seconds(image.created),
            "Size": image.size,
            "SharedSize": engine.images.shared_size(image),
            "Labels": image.runtime.get("Labels"),
            "Containers": users.count(image.id),
        }
        for image in engine.images.all()
    ]


def _layers(engine: Engine) -> dict[str, int]:
    return {layer.chain_id: layer.size for image in engine.images.all() for layer in image.layers}


def _seconds(created: str) -> int:
    try:
        return int(time.mktime(time.strptime(created[:19] + "Z", "%Y-%m-%dT%H:%M:%SZ")) - time.timezone)
    except ValueError:
        return 0  # an image that does not say


def _go_architecture(machine: str) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}.get(machine, machine)


def _interpreter() -> str:
    """Where clients look for the language the engine is made of."""
    return f"{platform.python_implementation().lower()}{platform.python_version()}"


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _flag(path: str) -> bool:
    try:
        return Path(path).read_text().strip() == "1"
    except OSError:
        return False


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))
