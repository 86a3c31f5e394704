"""Bytes from the daemon to a worker through memory that both map: by a pipe each of them would be copied twice more.

A ring of SIZE bytes, and two counters (eventfd(2)): of bytes put in since the worker looked, and of those it has done with since
the daemon looked.
"""

import contextlib
import io
import mmap
import os
from collections.abc import Sequence
from typing import Any

SIZE = 2 << 20  # bytes; more would no longer be in the processor's cache when the worker reads it
FDS = 3  # descriptors a job has of it
_END = 1 << 40  # added to the first counter: nothing follows


class Sender:
    """The daemon's end. `fds` go to the worker; `freed` of them is readable when there is room again.

    Raises OSError when there are no descriptors or there is no memory to be had.
    """

    def __init__(self) -> None:
        with contextlib.ExitStack() as made:
            memory = _closing(made, os.memfd_create("ring", os.MFD_CLOEXEC))
            os.ftruncate(memory, SIZE)
            self._filled = _closing(made, os.eventfd(0, os.EFD_CLOEXEC))
            self.freed = _closing(made, os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            self._memory = mmap.mmap(memory, SIZE)
            self._made = made.pop_all()
        self.fds = (memory, self._filled, self.freed)
        self._at, self._room = 0, SIZE

    def put(self, data: memoryview) -> int:
        """Takes bytes from the start of `data`, as many as there is room for; how many it took."""
        if not self._room:
            self._collect()
        count = min(len(data), self._room, SIZE - self._at)
        if count:
            self._memory[self._at : self._at + count] = data[:count]
            self._at = (self._at + count) % SIZE
            self._room -= count
            os.eventfd_write(self._filled, count)
        return count

    def end(self) -> None:
        """What was put in is all there is."""
        os.eventfd_write(self._filled, _END)

    def close(self) -> None:
        """Whatever the worker does: it has descriptors of its own."""
        self._memory.close()
        self._made.close()

    def _collect(self) -> None:
        with contextlib.suppress(BlockingIOError):  # nothing yet
            self._room += os.eventfd_read(self.freed)


def _closing(made: contextlib.ExitStack, fd: int) -> int:
    made.callback(os.close, fd)
    return fd


class Receiver(io.RawIOBase):
    """The worker's end, made of the Sender's `fds`."""

    def __init__(self, fds: Sequence[int]) -> None:
        memory, self._filled, self._freed = fds
        self._memory = memoryview(mmap.mmap(memory, SIZE))
        self._at = self._ready = self._lent = 0
        self._ended = False

    def borrow(self, size: int) -> memoryview:
        """At most `size` bytes, which the next call takes back; none at the end."""
        if self._lent:
            os.eventfd_write(self._freed, self._lent)
        while not self._ready and not self._ended:
            count = os.eventfd_read(self._filled)
            self._ended = count >= _END
            self._ready = count % _END
        self._lent = min(size, self._ready, SIZE - self._at)
        piece = self._memory[self._at : self._at + self._lent]
        self._at = (self._at + self._lent) % SIZE
        self._ready -= self._lent
        return piece

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return bytes(self.borrow(size)) if size >= 0 else self.readall()

    def readinto(self, buffer: Any) -> int:
        piece = self.borrow(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)
