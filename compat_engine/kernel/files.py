"""Durability calls the os module lacks."""

from compat_engine.kernel.libc import check, libc


def syncfs(fd: int) -> None:
    """syncfs(2): everything written to the filesystem `fd` lives on is on the disk when this returns."""
    check(libc.syncfs(fd))
