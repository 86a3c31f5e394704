"""unshare(2), setns(2) and what belongs to a namespace's making."""

import os
from ctypes import c_char_p, c_int, c_size_t

from compat_engine.kernel.libc import check, libc

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

libc.unshare.argtypes = (c_int,)
libc.setns.argtypes = (c_int, c_int)
libc.sethostname.argtypes = libc.setdomainname.argtypes = (c_char_p, c_size_t)


def unshare(flags: int) -> None:
    check(libc.unshare(flags))


def setns(fd: int, flags: int) -> None:
    """Join the namespace `fd` names, or with a pidfd those of its process that `flags` selects (Linux 5.8)."""
    check(libc.setns(fd, flags))


def sethostname(name: str) -> None:
    raw = os.fsencode(name)
    check(libc.sethostname(raw, len(raw)))


def setdomainname(name: str) -> None:
    raw = os.fsencode(name)
    check(libc.setdomainname(raw, len(raw)))


def join(path: str, flag: int) -> None:
    """Join the namespace a file like /proc/PID/ns/net stands for; `flag` says which kind it must be."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, flag)
    finally:
        os.close(fd)
