"""gzip for a rotated log file, by a process of its own, so that the container's output does not wait for it."""

import json
import os
import signal
import stat
import zlib
from collections.abc import Callable
from contextlib import suppress
from struct import pack

from compat_engine.kernel import namespaces as ns

_CHUNK = 1 << 18
_HEAD = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff"  # deflate, an extra field, no time, an unknown system


def start(path: str, last_time: str, report: Callable[[str], None]) -> int:
    """Begin to make PATH.gz of PATH, which goes once that is there. last_time: of its last record. The process's pid.

    Raises OSError.
    """
    # Children are born in the container's pid namespace; this one must neither be seen there nor end with it.
    container = os.open("/proc/self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
    try:
        ns.join("/proc/self/ns/pid", ns.CLONE_NEWPID)
        try:
            pid = os.fork()
            if pid == 0:
                _child(path, last_time, report)
        finally:
            ns.setns(container, ns.CLONE_NEWPID)
    finally:
        os.close(container)
    return pid


def finished(pid: int, wait: bool) -> bool:
    """Whether it has ended; wait: come back only then."""
    try:
        return os.waitpid(pid, 0 if wait else os.WNOHANG)[0] == pid
    except ChildProcessError:  # the shim, which reaps all its children, was faster
        return True


def _child(path: str, last_time: str, report: Callable[[str], None]) -> None:
    try:
        signal.set_wakeup_fd(-1)
        _let_go()
        compress(path, last_time)
    except OSError as error:  # the plain file stays, and is read as well
        report(f"log: compressing {path}: {error}")
    finally:
        os._exit(0)


def _let_go() -> None:
    """Of the shim's pipes and sockets: who is at the other end waits for the last to close them.

    The bundle's directory stays: there go reports.
    """
    for fd in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # the listing's own has gone
            if fd > 2 and not stat.S_ISDIR(os.fstat(fd).st_mode):
                os.close(fd)


def compress(path: str, last_time: str) -> None:
    """The extra field is Docker's, with the inode of the plain file besides: by that a reader knows what it has read already."""
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    unfinished = f"{path}.gz.tmp"
    target = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    extra = json.dumps({"lastTime": last_time, "inode": os.fstat(source).st_ino}, separators=(",", ":")).encode()
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    checksum = length = 0
    with open(source, "rb") as plain, open(target, "wb") as packed:
        packed.write(_HEAD + pack("<H", len(extra)) + extra)
        while chunk := plain.read(_CHUNK):
            checksum, length = zlib.crc32(chunk, checksum), length + len(chunk)
            packed.write(packer.compress(chunk))
        packed.write(packer.flush() + pack("<II", checksum, length & 0xFFFFFFFF))
    os.rename(unfinished, f"{path}.gz")
    os.unlink(path)
