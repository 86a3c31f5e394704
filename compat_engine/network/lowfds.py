"""Descriptors below FD_SETSIZE, set aside for libnftables: it waits with select(2), and for a number beyond glibc aborts.

Elsewhere such numbers are nothing special: a thousand published ports, or clients, take all there are.
"""

import os
from threading import Lock

FD_SETSIZE = 1024
_NUMBER = 16


class LowDescriptors:
    """Not for two threads at once: `lock` is for who uses it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._held: list[int] = []

    def release(self) -> bool:
        """Make a low number the next to be given out, to whichever thread is first; false when there is none."""
        self.fill()
        if self._held:
            os.close(self._held.pop())
            return True
        return False

    def fill(self) -> None:
        """Set aside what is free of them."""
        while len(self._held) < _NUMBER:
            fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            if fd >= FD_SETSIZE:
                os.close(fd)
                return
            self._held.append(fd)
