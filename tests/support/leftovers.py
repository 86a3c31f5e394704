"""What a test run may leave on the host. Everything it makes there has its process id in the name, so that a run sees its own only."""

import os
import re
import shutil
import subprocess
from pathlib import Path

RUN = os.getpid()
_PLACES = (
    ("/run", f"ce-{RUN}-*"),  # exec roots and sockets of daemons
    ("/run", f"contract-{RUN}-*"),
    ("/var/tmp", f"compat-test-{RUN}-*"),  # data roots
    ("/run/netns", f"ce?{RUN}"),
    ("/sys/class/net", f"ce?{RUN}"),
    *((f"/sys/fs/cgroup{below}", name) for below in ("", "/*") for name in (f"ce?{RUN}", f"*test-*{RUN}*", f"contract-{RUN}")),
)
_NAMES = re.compile(rf"(/run/ce-{RUN}-|/run/contract-{RUN}-|/compat-test-{RUN}-)")


def traces() -> set[str]:
    """Directories, network namespaces, interfaces, cgroups, nftables tables, mounts and processes of this run, as they are now."""
    paths = {str(path) for place, name in _PLACES for path in Path("/").glob(f"{place}/{name}"[1:])}
    mounts = {f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if _NAMES.search(line)}
    return {*paths, *mounts, *_processes(), *_tables()}


def _processes() -> set[str]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if _NAMES.search(line):
            found.add(f"process {path.parent.name}: {line.strip()}")
    return found


def _tables() -> set[str]:
    if os.geteuid() != 0 or shutil.which("nft") is None:
        return set()
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
    return {line for line in listed.splitlines() if re.search(rf" compat-ce.{RUN}$", line)}
