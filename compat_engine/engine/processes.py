"""Processes as `ps -ef` shows them, read from /proc."""

import os
import pwd
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TITLES = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
_TICKS = os.sysconf("SC_CLK_TCK")
_DAY, _USER_WIDTH = 86400, 8


@dataclass(frozen=True, slots=True)
class Process:
    """One process; times in seconds, `started` since the epoch. command "" for a kernel thread or a zombie."""

    pid: int
    parent: int
    uid: int
    state: str
    name: str
    terminal: int  # device number, 0 for none
    cpu: float
    started: float
    command: str

    def row(self, now: float) -> list[str]:
        busy = int(self.cpu * 100 / max(now - self.started, 1e-9)) if now > self.started else 0
        command = self.command or f"[{self.name}]"
        return [
            user_name(self.uid), str(self.pid), str(self.parent), str(min(busy, 99)), start_text(self.started, now),
            terminal_name(self.terminal), cpu_text(self.cpu), command + " <defunct>" * (self.state == "Z"),
        ]  # fmt: skip


def list_processes(pids: Iterable[int], proc: Path = Path("/proc")) -> list[list[str]]:
    """A row of TITLES for each process that still exists, by pid."""
    now, booted = time.time(), _boot_time(proc)
    return [found.row(now) for pid in sorted(pids) if (found := read_process(proc / str(pid), booted))]


def read_process(directory: Path, booted: float) -> Process | None:
    """None when it is gone."""
    try:
        line = (directory / "stat").read_text(errors="replace")
        uid = directory.stat().st_uid
        command = (directory / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    pid, name, rest = line.partition(" (")[0], line[line.index("(") + 1 : line.rindex(")")], line[line.rindex(")") + 2 :].split()
    return Process(
        pid=int(pid),
        parent=int(rest[1]),
        uid=uid,
        state=rest[0],
        name=name,
        terminal=int(rest[4]),
        cpu=(int(rest[11]) + int(rest[12])) / _TICKS,
        started=booted + int(rest[19]) / _TICKS,
        command=" ".join(command.decode(errors="replace").rstrip("\0").split("\0")),
    )


def user_name(uid: int) -> str:
    """The host's name for it, cut as ps does; the number where it has none."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
    return name if len(name) <= _USER_WIDTH else f"{name[: _USER_WIDTH - 1]}+"


def start_text(started: float, now: float) -> str:
    """Time of today, day of this year, or year."""
    then, today = time.localtime(started), time.localtime(now)
    if then.tm_year != today.tm_year:
        return time.strftime("%Y", then)
    return time.strftime("%H:%M" if then.tm_yday == today.tm_yday else "%b%d", then)


def cpu_text(seconds: float) -> str:
    days, rest = divmod(int(seconds), _DAY)
    text = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{text}" if days else text


def terminal_name(device: int) -> str:
    if device == 0:
        return "?"
    major, minor = os.major(device), os.minor(device)
    if 136 <= major <= 143:
        return f"pts/{(major - 136) * 256 + minor}"
    return f"tty{minor}" if major == 4 and minor < 64 else f"ttyS{minor - 64}" if major == 4 else "?"


@cache
def _boot_time(proc: Path) -> float:
    for line in (proc / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    raise ValueError(f"{proc}/stat has no btime")
