"""The shim's files in <bundle>/ (protocol.py), reached by the directory's descriptor: its path may be too long for a socket."""

import os
from contextlib import suppress
from typing import Any

from compat_engine.shim import channel, clock, files, protocol

_ROOTFS = "rootfs"  # the empty directory init mounts on
_REPORT = "shim.log"  # what went wrong in the shim itself


class Bundle:
    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @property
    def rootfs(self) -> str:
        return f"{self.path}/{_ROOTFS}"

    @property
    def spec_path(self) -> str:
        return f"{self.path}/{protocol.SPEC}"

    def plan(self) -> bytes:
        """The first line of the spec (plan.py)."""
        return files.read_line(protocol.SPEC, self._fd)

    def prepare(self) -> None:
        """Forget an earlier run, make the rootfs directory."""
        self.clear()
        self._remove(protocol.EXIT)
        os.mkdir(_ROOTFS, 0o700, dir_fd=self._fd)

    def listen(self) -> channel.Socket:
        """On shim.sock."""
        listener = channel.listen(f"/proc/self/fd/{self._fd}/{protocol.SOCKET}")
        os.chmod(protocol.SOCKET, 0o600, dir_fd=self._fd)
        return listener

    def write_pid(self, init: int) -> None:
        files.replace(protocol.PID, f"{os.getpid()} {init}\n", self._fd)

    def write_started(self) -> None:
        files.append(protocol.PID, "started\n", self._fd)

    def write_exit(self, record: dict[str, Any]) -> None:
        files.replace(protocol.EXIT, channel.encode(record), self._fd)

    def clear(self) -> None:
        """Remove all of ours but the exit record."""
        for name in (protocol.SOCKET, protocol.PID):
            self._remove(name)
        with suppress(FileNotFoundError):
            os.rmdir(_ROOTFS, dir_fd=self._fd)

    def report(self, text: str) -> None:
        """A line for whoever looks into why a shim misbehaved. The bundle may be gone by then."""
        with suppress(OSError):  # then there is nowhere left to tell it
            files.append(_REPORT, f"{clock.now()} {text}\n", self._fd)

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)
