"""What a process may say about itself: prctl(2), close_range(2), its signals and its name."""

import _signal  # type: ignore[import-not-found]  # signal makes an enum of all it is given, a page each in every child
import ctypes
import os
import signal
from collections.abc import Iterable
from functools import cache

from compat_engine.kernel.libc import check, libc, syscall

_CLOSE_RANGE, _CLOSE_RANGE_CLOEXEC = 436, 4
_PR_SET_DUMPABLE, _PR_SET_KEEPCAPS, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 4, 8, 36, 38
_MAX_FD = 0xFFFFFFFF
_UNTOUCHED = (_signal.SIG_DFL, None)  # None: not for programs


def _prctl(option: int, value: int) -> None:
    check(libc.prctl(option, value, 0, 0, 0))


def set_subreaper() -> None:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_dumpable(dumpable: bool) -> None:
    """Not dumpable: no other process of the same user may trace it or open its /proc files. execve allows it again."""
    _prctl(_PR_SET_DUMPABLE, int(dumpable))


def set_keep_caps(keep: bool) -> None:
    """Whether the permitted set survives the change from root to another uid."""
    _prctl(_PR_SET_KEEPCAPS, int(keep))


def set_no_new_privileges() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def set_title(name: str, arguments: Iterable[str]) -> None:
    """What ps shows: `name` (15 bytes at most) and, cut to the room the command line has, `arguments`."""
    fd = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, os.fsencode(name))
    os.close(fd)
    start, end = find_title()
    line = b"\0".join([os.fsencode(item) for item in arguments])[: end - start - 1]
    ctypes.memmove(start, line.ljust(end - start, b"\0"), end - start)


@cache
def find_title() -> tuple[int, int]:
    """Where the command line lies in memory, (first, behind the last) byte; forked children have it at the same place."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[45]), int(fields[46])  # arg_start, arg_end: fields 48 and 49 of proc_pid_stat(5)


def close_others(keep: Iterable[int]) -> None:
    """Close every descriptor above 2 that is not in `keep`."""
    first = 3
    for fd in sorted(item for item in keep if item > 2):
        if fd > first:
            syscall(_CLOSE_RANGE, first, fd - 1, 0)
        first = fd + 1
    syscall(_CLOSE_RANGE, first, _MAX_FD, 0)


def close_on_exec() -> None:
    """Mark every descriptor above 2 close-on-exec."""
    syscall(_CLOSE_RANGE, 3, _MAX_FD, _CLOSE_RANGE_CLOEXEC)


def reset_signals() -> None:
    """Default disposition for all, none blocked: ignored signals would survive execve."""
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):
        if _signal.getsignal(number) not in _UNTOUCHED:
            _signal.signal(number, _signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
