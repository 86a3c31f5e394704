"""The one mount the engine makes on the host: /dev/shm of a container that shares its IPC namespace (`--ipc shareable`)."""

import errno
import os
from pathlib import Path

from compat_engine.errors import Internal
from compat_engine.kernel.mounts import MNT_DETACH, MS_NODEV, MS_NOEXEC, MS_NOSUID, mount, umount2


def mount_shm(path: Path, size: int) -> None:
    """A tmpfs of `size` bytes at `path`, which is made. Raises Internal."""
    path.mkdir(mode=0o700, exist_ok=True)
    unmount_shm(path)  # a crash may have left one
    try:
        mount("shm", str(path), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, f"mode=1777,size={size}")
    except OSError as error:
        raise Internal(f"mounting shm tmpfs: {error.strerror}") from error


def unmount_shm(path: Path) -> None:
    """Nothing happens where nothing is mounted."""
    if not os.path.ismount(path):
        return
    try:
        umount2(str(path), MNT_DETACH)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise Internal(f"unmounting {path}: {error.strerror}") from error
