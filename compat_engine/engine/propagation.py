"""What a bind's propagation asks of the mount its source is on: a private mount has no peers to hear of."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from compat_engine.engine.records import MountPoint
from compat_engine.errors import Internal
from compat_engine.kernel import mountinfo

_WANTED = {"shared": (("shared:",), "a shared mount"), "slave": (("shared:", "master:"), "a shared or slave mount")}
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class _Mounted:
    path: str
    peers: tuple[str, ...]  # the optional fields: "shared:2", "master:1"


def check_propagation(points: Iterable[MountPoint]) -> None:
    """Raises Internal, in Docker's words, for a bind that is to be shared or a slave of a mount that is neither."""
    asked = [(point, point.propagation.removeprefix("r")) for point in points]
    asked = [(point, how) for point, how in asked if how in _WANTED]
    if not asked:
        return
    mounts = _mounts(mountinfo.lines())
    for point, how in asked:
        kinds, name = _WANTED[how]
        mount = _mount_of(os.path.realpath(point.source), mounts)
        if not any(peer.startswith(kinds) for peer in mount.peers):
            raise Internal(f"path {point.source} is mounted on {mount.path} but it is not {name}")


def _mounts(lines: Iterable[str]) -> list[_Mounted]:
    """Of the lines of mountinfo."""
    found = []
    for line in lines:
        fields = line.partition(" - ")[0].split(" ")
        path = _ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), fields[4])
        found.append(_Mounted(path, tuple(fields[6:])))
    return found


def _mount_of(path: str, mounts: list[_Mounted]) -> _Mounted:
    """Of those at the same place the last lies on top."""
    above = [mount for mount in mounts if f"{path}/".startswith(f"{mount.path.rstrip('/')}/")]
    return max(reversed(above), key=lambda mount: len(mount.path))
