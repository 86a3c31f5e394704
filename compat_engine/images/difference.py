"""What a container's writable layer changes in the image below it, by the rules of `docker diff`."""

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from compat_engine.images.merged import Merged, is_opaque, is_whiteout

MODIFIED, ADDED, DELETED = 0, 1, 2
# What every container gets by being started: no change of its own while it is as empty as that start left it.
_FURNITURE = frozenset(
    (".dockerenv", "dev", "dev/console", "dev/mqueue", "dev/pts", "dev/shm", "etc", "etc/hostname", "etc/hosts", "etc/mtab")
) | {"etc/resolv.conf", "proc", "sys", "sys/fs", "sys/fs/cgroup"}
_CAPABILITY = "security.capability"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def changes(upper: str, lowers: Sequence[str]) -> list[tuple[str, int]]:
    """(absolute path, kind), parents before what is in them. `upper` is the layer's directory, `lowers`: those below it, topmost
    first."""
    with Merged(lowers) as view:
        return _Comparison(upper, view).run()


def furniture(upper: str, lowers: Sequence[str]) -> set[str]:
    """Relative paths in `upper` that are there only because the container was made and started."""
    with Merged(lowers) as view:
        return _furniture(upper, "", view, view.root)


def _furniture(upper: str, path: str, view: Merged, stack: Sequence[int]) -> set[str]:
    found: set[str] = set()
    for name in os.listdir(os.path.join(upper, path)):
        below = f"{path}/{name}" if path else name
        full = os.path.join(upper, below)
        if below not in _FURNITURE:
            continue
        lower = view.lookup(stack, name)[1] if stack else None
        status = os.lstat(full)
        if stat.S_ISDIR(status.st_mode):
            inside = _furniture(upper, below, view, view.child(stack, name) if lower is not None else [])
            found |= inside
            bare = all(f"{below}/{entry}" in inside for entry in os.listdir(full))
            if bare and (lower is None or _only_passed(full, status, lower)):
                found.add(below)
        elif lower is None and (below == "etc/mtab" or (stat.S_ISREG(status.st_mode) and not status.st_size)):
            found.add(below)
    return found


def _only_passed(path: str, status: os.stat_result, lower: os.stat_result) -> bool:
    """Whether a directory is in the upper layer because of what is in it alone."""
    if (status.st_mode, status.st_uid, status.st_gid) != (lower.st_mode, lower.st_uid, lower.st_gid):
        return False
    fd = os.open(path, _OPEN)
    try:
        return not is_opaque(fd)
    finally:
        os.close(fd)


@dataclass(slots=True)
class _Directory:
    """One the comparison is in. fd, names: of the upper layer's; stack: its parts in the layers below, `below` owns them.

    at: where in the list of changes its own goes, once it is known what changed in it.
    """

    path: str
    fd: int
    names: list[str]  # not looked at yet, the next one last
    shown: set[str]
    stack: Sequence[int]
    below: Merged
    opaque: bool = False
    at: int = 0
    entry: "_Entry | None" = None  # None: the root

    def close(self) -> None:
        os.close(self.fd)
        self.below.close()


@dataclass(frozen=True, slots=True)
class _Entry:
    """A name in the upper layer's directory `parent`, and in that of the layer below which shows it, if one does."""

    path: str
    name: str
    parent: int
    status: os.stat_result
    lower_parent: int
    lower: os.stat_result | None


class _Comparison:
    """Keeps its place in a list, not on the call stack: a container nests as deep as it likes."""

    def __init__(self, upper: str, view: Merged) -> None:
        self._upper = upper
        self._view = view
        self._skip = _furniture(upper, "", view, view.root)
        self._found: list[tuple[str, int]] = []

    def run(self) -> list[tuple[str, int]]:
        trail = [_directory("", os.open(self._upper, _OPEN), self._view.root, Merged(()))]
        try:
            while trail:
                if trail[-1].names:
                    with suppress(FileNotFoundError):  # the container runs: what goes meanwhile is no change
                        trail += self._next(trail[-1])
                else:
                    self._leave(trail[-1])
                    trail.pop().close()
        finally:
            for directory in trail:
                directory.close()
        return self._found

    def _next(self, directory: _Directory) -> list[_Directory]:
        """Compares one more name of the directory; what is to be looked into."""
        name = directory.names.pop()
        path = f"{directory.path}/{name}"
        if path[1:] in self._skip:
            return []
        status = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
        fd, lower = self._view.lookup(directory.stack, name) if directory.stack else (-1, None)
        entry = _Entry(path, name, directory.fd, status, fd, lower)
        if is_whiteout(status):
            if lower is not None:
                self._found.append((path, DELETED))
            return []
        below = Merged(())
        stack = below.child(directory.stack, name) if lower is not None and stat.S_ISDIR(lower.st_mode) else []
        if stat.S_ISDIR(status.st_mode):
            found = _directory(path, os.open(name, _OPEN, dir_fd=directory.fd), stack, below)
            found.opaque, found.at, found.entry = bool(stack) and is_opaque(found.fd), len(self._found), entry
            return [found]
        at = len(self._found)
        self._hidden(path, stack, set())
        below.close()
        self._record(entry, at)
        return []

    def _leave(self, directory: _Directory) -> None:
        if directory.opaque:
            self._hidden(directory.path, directory.stack, directory.shown)
        if directory.entry is not None:
            self._record(directory.entry, directory.at)

    def _record(self, entry: _Entry, at: int) -> None:
        if entry.lower is None:
            self._found.insert(at, (entry.path, ADDED))
        elif len(self._found) > at or _differs(entry):
            self._found.insert(at, (entry.path, MODIFIED))

    def _hidden(self, path: str, stack: Sequence[int], shown: set[str]) -> None:
        """What a directory that covers its lower one wholly takes away."""
        for name in self._view.names(stack):
            if name not in shown and self._view.lookup(stack, name)[1] is not None:
                self._found.append((f"{path}/{name}", DELETED))


def _directory(path: str, fd: int, stack: Sequence[int], below: Merged) -> _Directory:
    names = sorted(os.listdir(fd), reverse=True)
    return _Directory(path, fd, names, set(names), stack, below)


def _differs(entry: _Entry) -> bool:
    """A directory's size and times say nothing about it."""
    new, old = entry.status, entry.lower
    assert old is not None
    if (new.st_mode, new.st_uid, new.st_gid, new.st_rdev) != (old.st_mode, old.st_uid, old.st_gid, old.st_rdev):
        return True
    if stat.S_ISDIR(new.st_mode):
        return False
    if (new.st_mtime_ns, new.st_size) != (old.st_mtime_ns, old.st_size):
        return True
    return _capability(entry.parent, entry.name) != _capability(entry.lower_parent, entry.name)


def _capability(directory: int, name: str) -> bytes:
    try:
        return os.getxattr(f"/proc/self/fd/{directory}/{name}", _CAPABILITY, follow_symlinks=False)
    except OSError:
        return b""
