"""mount(2) and the descriptor-based mount calls (open_tree, move_mount, mount_setattr; Linux 5.12)."""

import ctypes
import os
from ctypes import c_char_p, c_int, c_ulong, c_void_p

from compat_engine.kernel.libc import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, check, libc, syscall

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_SYNCHRONOUS = 1, 2, 4, 8, 16
MS_MANDLOCK, MS_DIRSYNC, MS_NOATIME, MS_NODIRATIME = 64, 128, 1024, 2048
MS_REMOUNT, MS_BIND, MS_REC = 32, 4096, 16384
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 18, 1 << 19, 1 << 20
MS_RELATIME, MS_STRICTATIME, MS_LAZYTIME = 1 << 21, 1 << 24, 1 << 25
MNT_DETACH = 2

MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
MOUNT_ATTR__ATIME, MOUNT_ATTR_RELATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME = 0x70, 0, 0x10, 0x20
MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOSYMFOLLOW = 0x80, 0x200000

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40

libc.mount.argtypes = (c_char_p, c_char_p, c_char_p, c_ulong, c_void_p)
libc.umount2.argtypes = (c_char_p, c_int)
libc.pivot_root.argtypes = (c_char_p, c_char_p)


def _encode(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def mount(source: str | None, target: str, type: str | None, flags: int, data: str | None = None) -> None:
    """mount(2)."""
    check(libc.mount(_encode(source), os.fsencode(target), _encode(type), flags, _encode(data)), target)


def mount_on(target: int, source: str, type: str, flags: int, data: str = "") -> None:
    """mount(2) on what the descriptor `target` names; needs a /proc."""
    mount(source, f"/proc/self/fd/{target}", type, flags, data or None)


def umount2(target: str, flags: int) -> None:
    check(libc.umount2(os.fsencode(target), flags), target)


def pivot_root(new_root: str, put_old: str) -> None:
    check(libc.pivot_root(os.fsencode(new_root), os.fsencode(put_old)))


def open_tree(source: str, recursive: bool, directory: int = AT_FDCWD) -> int:
    """A detached copy of the mount at `source` (and of those below it): open_tree(2) with OPEN_TREE_CLONE."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0) | (0 if source else AT_EMPTY_PATH)
    return syscall(_OPEN_TREE, directory, os.fsencode(source), flags)


def move_mount(tree: int, target: int, name: str = "") -> None:
    """Attach the detached `tree` to what the descriptor `target` names, or to `name` in it: move_mount(2)."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | (0 if name else _MOVE_MOUNT_T_EMPTY_PATH)
    syscall(_MOVE_MOUNT, tree, b"", target, os.fsencode(name), flags)


class _MountAttr(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd"))


def mount_setattr(tree: int, set: int, clear: int = 0, propagation: int = 0, recursive: bool = False) -> None:
    """mount_setattr(2) on the mount a descriptor names."""
    attr = _MountAttr(set, clear, propagation, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    syscall(_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(attr), ctypes.sizeof(attr))
