"""What is said of a file while it grows neither changes it nor minds what it is."""

import os
from pathlib import Path

from compat_engine.kernel.files import appended, syncfs

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
