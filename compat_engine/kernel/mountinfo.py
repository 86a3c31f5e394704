"""What is mounted where this process is: /proc/self/mountinfo, see proc_pid_mountinfo(5)."""

import os
import re
from dataclasses import dataclass

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """point: its directory. type: of the filesystem. peers: the optional fields, as "shared:2" or "master:1"."""

    point: str
    type: str
    peers: tuple[str, ...]


def lines(path: str = "/proc/self/mountinfo") -> list[str]:
    """One for each mount. Only a newline ends one: of what a name may hold the kernel escapes that, spaces, tabs and backslashes,
    but neither the other characters that end lines of text nor bytes that are none. Raises OSError."""
    with open(path, "rb") as file:
        return os.fsdecode(file.read()).split("\n")[:-1]


def mounts() -> list[Mount]:
    """In the order they were mounted. Raises OSError."""
    found = []
    for line in lines():
        place, _, filesystem = line.partition(" - ")
        fields = place.split(" ")
        point = _ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), fields[4])
        found.append(Mount(point, filesystem.partition(" ")[0], tuple(fields[6:])))
    return found


def mount_of(path: str) -> Mount:
    """The one that `path`, absolute and without links, is on; of several at one place the last is on top. Raises OSError."""
    above = [mount for mount in mounts() if f"{path}/".startswith(f"{mount.point.rstrip('/')}/")]
    return max(reversed(above), key=lambda mount: len(mount.point), default=Mount("/", "unknown", ()))  # in a chroot
