"""Pseudo terminals. pty(7), ioctl_tty(2)."""

import fcntl
import os
import struct
import termios

_TIOCSPTLCK, _TIOCGPTPEER, _TIOCGPTN = 0x40045431, 0x5441, 0x80045430


def open_pty(ptmx: str) -> tuple[int, int, int]:
    """(master, slave, number) of a new pty of the devpts that `ptmx` belongs to; the slave is no one's controlling tty yet."""
    master = os.open(ptmx, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    # by descriptor, not by name: what the container has mounted on /dev/pts/N does not matter
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    (number,) = struct.unpack("I", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))
    return master, slave, number


def set_size(fd: int, rows: int, columns: int) -> None:
    """TIOCSWINSZ; the foreground process group gets SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0))


def set_controlling(fd: int) -> None:
    """Make `fd` the controlling terminal of the calling session leader."""
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
