"""The merged view of layers read with plain system calls: what overlayfs would show, without mounting anything.

Layers are directory descriptors, topmost first. Symlinks resolve inside the view, as in a container's root.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from compat_engine.images.extract import write_all

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINK_LIMIT = 40
_CHUNK = 1 << 20
_OPAQUE = "trusted.overlay.opaque"


class Merged:
    """Use as a context manager; it owns every descriptor it opens. `stack` values are one directory's parts, topmost first."""

    def __init__(self, lowers: Sequence[str]) -> None:
        self._open = ExitStack()
        self.root = [self._keep(os.open(lower, _DIRECTORY)) for lower in lowers]

    def __enter__(self) -> "Merged":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._open.close()

    def directory(self, path: str) -> list[int] | None:
        """The directory at `path`, links followed; None when there is none."""
        trail = [self.root]
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                trail = trail[:-1] or [self.root]
                continue
            fd, found = self.lookup(trail[-1], part)
            if found is None:
                return None
            if stat.S_ISLNK(found.st_mode):
                links += 1
                if links > _LINK_LIMIT:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                target = os.readlink(part, dir_fd=fd)
                trail = [self.root] if target.startswith("/") else trail
                todo += [piece for piece in reversed(target.split("/")) if piece not in ("", ".")]
            elif stat.S_ISDIR(found.st_mode):
                trail.append(self.child(trail[-1], part))
            else:
                return None
        return trail[-1]

    @contextmanager
    def itself(self, path: str) -> Iterator[Sequence[int]]:
        """The directory at `path` with no link on the way to it, for as long as the context lasts; empty when there is none."""
        stack: Sequence[int] = self.root
        with Merged(()) as scope:
            for part in path.split("/"):
                _, found = self.lookup(stack, part)
                stack = scope.child(stack, part) if found is not None and stat.S_ISDIR(found.st_mode) else ()
            yield stack

    def lookup(self, stack: Sequence[int], name: str) -> tuple[int, os.stat_result | None]:
        """Which layer's directory shows `name`, and its status; None when no layer does or a whiteout hides it."""
        for fd in stack:
            try:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            return fd, None if is_whiteout(found) else found
        return -1, None

    def child(self, stack: Sequence[int], name: str) -> list[int]:
        """The parts of the directory `name`, down to the first layer that hides what is below it."""
        parts: list[int] = []
        for fd in stack:
            try:
                part = os.open(name, _DIRECTORY, dir_fd=fd)
            except FileNotFoundError:
                continue
            except (NotADirectoryError, OSError) as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
                    break  # a whiteout or a file hides what is below
                raise
            parts.append(self._keep(part))
            if is_opaque(part):
                break
        return parts

    def names(self, stack: Sequence[int]) -> list[str]:
        return sorted({name for fd in stack for name in os.listdir(fd)})

    def _keep(self, fd: int) -> int:
        self._open.callback(os.close, fd)
        return fd


def copy_tree(lowers: Sequence[str], path: str, destination: int) -> bool:
    """Copies the content of the directory `path` of the merged `lowers` into the directory `destination`, and gives that the
    directory's owner, mode and times. False (and nothing done) when the view has no such directory."""
    with Merged(lowers) as view:
        stack = view.directory(path)
        if stack is None:
            return False
        _Copy(view).directory(stack, destination)
    return True


@dataclass(frozen=True, slots=True)
class _Place:
    """A directory that is being copied: its parts, which `scope` owns, and the names that are left of it. It owns `into`."""

    stack: Sequence[int]
    into: int
    names: Iterator[str]
    scope: Merged

    def close(self) -> None:
        os.close(self.into)
        self.scope.close()


class _Copy:
    def __init__(self, view: Merged) -> None:
        self._view = view
        self._links: dict[tuple[int, int], str] = {}  # inode -> path by which a new link to its copy is made

    def directory(self, stack: Sequence[int], into: int) -> None:
        """Keeps its place in a list, not on the call stack: trees are as deep as their makers like."""
        trail = [_Place(stack, os.dup(into), iter(self._view.names(stack)), Merged(()))]
        try:
            while trail:
                place = trail[-1]
                name = next(place.names, None)
                if name is not None:
                    trail += self._entry(place, name)
                else:
                    _describe(place.stack[0], os.fstat(place.stack[0]), place.into)
                    trail.pop().close()
        finally:
            for place in trail:
                place.close()

    def _entry(self, place: "_Place", name: str) -> list["_Place"]:
        """Copies it; the directory to go on in, if it is one."""
        fd, status = self._view.lookup(place.stack, name)
        if status is None:
            return []
        if not stat.S_ISDIR(status.st_mode):
            self._leaf(fd, name, status, place.into)
            return []
        os.mkdir(name, 0o700, dir_fd=place.into)
        into, scope = os.open(name, _DIRECTORY, dir_fd=place.into), Merged(())
        stack = scope.child(place.stack, name)
        return [_Place(stack, into, iter(self._view.names(stack)), scope)]

    def _leaf(self, source: int, name: str, status: os.stat_result, into: int) -> None:
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in self._links:
            os.link(self._links[key], name, dst_dir_fd=into, follow_symlinks=False)
            return
        if stat.S_ISREG(status.st_mode):
            self._file(source, name, status, into)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=into)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=into, follow_symlinks=False)
            os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=into, follow_symlinks=False)
        elif not stat.S_ISSOCK(status.st_mode):
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=into)
            os.chown(name, status.st_uid, status.st_gid, dir_fd=into, follow_symlinks=False)
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=into)
        if status.st_nlink > 1:
            self._links[key] = f"{os.readlink(f'/proc/self/fd/{into}')}/{name}"

    def _file(self, source: int, name: str, status: os.stat_result, into: int) -> None:
        reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
        writing = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=into)
        try:
            while chunk := os.read(reading, _CHUNK):
                write_all(writing, memoryview(chunk))
            _describe(reading, status, writing)
        finally:
            os.close(reading)
            os.close(writing)


def _describe(source: int, status: os.stat_result, target: int) -> None:
    """Owner, mode, extended attributes (overlayfs' own left out), times."""
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if not name.startswith(("trusted.overlay.", "user.overlay.")):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(directory: int | str) -> bool:
    try:
        return os.getxattr(directory, _OPAQUE) == b"y"
    except OSError:
        return False
