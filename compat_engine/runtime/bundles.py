"""The files daemon and shim share: <bundle>/ as shim/protocol.py tells it."""

import errno
import json
import os
import socket
from contextlib import suppress
from pathlib import Path

from compat_engine.runtime.protocol import Exit
from compat_engine.shim import protocol
from compat_engine.shim.spec import Spec


def make(bundle: Path, spec: Spec) -> None:
    """An empty bundle with the spec in it; what an earlier run of the same container left is dropped."""
    remove(bundle)
    bundle.mkdir(mode=0o700, parents=True)
    (bundle / protocol.SPEC).write_text(spec.dump(), encoding="utf-8")


def remove(bundle: Path) -> None:
    """Gone when it returns, though a shim that is leaving removes its files at the same time. Never goes into a directory in
    it: that is where the container's root is mounted, if not seen from here. Raises OSError when one of those is not empty."""
    while bundle.exists():
        for entry in os.scandir(bundle):
            with suppress(FileNotFoundError):
                (os.rmdir if entry.is_dir(follow_symlinks=False) else os.unlink)(entry.path)
        try:
            bundle.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
                raise


def spec(bundle: Path) -> Spec | None:
    """None when the daemon died while writing it: then nothing was started from it."""
    try:
        return Spec.load((bundle / protocol.SPEC).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def exit(bundle: Path) -> Exit | None:
    """How the container ended, once its shim has recorded it."""
    try:
        raw = json.loads((bundle / protocol.EXIT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Exit(bundle.name, raw["code"], raw["oom"], raw["time"])


def init(bundle: Path) -> tuple[int, bool]:
    """Init's pid, 0 before it exists or after its end, and whether it has become the container's program."""
    try:
        words = (bundle / protocol.PID).read_text(encoding="ascii").split()
        return int(words[1]), "started" in words
    except (FileNotFoundError, IndexError, ValueError):
        return 0, False


def connect(bundle: Path) -> socket.socket:
    """A connection to the shim. Raises OSError: ConnectionRefusedError or FileNotFoundError when it is gone, BlockingIOError
    when too many wait before it."""
    directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.setblocking(False)
        sock.connect(f"/proc/self/fd/{directory}/{protocol.SOCKET}")  # the whole path may exceed sun_path's 108 bytes
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(directory)
    return sock
