"""Durability calls the os module lacks."""

import ctypes
import errno

from compat_engine.kernel.libc import check, libc

_WRITE = 2  # SYNC_FILE_RANGE_WRITE
_STRIDE = 8 << 20  # bytes
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
