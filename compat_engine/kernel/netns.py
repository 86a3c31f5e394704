"""Work inside another network namespace from one thread: setns(2) moves only the caller. Python 3.11's os lacks it."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

CLONE_NEWNET: Final = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)


def setns(fd: int, nstype: int) -> None:
    if _libc.setns(fd, nstype) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "setns")


@contextmanager
def network_of(fd: int) -> Iterator[None]:
    """This thread's network namespace is `fd`'s inside the block. Sockets opened there stay in it; /proc/sys/net shows it."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(fd, CLONE_NEWNET)
        try:
            yield
        finally:
            setns(own, CLONE_NEWNET)
    finally:
        os.close(own)
