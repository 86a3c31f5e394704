"""What is mounted where this process is: /proc/self/mountinfo, see proc_pid_mountinfo(5)."""

import os


def lines(path: str = "/proc/self/mountinfo") -> list[str]:
    """One for each mount. Only a newline ends one: of what a name may hold the kernel escapes that, spaces, tabs and backslashes,
    but neither the other characters that end lines of text nor bytes that are none."""
    with open(path, "rb") as file:
        return os.fsdecode(file.read()).split("\n")[:-1]
