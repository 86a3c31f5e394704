"""The local driver: a directory, or what the options `type`, `device` and `o` say to mount on it."""

import os
import re
import socket
from pathlib import Path

from compat_engine.errors import Internal, InvalidParameter
from compat_engine.kernel import mountinfo, mounts
from compat_engine.kernel.mounts import MNT_DETACH, mount, umount2

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_REMOUNT = 32  # MS_REMOUNT
_OPTIONS = ("type", "o", "device", "size")
_REQUIRED = {"device": ("type",), "o": ("device", "type"), "type": ("device",)}
_FLAGS = {  # fstab words: (set, clear)
    "ro": (mounts.MS_RDONLY, 0),
    "rw": (0, mounts.MS_RDONLY),
    "nosuid": (mounts.MS_NOSUID, 0),
    "suid": (0, mounts.MS_NOSUID),
    "nodev": (mounts.MS_NODEV, 0),
    "dev": (0, mounts.MS_NODEV),
    "noexec": (mounts.MS_NOEXEC, 0),
    "exec": (0, mounts.MS_NOEXEC),
    "sync": (mounts.MS_SYNCHRONOUS, 0),
    "async": (0, mounts.MS_SYNCHRONOUS),
    "dirsync": (mounts.MS_DIRSYNC, 0),
    "mand": (mounts.MS_MANDLOCK, 0),
    "nomand": (0, mounts.MS_MANDLOCK),
    "noatime": (mounts.MS_NOATIME, 0),
    "atime": (0, mounts.MS_NOATIME),
    "nodiratime": (mounts.MS_NODIRATIME, 0),
    "diratime": (0, mounts.MS_NODIRATIME),
    "relatime": (mounts.MS_RELATIME, 0),
    "norelatime": (0, mounts.MS_RELATIME),
    "strictatime": (mounts.MS_STRICTATIME, 0),
    "nostrictatime": (0, mounts.MS_STRICTATIME),
    "bind": (mounts.MS_BIND, 0),
    "rbind": (mounts.MS_BIND | mounts.MS_REC, 0),
    "defaults": (0, 0),
    "": (0, 0),
}


def check_name(name: str) -> None:
    """Raises InvalidParameter with Docker's text."""
    if len(name) < 2:
        raise InvalidParameter(f"create {name}: volume name is too short, names should be at least two alphanumeric characters")
    if not _NAME.fullmatch(name):
        raise InvalidParameter(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are '
            "allowed. If you intended to pass a host directory, use absolute path"
        )


def check_options(name: str, options: dict[str, str]) -> None:
    """Raises InvalidParameter with Docker's text."""
    for option in options:
        if option not in _OPTIONS:
            raise InvalidParameter(f'create {name}: invalid option: "{option}"')
    if options.get("size"):
        raise InvalidParameter(f"create {name}: quota size requested but no quota support")
    for option, others in _REQUIRED.items():
        for other in others:
            if options.get(option) and not options.get(other):
                raise InvalidParameter(f'create {name}: missing required option: "{other}"')


def needs_mount(options: dict[str, str] | None) -> bool:
    return bool(options and options.get("device"))


def mount_volume(target: Path, options: dict[str, str]) -> None:
    """Mount what the options say, unless something is mounted there already. Blocking: a network file system may take its time.
    Raises Internal with Docker's text."""
    if _mounted(target):
        return
    flags, data = mount_options(options.get("o", ""))
    device, kind = options["device"], options.get("type", "")
    try:
        mount(device, str(target), kind, flags, _resolved(kind, data) or None)
        if flags & mounts.MS_BIND and flags & ~(mounts.MS_BIND | mounts.MS_REC):
            mount(None, str(target), None, flags | _REMOUNT)  # the first call takes none but MS_REC beside MS_BIND
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        shown = f", data: {data}" if data else ""
        raise Internal(
            f"error while mounting volume '{target}': failed to mount local volume: "
            f"mount {device}:{target}, flags: {flags:#x}{shown}: {reason}"
        ) from error


def unmount_volume(target: Path) -> None:
    """Raises Internal."""
    if not _mounted(target):
        return
    try:
        umount2(str(target), MNT_DETACH)
    except OSError as error:
        raise Internal(f"error while unmounting volume path '{target}': {error.strerror}") from error


def mount_options(text: str) -> tuple[int, str]:
    """(flags, data) of mount(2) from comma-separated fstab words; what is no flag is the file system's."""
    flags, data = 0, []
    for word in text.split(","):
        if word in _FLAGS:
            set, clear = _FLAGS[word]
            flags = (flags | set) & ~clear
        else:
            data.append(word)
    return flags, ",".join(data)


def _mounted(target: Path) -> bool:
    # os.path.ismount does not see a bind mount within one file system.
    point = os.path.realpath(target)
    return any(mount.point == point for mount in mountinfo.mounts())


def _resolved(kind: str, data: str) -> str:
    """The kernel's network file systems take addresses only, so the name in `addr=` is looked up here."""
    if kind not in ("nfs", "nfs4", "cifs"):
        return data
    words = data.split(",")
    for index, word in enumerate(words):
        if word.startswith("addr="):
            words[index] = f"addr={_address(word.removeprefix('addr='))}"
    return ",".join(words)


def _address(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)[0][4][0])
    except OSError as error:
        raise Internal(f"error resolving passed in network volume address: lookup {host}: {error.strerror}") from error
