"""The shim's files in <bundle>/ (protocol.py), reached by the directory's descriptor: its path may be too long for a socket."""

import json
import os
import socket
from contextlib import suppress
from typing import Any

from compat_engine.shim import clock, protocol
from compat_engine.shim.spec import Spec

_ROOTFS = "rootfs"  # the empty directory init mounts on
_REPORT = "shim.log"  # what went wrong in the shim itself


class Bundle:
    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @property
    def rootfs(self) -> str:
        return f"{self.path}/{_ROOTFS}"

    def spec(self) -> Spec:
        with open(protocol.SPEC, encoding="utf-8", opener=self._open) as file:
            return Spec.load(file.read())

    def prepare(self) -> socket.socket:
        """Forget an earlier run, make the rootfs directory, listen on shim.sock."""
        self.clear()
        self._remove(protocol.EXIT)
        os.mkdir(_ROOTFS, 0o700, dir_fd=self._fd)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(f"/proc/self/fd/{self._fd}/{protocol.SOCKET}")
        os.chmod(protocol.SOCKET, 0o600, dir_fd=self._fd)
        listener.listen(16)
        listener.setblocking(False)
        return listener

    def write_pid(self, init: int) -> None:
        self._write(protocol.PID, f"{os.getpid()} {init}\n")

    def write_exit(self, record: dict[str, Any]) -> None:
        self._write(protocol.EXIT, json.dumps(record))

    def clear(self) -> None:
        """Remove all of ours but the exit record."""
        for name in (protocol.SOCKET, protocol.PID):
            self._remove(name)
        with suppress(FileNotFoundError):
            os.rmdir(_ROOTFS, dir_fd=self._fd)

    def report(self, text: str) -> None:
        """A line for whoever looks into why a shim misbehaved. The bundle may be gone by then."""
        with (
            suppress(OSError),  # then there is nowhere left to tell it
            open(_REPORT, "a", encoding="utf-8", errors="backslashreplace", opener=self._open) as file,
        ):
            file.write(f"{clock.now()} {text}\n")

    def _open(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CLOEXEC, 0o600, dir_fd=self._fd)

    def _write(self, name: str, text: str) -> None:
        temporary = f".{name}.tmp"
        with open(temporary, "w", encoding="utf-8", opener=self._open) as file:
            file.write(text)
        os.rename(temporary, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)
