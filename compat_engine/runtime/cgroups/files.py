"""Reading and writing the files of a cgroup. One that has vanished reads as empty: its container has just ended."""

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from compat_engine.errors import Internal

Writes = tuple[tuple[str, str], ...]
_GONE = (errno.ENOENT, errno.ENODEV)
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL)


def read(directory: str, name: str) -> str:
    """Content without the trailing newline; "" when the file is not there, or not for this cgroup."""
    try:
        with open(f"{directory}/{name}", encoding="ascii") as file:
            return file.read().rstrip("\n")
    except OSError as error:
        if error.errno in (*_GONE, *_UNSUPPORTED):
            return ""
        raise


def number(directory: str, name: str) -> int:
    """The file's one number; 0 when absent, -1 for "max"."""
    return to_int(read(directory, name))


def to_int(text: str) -> int:
    return -1 if text == "max" else int(text or 0)


def pairs(text: str) -> dict[str, int]:
    """Lines of "name number"."""
    return {name: to_int(value) for name, value in (line.split() for line in text.splitlines())}


def write(directory: str, name: str, value: str) -> None:
    """Raises Internal in the words a failed `docker update` shows."""
    try:
        put(directory, name, value)
    except OSError as error:
        raise Internal(f'failed to write "{value}": write {directory}/{name}: {(error.strerror or "").lower()}') from error


def put(directory: str, name: str, value: str) -> None:
    """One write(2), never creating the file. Raises OSError."""
    fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode("ascii"))
    finally:
        os.close(fd)


@contextmanager
def perhaps_gone() -> Iterator[None]:
    """That the cgroup has been removed, or is at this moment, is no error."""
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise


def tree(directory: str) -> Iterator[str]:
    """`directory` and all cgroups below it, children first; nothing when it is gone."""
    for path, _, _ in os.walk(directory, topdown=False):
        yield path


def pids(directory: str) -> list[int]:
    return [int(pid) for path in tree(directory) for pid in read(path, "cgroup.procs").split()]


def kill(directory: str) -> bool:
    """SIGKILL to all there; whether anyone was."""
    found = pids(directory)
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return bool(found)


def remove(directory: str) -> bool:
    """Remove it and what is below; false while something in it is still dying."""
    for path in tree(directory):
        try:
            os.rmdir(path)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            if error.errno not in _GONE:
                raise
    return True
