"""The capability sets of containers: the kernel's names (linux/capability.h), Docker's default set, CapAdd and CapDrop."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from compat_engine.errors import InvalidParameter

_KNOWN = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST
    NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE
    SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM
    BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
_DEFAULT = """
    CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE
"""
KNOWN = tuple(f"CAP_{name}" for name in _KNOWN.split())  # in the order of their numbers, from 0
DEFAULT = tuple(f"CAP_{name}" for name in _DEFAULT.split())
ALL = "ALL"


def resolve(add: Iterable[str], drop: Iterable[str], privileged: bool) -> tuple[str, ...]:
    """The set a container's root has. `--cap-add ALL` less what is dropped; `--cap-drop ALL` leaves what is added. Words are
    case-insensitive, with or without CAP_. Raises InvalidParameter for words the kernel does not know or the engine lacks."""
    added, dropped = _names("CapAdd", add), _names("CapDrop", drop)
    if privileged:
        return available()
    if ALL in added:
        return tuple(name for name in available() if name not in dropped)
    kept = () if ALL in dropped else tuple(name for name in DEFAULT if name not in dropped and name in available())
    return tuple(dict.fromkeys((*kept, *added)))


@cache
def available() -> tuple[str, ...]:
    """What this process has itself, and so can give, in the order of the numbers."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    mask = int(status.partition("CapEff:")[2].split(maxsplit=1)[0], 16)
    return tuple(name for number, name in enumerate(KNOWN) if mask >> number & 1)


def _names(field: str, words: Iterable[str]) -> list[str]:
    return [_name(field, word) for word in words]


def _name(field: str, word: str) -> str:
    upper = word.upper()
    if upper == ALL:
        return ALL
    name = upper if upper.startswith("CAP_") else f"CAP_{upper}"
    if name not in KNOWN:
        raise InvalidParameter(f'invalid {field}: unknown capability: "{name}"')
    if name not in available():
        raise InvalidParameter(
            f'invalid {field}: capability not supported by your kernel or not available in the current environment: "{name}"'
        )
    return name
