"""What a bind's propagation asks of the mount its source is on: a private mount has no peers to hear of."""

import os
from collections.abc import Iterable

from compat_engine.engine.records import MountPoint
from compat_engine.errors import Internal
from compat_engine.kernel.mountinfo import mount_of

_WANTED = {"shared": (("shared:",), "a shared mount"), "slave": (("shared:", "master:"), "a shared or slave mount")}


def check_propagation(points: Iterable[MountPoint]) -> None:
    """Raises Internal, in Docker's words, for a bind that is to be shared or a slave of a mount that is neither."""
    for point in points:
        kinds, name = _WANTED.get(point.propagation.removeprefix("r"), ((), ""))
        if not name:
            continue
        mount = mount_of(os.path.realpath(point.source))
        if not any(peer.startswith(kinds) for peer in mount.peers):
            raise Internal(f"path {point.source} is mounted on {mount.point} but it is not {name}")
