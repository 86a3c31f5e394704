"""The C library through ctypes: one place that loads it, one that turns a result into an OSError."""

import ctypes
import os
from ctypes import c_long
from typing import Any

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = c_long

# Numbers of calls older than 5.0 differ by architecture; the newer ones are the same everywhere.
_OLD = {"x86_64": {"seccomp": 317}, "aarch64": {"seccomp": 277}}


def number_of(name: str) -> int:
    """The number of a system call older than Linux 5.0 on this machine. Raises NotImplementedError on other architectures."""
    machine = os.uname().machine
    if machine not in _OLD:
        raise NotImplementedError(f"architecture {machine} is not supported")
    return _OLD[machine][name]


def check(result: int, *paths: str | bytes) -> int:
    """`result` itself, or the OSError of errno when it is negative."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), *(os.fsdecode(path) for path in paths[:1]))
    return result


def syscall(number: int, *arguments: Any) -> int:
    """syscall(2). ints travel as long, bytes as char *, None as NULL; raises OSError."""
    result: int = libc.syscall(c_long(number), *(c_long(item) if isinstance(item, int) else item for item in arguments))
    return check(result)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """malloc gives nothing back to the kernel by itself from now on, here and in forked children: a page fault for each page of
    each large buffer costs more than all other work on it. mallopt(3)."""
    libc.mallopt(_M_MMAP_THRESHOLD, 16 << 20)
    libc.mallopt(_M_TRIM_THRESHOLD, 64 << 20)


def trim_memory() -> None:
    """Give all free memory back now. malloc_trim(3)."""
    libc.malloc_trim(0)
