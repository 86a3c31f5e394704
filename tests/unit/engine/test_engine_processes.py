import os
import subprocess
import time
from pathlib import Path

import pytest

from compat_engine.engine.containers.top import select
from compat_engine.engine.processes import TITLES, cpu_text, list_processes, start_text, terminal_name, user_name
from compat_engine.errors import Internal


def test_rows_are_those_of_ps() -> None:
    child = subprocess.Popen(["sleep", "30"])
    try:
        while not Path(f"/proc/{child.pid}/cmdline").read_bytes().startswith(b"sleep"):
            time.sleep(0.005)  # execve closes what Popen waits for before the new command line is there
        rows = {int(row[1]): row for row in list_processes([os.getpid(), child.pid, 4_000_000])}
        assert rows.keys() == {os.getpid(), child.pid}
        assert int(rows[os.getpid()][2]) == os.getppid()
        sleeping = rows[child.pid]
        assert sleeping[1:3] == [str(child.pid), str(os.getpid())]
        assert sleeping[6:] == ["00:00:00", "sleep 30"]
        assert len(sleeping) == len(TITLES)
    finally:
        child.kill()
        child.wait()


def test_texts() -> None:
    now = time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1))
    assert start_text(now - 3600, now) == "11:00"
    assert start_text(now - 86400, now) == "Nov23"
    assert start_text(now - 400 * 86400, now) == "2025"
    assert cpu_text(3661.9) == "01:01:01"
    assert cpu_text(2 * 86400 + 5) == "2-00:00:05"
    assert terminal_name(0) == "?"
    assert terminal_name(os.makedev(136, 3)) == "pts/3"
    assert terminal_name(os.makedev(4, 1)) == "tty1"
    assert user_name(0) == "root"
    assert user_name(4_000_000) == "4000000"


def test_select_takes_the_containers_rows_only() -> None:
    output = "USER       PID COMMAND\nroot         1 init\nroot        77 sh -c a b\n"
    assert select(output, [77]) == (["USER", "PID", "COMMAND"], [["root", "77", "sh -c a b"]])
    with pytest.raises(Internal, match="Couldn't find PID field in ps output"):
        select("USER\nroot\n", [1])
