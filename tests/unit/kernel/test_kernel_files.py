"""What is said of a file while it grows, or of a directory, neither changes it nor minds what it is."""

import os
import subprocess
from pathlib import Path

import pytest

from compat_engine.kernel.files import appended, spread, syncfs

MIB = 1 << 20


def test_a_file_told_of_as_it_grows_is_what_was_written(tmp_path: Path) -> None:
    pieces = [bytes([number]) * MIB for number in range(20)]
    with (tmp_path / "file").open("wb", buffering=0) as file:
        for number, piece in enumerate(pieces):
            file.write(piece)
            appended(file.fileno(), number * MIB, MIB)
        syncfs(file.fileno())
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)


def test_a_device_has_no_disk() -> None:
    fd = os.open(os.devnull, os.O_WRONLY)
    try:
        appended(fd, 0, 64 * MIB)
    finally:
        os.close(fd)


def test_a_directory_for_what_is_to_lie_apart(tmp_path: Path) -> None:
    def flags() -> str:
        return subprocess.run(["lsattr", "-d", tmp_path], capture_output=True, text=True, check=True).stdout.split()[0]

    if subprocess.run(["chattr", "-T", tmp_path], capture_output=True).returncode:
        pytest.skip("not a filesystem that has the flag")
    before = flags()
    spread(tmp_path)
    assert "T" in flags() and flags().replace("T", "-") == before


def test_a_filesystem_that_knows_nothing_of_places() -> None:
    spread(Path("/proc"))
