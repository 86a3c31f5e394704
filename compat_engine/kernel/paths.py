"""Paths inside a container's rootfs, resolved so that no symlink leads out of it: openat2(2) with RESOLVE_IN_ROOT."""

import ctypes
import errno
import os
import stat

from compat_engine.kernel.libc import syscall

_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
_MAX_LINKS = 40  # as the kernel's own limit


class _OpenHow(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("flags", "mode", "resolve"))


def open_in_root(root: int, path: str, flags: int = os.O_PATH, mode: int = 0) -> int:
    """Open `path` as a process chrooted into the directory `root` would. Raises OSError with `path` as its filename."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    while True:
        try:
            return syscall(_OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        except OSError as error:
            if error.errno != errno.EAGAIN:  # EAGAIN: a rename elsewhere made the lookup uncertain
                raise OSError(error.errno, error.strerror, path) from error


def make_directories(root: int, path: str, mode: int = 0o755, _links: int = 0) -> int:
    """O_PATH descriptor of the directory `path` inside `root`; what is missing is made, through dangling symlinks too."""
    if _links > _MAX_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    try:
        return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        head, name = os.path.split(path.rstrip("/"))
        parent = make_directories(root, head or "/", mode, _links)
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            return make_directories(root, os.path.join(head or "/", os.readlink(name, dir_fd=parent)), mode, _links + 1)
    finally:
        os.close(parent)
    return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)


def make_file(root: int, path: str) -> int:
    """O_PATH descriptor of `path` inside `root`; an empty file is made when nothing is there."""
    try:
        return open_in_root(root, path)
    except FileNotFoundError:
        os.close(make_directories(root, os.path.dirname(path)))
        os.close(open_in_root(root, path, os.O_CREAT | os.O_WRONLY, 0o755))  # 0755: the mode Docker gives them
        return open_in_root(root, path)
