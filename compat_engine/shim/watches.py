"""Pipes of those who wait for the log to grow (protocol.py, watch)."""

import os

from compat_engine.shim.loop import Loop


class Watches:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._fds: list[int] = []

    def add(self, fd: int) -> None:
        """Takes the pipe's write end over."""
        os.set_blocking(fd, False)
        self._fds.append(fd)
        self._loop.add(fd, 0, lambda events: self._drop(fd))  # only the reader's end is reported

    def notify(self) -> None:
        for fd in tuple(self._fds):
            try:
                os.write(fd, b"\0")
            except BlockingIOError:
                pass  # full: the reader has its wake-up already
            except OSError:
                self._drop(fd)

    def close(self) -> None:
        for fd in tuple(self._fds):
            self._drop(fd)

    def _drop(self, fd: int) -> None:
        if fd in self._fds:
            self._fds.remove(fd)
            self._loop.remove(fd)
            os.close(fd)
