"""A container's cgroup: what both versions do alike, over the few things in which they differ."""

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Callable

from compat_engine.errors import Internal
from compat_engine.runtime.cgroups import files
from compat_engine.runtime.cgroups.resources import Resources
from compat_engine.runtime.cgroups.stats import Usage

FREEZE_SECONDS = 10
KILL_SECONDS = 10


class Group(ABC):
    """`directories`: all of its directories, one on v2, one a hierarchy on v1; `main` is the one that counts processes."""

    def __init__(self, directories: tuple[str, ...]) -> None:
        self.directories = directories

    @property
    @abstractmethod
    def main(self) -> str: ...

    @abstractmethod
    def usage(self) -> Usage: ...

    @abstractmethod
    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed for want of memory."""

    @abstractmethod
    def update(self, resources: Resources) -> None:
        """Apply what `resources` sets; the rest stays. Raises Internal with the file and the kernel's reason."""

    @abstractmethod
    def _freeze(self, frozen: bool) -> None: ...

    @abstractmethod
    def _frozen(self) -> bool: ...

    def pids(self) -> list[int]:
        return files.pids(self.main)

    async def freeze(self) -> None:
        """Returns when every process is stopped. Raises Internal: all running again, when one cannot be within FREEZE_SECONDS; at
        once, when the container has ended."""
        self._freeze(True)
        if not await _until(lambda: self._frozen() or self._gone(), FREEZE_SECONDS):
            self._freeze(False)
            raise Internal("unable to freeze: a process is in an uninterruptible wait")
        if self._gone():
            raise Internal("unable to freeze: container not running")

    async def thaw(self) -> None:
        self._freeze(False)
        await _until(lambda: not self._frozen(), FREEZE_SECONDS)

    def _gone(self) -> bool:
        return not os.path.exists(self.main)

    async def destroy(self) -> None:
        """Kill what is in it and remove it. Raises Internal when a process will not die within KILL_SECONDS."""
        if not any(map(os.path.exists, self.directories)):
            return  # as a rule: its shim has done it
        if not await _until(self._emptied, KILL_SECONDS):
            raise Internal(f"processes in {self.main} cannot be killed: {self.pids()}")
        if not await _until(self._removed, KILL_SECONDS):
            raise Internal(f"cgroup {self.main} cannot be removed: it is busy")

    def _emptied(self) -> bool:
        if not files.kill(self.main):
            return True
        self._freeze(False)  # on v1 a frozen process does not die
        return False

    def _removed(self) -> bool:
        busy = [directory for directory in self.directories if not files.remove(directory)]
        return not busy


async def _until(done: Callable[[], bool], seconds: float) -> bool:
    """Ask again and again, ever more slowly: the kernel has no event for it. False when time ran out."""
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + seconds, 0.0005
    while not done():
        if loop.time() > deadline:
            return False
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.1)
    return True
