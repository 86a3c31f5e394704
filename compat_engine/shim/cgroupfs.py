"""/sys/fs/cgroup inside a container: cgroup2, or a tmpfs with one v1 hierarchy a directory, as the host has them."""

import os
from dataclasses import dataclass
from functools import cache

from compat_engine.kernel import mountinfo
from compat_engine.kernel import mounts as m
from compat_engine.kernel.paths import make_directories, open_in_root
from compat_engine.shim import mountflags
from compat_engine.shim.spec import Mount, Spec


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A v1 hierarchy of the host: where it is mounted and the options that name it ("cpu,cpuacct", "name=systemd")."""

    point: str
    options: str


def mount(root: int, item: Mount, spec: Spec) -> None:
    """Needs the process's final cgroup namespace. Raises OSError."""
    found = hierarchies()
    flags = mountflags.parse(item.flags).flags
    target = make_directories(root, item.target)
    if found:
        m.mount_on(target, "tmpfs", "tmpfs", flags & ~m.MS_RDONLY, "mode=755")
    else:
        m.mount_on(target, "cgroup", "cgroup2", flags, item.data)
    os.close(target)
    if found:
        base = open_in_root(root, item.target)  # the tmpfs, not what it covers
        for hierarchy in found:
            _mount_hierarchy(base, hierarchy, flags, spec)
        os.close(base)


def _mount_hierarchy(base: int, hierarchy: Hierarchy, flags: int, spec: Spec) -> None:
    """base: the tmpfs, which holds nothing but what we made."""
    name = os.path.basename(hierarchy.point)
    os.mkdir(name, 0o755, dir_fd=base)
    own = next((item.path for item in spec.cgroups if item.path.startswith(f"{hierarchy.point}/")), "")
    if spec.namespaces.cgroup == "host" and own:
        _bind(own, base, name, flags)  # with no namespace of its own a container still sees no more than its own cgroup
    else:
        target = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=base)
        m.mount_on(target, "cgroup", "cgroup", flags, hierarchy.options)
        os.close(target)
    if "," in name:  # cpu,cpuacct is found under both names
        for part in name.split(","):
            os.symlink(name, part, dir_fd=base)


def _bind(source: str, base: int, name: str, flags: int) -> None:
    tree = m.open_tree(source, recursive=False)
    m.mount_setattr(tree, m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOEXEC | (flags & m.MS_RDONLY))
    m.move_mount(tree, base, name)
    os.close(tree)


@cache
def hierarchies() -> tuple[Hierarchy, ...]:
    """As they are mounted at the first call."""
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.lines():
        left, _, right = line.partition(" - ")
        type, _, options = right.split(" ", 2)
        if type == "cgroup":
            names = ",".join(word for word in options.split(",") if word not in _GENERAL)
            found.setdefault(names, Hierarchy(left.split(" ", 5)[4], names))
    return tuple(found.values())


_GENERAL = ("rw", "ro", "xattr", "clone_children", "noprefix", "release_agent", "favordynmods")
