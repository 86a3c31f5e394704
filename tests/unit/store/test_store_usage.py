import os
from pathlib import Path

from compat_engine.store.usage import disk_usage


def test_each_file_once_and_no_directory(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/f").write_bytes(b"x" * 1000)
    os.link(tmp_path / "a/f", tmp_path / "a/b/same")
    (tmp_path / "a/b/link").symlink_to("f" * 7)
    assert disk_usage(tmp_path) == 1007


def test_deeper_than_a_path_can_say(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        fd, old = os.open("d" * 200, os.O_RDONLY, dir_fd=fd), fd
        os.close(old)
    os.close(fd)
    (tmp_path / "f").write_bytes(b"x")
    assert disk_usage(tmp_path) == 1
