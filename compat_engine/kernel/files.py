"""What the os module lacks for files: durability, and a word about their place on the disk."""

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
from pathlib import Path

from compat_engine.kernel.libc import check, libc

_WRITE = 2  # SYNC_FILE_RANGE_WRITE
_STRIDE = 8 << 20  # bytes
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_FS_TOPDIR_FL = 0x20000
libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def syncfs(fd: int) -> None:
    """syncfs(2): everything written to the filesystem `fd` lives on is on the disk when this returns."""
    check(libc.syncfs(fd))


def appended(fd: int, size: int, more: int) -> None:
    """To be told of each `more` bytes written at the end of a file of `size`. The disk gets a large file piece by piece while
    the rest is being written (sync_file_range(2)), so that the sync at the end finds little to do. Nothing for a device."""
    begun = size // _STRIDE * _STRIDE
    if size + more >= begun + _STRIDE:
        try:
            check(libc.sync_file_range(fd, begun, size + more - begun, _WRITE))
        except OSError as error:
            if error.errno != errno.ESPIPE:
                raise


def spread(directory: Path) -> None:
    """Has ext4 put each directory made in this one where there is room, not beside the others (`chattr +T`). It is slow to
    make files where many were deleted in the last minutes, as after a prune: it looks at each inode that was freed there.
    FS_TOPDIR_FL of ioctl_iflags(2); other filesystems are left as they are. Raises OSError when there is no such directory."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a hint, which other filesystems do not know
            (flags,) = struct.unpack("Ixxxx", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(8)))
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("Ixxxx", flags | _FS_TOPDIR_FL))
    finally:
        os.close(fd)
