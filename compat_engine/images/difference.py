"""What a container's writable layer changes in the image below it, by the rules of `docker diff`."""

import os
import stat
from collections.abc import Sequence

from compat_engine.images.merged import Merged, is_opaque, is_whiteout

MODIFIED, ADDED, DELETED = 0, 1, 2
# What every container gets by being started: no change of its own while it is as empty as that start left it.
_FURNITURE = frozenset(
    (".dockerenv", "dev", "dev/console", "dev/mqueue", "dev/pts", "dev/shm", "etc", "etc/hostname", "etc/hosts", "etc/mtab")
) | {"etc/resolv.conf", "proc", "sys", "sys/fs", "sys/fs/cgroup"}
_CAPABILITY = "security.capability"


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
            if lower is None and all(f"{below}/{entry}" in inside for entry in os.listdir(full)):
                found.add(below)
        elif lower is None and (below == "etc/mtab" or (stat.S_ISREG(status.st_mode) and not status.st_size)):
            found.add(below)
    return found


class _Comparison:
    def __init__(self, upper: str, view: Merged) -> None:
        self._upper = upper
        self._view = view
        self._skip = _furniture(upper, "", view, view.root)
        self._found: list[tuple[str, int]] = []

    def run(self) -> list[tuple[str, int]]:
        self._directory("", self._view.root, False)
        return self._found

    def _directory(self, path: str, stack: Sequence[int], opaque: bool) -> None:
        names = sorted(os.listdir(self._full(path)))
        for name in names:
            below = f"{path}/{name}"
            if below[1:] not in self._skip:
                self._entry(below, name, stack)
        if opaque:
            self._hidden(path, stack, set(names))

    def _entry(self, path: str, name: str, stack: Sequence[int]) -> None:
        status = os.lstat(self._full(path))
        fd, lower = self._view.lookup(stack, name) if stack else (-1, None)
        if is_whiteout(status):
            if lower is not None:
                self._found.append((path, DELETED))
            return
        at = len(self._found)
        with Merged(()) as scope:
            below = scope.child(stack, name) if lower is not None and stat.S_ISDIR(lower.st_mode) else []
            if stat.S_ISDIR(status.st_mode):
                self._directory(path, below, bool(below) and is_opaque(self._full(path)))
            else:
                self._hidden(path, below, set())
        if lower is None:
            self._found.insert(at, (path, ADDED))
        elif len(self._found) > at or _differs(status, self._full(path), lower, f"/proc/self/fd/{fd}/{name}"):
            self._found.insert(at, (path, MODIFIED))

    def _hidden(self, path: str, stack: Sequence[int], shown: set[str]) -> None:
        """What a directory that covers its lower one wholly takes away."""
        for name in self._view.names(stack):
            if name not in shown and self._view.lookup(stack, name)[1] is not None:
                self._found.append((f"{path}/{name}", DELETED))

    def _full(self, path: str) -> str:
        return self._upper + path


def _differs(new: os.stat_result, path: str, old: os.stat_result, old_path: str) -> bool:
    """A directory's size and times say nothing about it."""
    if (new.st_mode, new.st_uid, new.st_gid, new.st_rdev) != (old.st_mode, old.st_uid, old.st_gid, old.st_rdev):
        return True
    if stat.S_ISDIR(new.st_mode):
        return False
    return (new.st_mtime_ns, new.st_size) != (old.st_mtime_ns, old.st_size) or _capability(path) != _capability(old_path)


def _capability(path: str) -> bytes:
    try:
        return os.getxattr(path, _CAPABILITY, follow_symlinks=False)
    except OSError:
        return b""
