"""Capabilities: names, the calling thread's sets, the bounding and ambient sets. capabilities(7)."""

import ctypes
from collections.abc import Iterable
from ctypes import c_int, c_uint32, c_ulong
from functools import cache

from compat_engine.kernel.libc import check, libc

NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
    "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
    "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
    "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
SYS_ADMIN = 1 << NAMES.index("CAP_SYS_ADMIN")

_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT = 23, 24, 47
_PR_CAP_AMBIENT_RAISE, _PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
_VERSION_3 = 0x20080522

libc.prctl.argtypes = (c_int, c_ulong, c_ulong, c_ulong, c_ulong)


class _Header(ctypes.Structure):
    _fields_ = (("version", c_uint32), ("pid", c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", c_uint32), ("permitted", c_uint32), ("inheritable", c_uint32))


def mask(names: Iterable[str]) -> int:
    """The bit set of capability names. Raises ValueError for one it does not know."""
    bits = 0
    for name in names:
        if name not in NAMES:
            raise ValueError(f"unknown capability {name!r}")
        bits |= 1 << NAMES.index(name)
    return bits


def capget() -> tuple[int, int, int]:
    """(effective, permitted, inheritable) of this thread."""
    data = (_Data * 2)()
    check(libc.capget(ctypes.byref(_Header(_VERSION_3, 0)), data))
    low, high = data
    return (
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Raises PermissionError when `permitted` grows."""
    sets = (effective, permitted, inheritable)
    data = (_Data * 2)(
        _Data(*(item & 0xFFFFFFFF for item in sets)),
        _Data(*(item >> 32 for item in sets)),
    )
    check(libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), data))


@cache
def bounding() -> int:
    """The bounding set of this process at the first call, with what the kernel has beyond NAMES."""
    bits, number = 0, 0
    while (present := libc.prctl(_PR_CAPBSET_READ, number, 0, 0, 0)) >= 0:
        bits |= present << number
        number += 1
    return bits


def limit_bounding(keep: int) -> None:
    """Drop all but `keep` from the bounding set, for good; needs CAP_SETPCAP."""
    for number in _members(bounding() & ~keep):
        check(libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0))


def set_ambient(wanted: int) -> None:
    """Each must be permitted and inheritable already."""
    check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    for number in _members(wanted):
        check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0))


def _members(bits: int) -> list[int]:
    return [number for number in range(bits.bit_length()) if bits >> number & 1]
