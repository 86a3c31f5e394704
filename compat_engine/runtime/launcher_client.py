"""The daemon's end of the launcher: starts it, starts it again when it dies, hands it containers to run."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from compat_engine.errors import Internal
from compat_engine.runtime.connection import Connection, Message, pair

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "import sys; sys.path.insert(0, {root!r}); from compat_engine.shim.launcher import main; main({fd})"
HEALTHY_SECONDS = 1.0  # one that dies sooner is started again only after a pause
LONGEST_PAUSE = 5.0
PATIENCE_SECONDS = 10.0


class Launcher:
    """A process of its own session, forking shims; they live on when it, or this daemon, dies."""

    def __init__(self, log: Path) -> None:
        """log: a file for what launcher and shims have to say of themselves on stderr."""
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._up = asyncio.Event()
        self._pause = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._connection: Connection
        self._process: subprocess.Popen[bytes]
        self._start()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(self, message: Message, fds: Sequence[int]) -> None:
        """Send a `run`; the caller keeps and closes `fds`. Raises Internal when there is no launcher to be had."""
        for _ in range(2):  # the one that took the first may have died unread
            try:
                await asyncio.wait_for(self._up.wait(), PATIENCE_SECONDS)
                await self._connection.send(message, fds)
                return
            except TimeoutError:
                break
            except (BrokenPipeError, ConnectionResetError):
                self._up.clear()  # until the next one is there
        raise Internal(f"the launcher of containers does not run, see {self._log}")

    async def close(self) -> None:
        """It leaves when its socket ends; its shims stay."""
        if self._timer:
            self._timer.cancel()
        self._part()
        await asyncio.to_thread(self._process.wait)

    def _start(self) -> None:
        ours, theirs = pair()
        with theirs, self._log.open("ab") as log:
            command = PROGRAM.format(root=str(ROOT), fd=theirs.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._connection = Connection(ours, lambda message: None, lambda: None)
        self._pidfd = os.pidfd_open(self._process.pid)
        self._began = self._loop.time()
        self._loop.add_reader(self._pidfd, self._died)
        self._up.set()

    def _died(self) -> None:
        self._part()
        self._process.wait()
        healthy = self._loop.time() - self._began >= HEALTHY_SECONDS
        self._pause = 0.0 if healthy else min(max(self._pause * 2, 0.1), LONGEST_PAUSE)
        self._timer = self._loop.call_later(self._pause, self._start)

    def _part(self) -> None:
        self._up.clear()
        self._connection.close()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
