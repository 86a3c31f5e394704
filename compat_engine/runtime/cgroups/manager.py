"""Cgroups as the engine sees them: which version this host has, where a container's directories are and what is in them."""

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from compat_engine.errors import Internal
from compat_engine.kernel import mountinfo
from compat_engine.runtime.cgroups.devices import DeviceRule
from compat_engine.runtime.cgroups.group import Group
from compat_engine.runtime.cgroups.resources import Resources
from compat_engine.runtime.cgroups.v1 import CONTROLLERS, V1, Hierarchy
from compat_engine.runtime.cgroups.v2 import V2
from compat_engine.shim.spec import CgroupDir


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of mountinfo: a cgroup filesystem. options: of the superblock, where v1 names its controllers."""

    path: str
    type: str
    options: frozenset[str]


class Cgroups:
    """Plans of containers' cgroups; safe to use from one event loop."""

    def __init__(self, driver: V1 | V2) -> None:
        self._driver = driver

    @classmethod
    def detect(cls, cache: Path) -> "Cgroups":
        """From what is mounted: v1 as soon as one controller is (hybrid hosts), else v2. cache: a directory for device
        programs. Raises Internal when no cgroup filesystem is mounted."""
        mounts = mounted(mountinfo.lines())
        hierarchies = v1_hierarchies(mounts)
        if any(item.controllers for item in hierarchies):
            return cls(V1(hierarchies))
        for mount in mounts:
            if mount.type == "cgroup2":
                return cls(V2(mount.path, cache))
        raise Internal("no cgroup filesystem is mounted: mount cgroup2 on /sys/fs/cgroup")

    @property
    def version(self) -> int:
        """1 or 2; a hybrid host is 1."""
        return self._driver.version

    def has(self, file: str, parent: str) -> bool:
        """Whether the kernel offers a control file ("memory.memsw.limit_in_bytes", "io.weight") below `parent`, once a plan
        has made that. A plan leaves out what it does not: the engine warns, as Docker does."""
        return self._driver.has(file, _relative(parent))

    def make_parent(self, parent: str) -> None:
        """So that `has` can tell what containers below it may have. Raises Internal."""
        try:
            self._driver.make_parent(_relative(parent))
        except (OSError, ValueError) as error:  # ValueError: a NUL byte
            raise Internal(f"cannot make cgroup {parent}: {error}") from error

    def plan(self, id: str, parent: str, resources: Resources, rules: Sequence[DeviceRule]) -> tuple[CgroupDir, ...]:
        """Directories for a shim to make and join. The parents are made here, when they are not there yet. Raises Internal."""
        try:
            return self._driver.plan(id, _relative(parent), resources, rules)
        except (OSError, ValueError) as error:  # ValueError: a NUL byte
            raise Internal(f"cannot make cgroup {parent}: {error}") from error

    def group(self, directories: Sequence[CgroupDir]) -> Group:
        """The container whose plan was `directories`, running or not."""
        return self._driver.group(tuple(directory.path for directory in directories))


def mounted(lines: Iterable[str]) -> list[Mounted]:
    """The cgroup filesystems among those that lines of mountinfo tell of."""
    found = []
    for line in lines:
        place, _, filesystem = line.partition(" - ")
        type, _, options = filesystem.split(" ")[:3]
        if type in ("cgroup", "cgroup2"):
            found.append(Mounted(place.split(" ")[4], type, frozenset(options.split(","))))
    return found


def v1_hierarchies(mounts: Sequence[Mounted]) -> list[Hierarchy]:
    """One each, though it be mounted twice; a named one (systemd's) too."""
    found: dict[frozenset[str], Hierarchy] = {}
    for mount in mounts:
        if mount.type == "cgroup":
            names = frozenset(option for option in mount.options if option.startswith("name="))
            controllers = mount.options & CONTROLLERS
            found.setdefault(controllers | names, Hierarchy(mount.path, controllers))
    return list(found.values())


def _relative(parent: str) -> str:
    """Below the hierarchy's root wherever it points: `..` stops there."""
    return posixpath.normpath(f"/{parent}").strip("/")
