"""The container's cgroup directories, on v1, v2 and hybrids: make, write, join, look for OOM kills, remove. cgroups(7)."""

import errno
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby

from compat_engine.kernel.bpf import attach_device_program
from compat_engine.shim import files
from compat_engine.shim.failure import Failure, reason, step
from compat_engine.shim.spec import CgroupDir

_PROCS, _TASKS = "cgroup.procs", "tasks"
_KILL_SECONDS = 2.0
_INHERITED = ("cpuset.cpus", "cpuset.mems")


def make(directories: Sequence[CgroupDir]) -> None:
    """Make each with what is missing above it and write its settings. Raises Failure; what was made then is for `remove`."""
    for item in directories:
        try:
            _make_directory(item.path)
        except OSError as error:
            text = f"unable to apply cgroup configuration: mkdir {item.path}: {reason(error)}"
            raise Failure(error.errno or 0, "cgroup", text) from error
        _configure(item)


def _make_directory(path: str) -> None:
    parent = os.path.dirname(path)
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return  # by `birthplace`, or the common parent by another shim
    except FileNotFoundError:
        _make_directory(parent)
        _make_directory(path)
        return
    if _exists(path, "cgroup.controllers"):
        _delegate(parent)
    elif _exists(path, _INHERITED[0]):
        for name in _INHERITED:  # a v1 cpuset begins empty, and nothing can join it then
            files.write(f"{path}/{name}", files.read(f"{parent}/{name}").decode())


def _delegate(parent: str) -> None:
    """v2: a child has only the controllers its parent hands on."""
    enabled = set(files.read(f"{parent}/cgroup.subtree_control").decode().split())
    for controller in files.read(f"{parent}/cgroup.controllers").decode().split():
        if controller not in enabled:
            with suppress(OSError):  # the limits that need it will fail by name when they are written
                files.write(f"{parent}/cgroup.subtree_control", f"+{controller}")


def _configure(item: CgroupDir) -> None:
    for name, same in groupby(item.writes, lambda write: write[0]):
        value = ""
        try:
            with files.writing(f"{item.path}/{name}") as fd:
                for _, value in same:
                    os.write(fd, value.encode())
        except OSError as error:
            text = f'failed to write "{value}": write {item.path}/{name}: {reason(error)}'
            raise Failure(error.errno or 0, "cgroup", f"{_LIMITS}{text}") from error
    if item.device_program:
        try:
            _attach_devices(item)
        except OSError as error:
            raise Failure(error.errno or 0, "cgroup", f"{_LIMITS}device program of {item.path}: {reason(error)}") from error


_LIMITS = "error during container init: error setting cgroup config for procHooks process: "


def _attach_devices(item: CgroupDir) -> None:
    with open(item.device_program, "rb") as file:
        program = file.read()
    fd = os.open(item.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        attach_device_program(fd, program)
    finally:
        os.close(fd)


def birthplace(paths: Sequence[str]) -> int:
    """A descriptor of the v2 directory among them, made when missing; -1 when all are v1's. Raises Failure."""
    for path in paths:
        if _exists(os.path.dirname(path), "cgroup.controllers"):
            with step("cgroup", f"unable to apply cgroup configuration: mkdir {path}"):
                _make_directory(path)
                return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return -1


def residence(paths: Sequence[str], pid: int) -> int:
    """As `birthplace`, where the process `pid` has moved on to a directory below: a container that runs containers gives its
    cgroup's controllers to children, and no process can be in it then."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        own = next((line.rstrip("\n")[3:] for line in file if line.startswith("0::")), "")
    for path in paths:
        _, found, below = own.partition(f"/{os.path.basename(path)}/")
        if found and _exists(path, "cgroup.controllers"):
            return os.open(f"{path}/{below}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    raise Failure(errno.EBUSY, "cgroup", f"unable to apply cgroup configuration: {paths[0]}: device or resource busy")


def join(paths: Sequence[str]) -> None:
    """Move the caller, a process of one thread, into those of v1; it was born in the one of v2. By `tasks` and 0, since the
    kernel makes every other move wait for all processors, some 10 ms. Raises Failure."""
    for path in paths:
        try:
            if _exists(path, _TASKS):
                files.write(f"{path}/{_TASKS}", "0")
        except OSError as error:
            text = f"unable to apply cgroup configuration: failed to write 0: write {path}/{_TASKS}: {reason(error)}"
            raise Failure(error.errno or 0, "cgroup", text) from error


def oom_killed(paths: Sequence[str]) -> bool:
    """Whether the kernel killed a process in them for want of memory; one of them is the memory controller's."""
    for path in paths:
        for name in ("memory.oom_control", "memory.events"):
            with suppress(OSError):  # another controller's directory
                return _oom_count(f"{path}/{name}") > 0
    return False


def _oom_count(path: str) -> int:
    return sum(int(line.split()[1]) for line in files.read(path).splitlines() if line.startswith(b"oom_kill "))


def kill_all(paths: Sequence[str]) -> None:
    """SIGKILL everything in them and below, until nothing is left or _KILL_SECONDS are over."""
    limit = time.monotonic() + _KILL_SECONDS
    for path in paths:
        if _exists(path, "freezer.state"):
            files.write(f"{path}/freezer.state", "THAWED")  # a frozen v1 process does not die
    while (pids := _members(paths)) and time.monotonic() < limit:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def _members(paths: Sequence[str]) -> set[int]:
    pids: set[int] = set()
    for top in paths:
        for path, _, _ in os.walk(top):
            try:
                pids.update(int(line) for line in files.read(f"{path}/{_PROCS}").split())
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENODEV):  # gone meanwhile
                    raise
    return pids - {0, os.getpid()}


def remove(paths: Sequence[str]) -> list[str]:
    """Remove them and what the container made below; the paths that would not go, with the reason."""
    return [left for path in reversed(paths) for left in _remove_tree(path)]


def _remove_tree(path: str) -> list[str]:
    try:
        return _remove_directory(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            return [f"{path}: {reason(error)}"]
    left = [item for child in _children(path) for item in _remove_tree(child)]
    return left or _insist(path)


def _remove_directory(path: str) -> list[str]:
    os.rmdir(path)
    return []


def _insist(path: str) -> list[str]:
    """The kernel may need a moment after the last process ended."""
    for _ in range(100):
        try:
            return _remove_directory(path)
        except FileNotFoundError:
            return []
        except OSError as error:
            last = error
            time.sleep(0.005)
    return [f"{path}: {reason(last)}"]


def _children(path: str) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def _exists(directory: str, name: str) -> bool:
    return os.path.exists(f"{directory}/{name}")
