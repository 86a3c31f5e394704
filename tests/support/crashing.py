"""A daemon that kills itself with SIGKILL at its N-th step: `python -m tests.support.crashing FILE compat-engine-arguments`.

A step is anything that can be seen from outside the process: a directory or file made, renamed or removed, a commit, a message
sent, a socket bound. N stands in FILE, and counting begins with SIGUSR1, so that one daemon serves an ordinary life first. What
the launcher and the shims do goes on, as it would. Without a crash (N too large) the daemon serves on, and the test has seen all.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from compat_engine.config import from_arguments
from compat_engine.daemon import run
from compat_engine.store.records import Records

_EVENTS = frozenset(
    ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree", "socket.sendmsg",
     "socket.sendto", "socket.bind", "os.chown", "os.setxattr")
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Steps:
    """Counts, and dies at the wanted one."""

    def __init__(self, file: Path) -> None:
        self._file, self._fatal, self._count, self._armed = file, 0, 0, False

    def arm(self, *_: Any) -> None:
        self._fatal = int(self._file.read_text())
        self._file.unlink()  # tells the test
        self._armed = True

    def disarm(self) -> None:
        self._armed = False

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._armed and (event in _EVENTS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING)):
            self.step()

    def step(self) -> None:
        if not self._armed:
            return
        self._count += 1
        if self._count == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    steps = Steps(Path(sys.argv[1]))
    sys.addaudithook(steps.hook)
    commit = Records._commit

    def watched(self: Records, *arguments: Any) -> None:
        steps.step()
        commit(self, *arguments)
        steps.step()

    Records._commit = watched  # type: ignore[assignment, method-assign]
    signal.signal(signal.SIGUSR1, steps.arm)
    run(from_arguments(sys.argv[2:]), sys.argv[2:])


if __name__ == "__main__":
    main()
