"""The words of fstab(5) and of Docker's bind options, as the kernel's flags."""

import errno
from collections.abc import Iterable
from dataclasses import dataclass

from compat_engine.kernel import mounts as m
from compat_engine.shim.failure import IN_INIT, Failure

PROPAGATION = {
    "private": m.MS_PRIVATE, "rprivate": m.MS_PRIVATE, "slave": m.MS_SLAVE, "rslave": m.MS_SLAVE,
    "shared": m.MS_SHARED, "rshared": m.MS_SHARED, "unbindable": m.MS_UNBINDABLE, "runbindable": m.MS_UNBINDABLE,
}  # fmt: skip

# word: (flag of mount(2), set it or clear it, attribute of mount_setattr(2))
_WORDS = {
    "ro": (m.MS_RDONLY, True, m.MOUNT_ATTR_RDONLY), "rw": (m.MS_RDONLY, False, m.MOUNT_ATTR_RDONLY),
    "nosuid": (m.MS_NOSUID, True, m.MOUNT_ATTR_NOSUID), "suid": (m.MS_NOSUID, False, m.MOUNT_ATTR_NOSUID),
    "nodev": (m.MS_NODEV, True, m.MOUNT_ATTR_NODEV), "dev": (m.MS_NODEV, False, m.MOUNT_ATTR_NODEV),
    "noexec": (m.MS_NOEXEC, True, m.MOUNT_ATTR_NOEXEC), "exec": (m.MS_NOEXEC, False, m.MOUNT_ATTR_NOEXEC),
    "nodiratime": (m.MS_NODIRATIME, True, m.MOUNT_ATTR_NODIRATIME), "diratime": (m.MS_NODIRATIME, False, m.MOUNT_ATTR_NODIRATIME),
    "sync": (m.MS_SYNCHRONOUS, True, 0), "async": (m.MS_SYNCHRONOUS, False, 0),
    "dirsync": (m.MS_DIRSYNC, True, 0), "mand": (m.MS_MANDLOCK, True, 0), "nomand": (m.MS_MANDLOCK, False, 0),
    "lazytime": (m.MS_LAZYTIME, True, 0), "nolazytime": (m.MS_LAZYTIME, False, 0),
    "defaults": (0, True, 0),
}  # fmt: skip
_ATIME = {
    "noatime": (m.MS_NOATIME, m.MOUNT_ATTR_NOATIME), "atime": (0, m.MOUNT_ATTR_RELATIME),
    "relatime": (m.MS_RELATIME, m.MOUNT_ATTR_RELATIME), "norelatime": (0, m.MOUNT_ATTR_RELATIME),
    "strictatime": (m.MS_STRICTATIME, m.MOUNT_ATTR_STRICTATIME), "nostrictatime": (0, m.MOUNT_ATTR_RELATIME),
}  # fmt: skip
_RECURSIVE = {
    "rro": m.MOUNT_ATTR_RDONLY, "rnosuid": m.MOUNT_ATTR_NOSUID, "rnodev": m.MOUNT_ATTR_NODEV, "rnoexec": m.MOUNT_ATTR_NOEXEC,
}  # fmt: skip


@dataclass(slots=True)
class Options:
    """flags: for mount(2). attributes, cleared, recursive_attributes: for mount_setattr(2) on a bind. recursive: rbind."""

    flags: int = 0
    attributes: int = 0
    cleared: int = 0
    recursive_attributes: int = 0
    recursive: bool = True
    propagation: int = m.MS_PRIVATE
    recursive_propagation: bool = True


def parse(words: Iterable[str]) -> Options:
    """Raises Failure for a word that means nothing here, so that no option is silently ignored."""
    options = Options()
    for word in words:
        if word in _WORDS:
            _apply(options, *_WORDS[word])
        elif word in _ATIME:
            flag, attribute = _ATIME[word]
            options.flags |= flag
            options.cleared |= m.MOUNT_ATTR__ATIME
            options.attributes = options.attributes & ~m.MOUNT_ATTR__ATIME | attribute
        elif word in _RECURSIVE:
            options.recursive_attributes |= _RECURSIVE[word]
        elif word in PROPAGATION:
            options.propagation, options.recursive_propagation = PROPAGATION[word], word.startswith("r")
        elif word in ("bind", "rbind"):
            options.recursive = word == "rbind"
        else:
            raise Failure(errno.EINVAL, "mount", f'{IN_INIT}unknown mount option "{word}"')
    return options


def _apply(options: Options, flag: int, on: bool, attribute: int) -> None:
    if on:
        options.flags |= flag
        options.attributes |= attribute
        options.cleared &= ~attribute
    else:
        options.flags &= ~flag
        options.attributes &= ~attribute
        options.cleared |= attribute & ~m.MOUNT_ATTR_RDONLY  # "rw" does not open what the host has mounted read-only
