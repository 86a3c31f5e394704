"""The last steps before execve, the same for a container's first process and for an exec. Order matters; see each reason."""

import errno
import os
import resource
import stat
from collections.abc import Callable
from typing import NoReturn

from compat_engine.kernel import caps
from compat_engine.kernel.process import (
    close_on_exec,
    reset_signals,
    set_keep_caps,
    set_no_new_privileges,
)
from compat_engine.kernel.seccomp_load import load_filter
from compat_engine.shim import channel, files, protocol, user
from compat_engine.shim.failure import IN_INIT, Failure, reason, step, unexpected
from compat_engine.shim.lookup import find_executable
from compat_engine.shim.pid1 import run_as_pid1
from compat_engine.shim.spec import Process

CANNOT_EXECUTE = 1  # exit code when the file is there and the kernel refuses it, as runc's


def rehearse(process: Process) -> None:
    """What of the steps below changes nothing, in the host's own root. Raises Failure."""
    files.read(os.devnull)
    identity = user.resolve(process.user)
    _limit(process)
    _capabilities(process, identity.uid)
    _own_stdio(identity.uid)
    _change_directory("/")
    env = _environment(process.env, identity.home)
    reset_signals()
    _split(env)
    find_executable(process.args[0], env)


def execute(process: Process, program: bytes, sync: channel.Socket, wait: Callable[[], None] | None = None) -> NoReturn:
    """Become `process` inside the namespaces and the root we are in. program: its seccomp filter, b"" for none.
    Before the point of no return `wait` is called and an "executing" message goes out on `sync`. Raises Failure."""
    identity = user.resolve(process.user)
    _limit(process)
    capabilities = _capabilities(process, identity.uid)
    _own_stdio(identity.uid)
    denied = _change_directory(process.cwd)  # as root first: the directory may be closed to the user, the way to it too
    if process.no_new_privileges:
        set_no_new_privileges()
    with step("caps", f"{IN_INIT}unable to apply capabilities"):
        caps.limit_bounding(caps.mask(process.caps_bounding))
    _become(identity)
    _keep_only(capabilities)
    if denied:
        _change_directory(process.cwd, final=True)
    env = _environment(process.env, identity.home)
    if any("\0" in item for item in (*process.args, *env)):
        raise Failure(errno.EINVAL, "exec", f"{IN_INIT}invalid argument: a NUL byte in the arguments or the environment")
    path = find_executable(process.args[0] if process.args else "", env)
    close_on_exec()
    reset_signals()
    if wait is not None:
        wait()
    channel.send(sync, {"op": protocol.EXECUTING})
    _confine(process, program, capabilities)
    if process.inner_init:
        run_as_pid1(path, process.args, env, process.tty, sync)
    replace(path, process.args, env)


def replace(path: str, args: tuple[str, ...], env: list[str]) -> NoReturn:
    """execve, or say why not on the process's own stderr and leave: by now the daemon has been told of a start."""
    try:
        os.execve(path, args, _split(env))
    except OSError as error:
        os.write(2, f"exec {path}: {reason(error)}\n".encode())
    finally:
        os._exit(CANNOT_EXECUTE)


def fail(sync: channel.Socket, error: BaseException) -> NoReturn:
    """Report and leave. When even that is impossible, the end of the socket tells the shim."""
    try:
        channel.send(sync, unexpected(error).message())
    finally:
        os._exit(1)


def read_program(path: str) -> bytes:
    """The compiled filter; must be read while the host's files are there."""
    if not path:
        return b""
    with step("seccomp", f"{IN_INIT}unable to read the seccomp program {path}"):
        return files.read(path)


def _split(env: list[str]) -> dict[str, str]:
    pairs = (item.partition("=") for item in env)
    return {name: value for name, _, value in pairs}


def _limit(process: Process) -> None:
    if process.oom_score_adj is not None:
        with step("oom", f"{IN_INIT}failed to set /proc/self/oom_score_adj to {process.oom_score_adj}"):
            fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
            os.write(fd, str(process.oom_score_adj).encode())
            os.close(fd)
    for limit in process.rlimits:
        number = getattr(resource, f"RLIMIT_{limit.name.upper()}", None)
        if number is None:
            raise Failure(0, "rlimits", f"{IN_INIT}unknown rlimit {limit.name}")
        try:
            with step("rlimits", f"{IN_INIT}error setting rlimits for ready process: error setting rlimit type {number}"):
                resource.prlimit(0, number, (limit.soft, limit.hard))
        except ValueError as error:  # soft above hard
            raise Failure(errno.EINVAL, "rlimits", f"{IN_INIT}error setting rlimit type {number}: invalid argument") from error


class _Sets:
    """The capability sets the process ends up with."""

    __slots__ = ("ambient", "effective", "inheritable", "permitted")

    def __init__(self, effective: int, permitted: int, inheritable: int, ambient: int) -> None:
        self.effective, self.permitted, self.inheritable, self.ambient = effective, permitted, inheritable, ambient


def _capabilities(process: Process, uid: int) -> _Sets:
    ambient = caps.mask(process.caps_ambient)
    kept = caps.mask(process.caps_effective) if uid == 0 else ambient
    available = caps.capget()[1]  # the host's own root may lack some
    return _Sets(kept & available, kept & available, caps.mask(process.caps_inheritable) & available, ambient & available)


def _own_stdio(uid: int) -> None:
    """/dev/stdout and the like must open for the user too."""
    for fd in (0, 1, 2):
        found = os.fstat(fd)
        if found.st_uid != uid and (stat.S_ISFIFO(found.st_mode) or os.isatty(fd)):
            with step("stdio", f"{IN_INIT}unable to give fd {fd} to uid {uid}"):
                os.fchown(fd, uid, -1)


def _change_directory(cwd: str, final: bool = False) -> bool:
    """Whether it was denied (and may be tried again as the user)."""
    try:
        os.chdir(cwd or "/")
    except PermissionError as error:
        if final:
            raise _cwd_failure(cwd, error) from error
        return True
    except OSError as error:
        raise _cwd_failure(cwd, error) from error
    return False


def _cwd_failure(cwd: str, error: OSError) -> Failure:
    return Failure(error.errno or 0, "chdir", f'chdir to cwd ("{cwd}") set in config.json failed: {reason(error)}')


def _become(identity: user.Identity) -> None:
    with step("user", f"{IN_INIT}unable to setup user"):
        set_keep_caps(True)  # what is dropped is dropped below, by name
        os.setgroups(identity.groups)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
        set_keep_caps(False)


def _keep_only(sets: _Sets) -> None:
    """Effective: the process's own, so that the look-ups that follow see what it may see. Permitted stays for _confine."""
    with step("caps", f"{IN_INIT}unable to apply caps"):
        permitted = caps.capget()[1]
        caps.capset(permitted, permitted, sets.inheritable)
        caps.set_ambient(sets.ambient)
        caps.capset(sets.effective, permitted, sets.inheritable)


def _confine(process: Process, program: bytes, sets: _Sets) -> None:
    """Without no_new_privs loading a filter takes CAP_SYS_ADMIN, so it comes before the last drop; with it, after, so that
    the filter need not allow capset."""
    if program and not process.no_new_privileges:
        permitted = caps.capget()[1]
        with step("seccomp", f"{IN_INIT}unable to init seccomp: error loading seccomp filter"):
            caps.capset(permitted, permitted, sets.inheritable)
            load_filter(program)
    with step("caps", f"{IN_INIT}unable to apply caps"):
        caps.capset(sets.effective, sets.permitted, sets.inheritable)
    if program and process.no_new_privileges:
        with step("seccomp", f"{IN_INIT}unable to init seccomp: error loading seccomp filter"):
            load_filter(program)


def _environment(env: tuple[str, ...], home: str) -> list[str]:
    if any(item.startswith("HOME=") and item != "HOME=" for item in env):
        return list(env)
    return [*(item for item in env if item != "HOME="), f"HOME={home or '/'}"]
