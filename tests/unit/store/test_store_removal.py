import os
from pathlib import Path

import pytest

from compat_engine.store.removal import remove_tree


def nest(top: Path, depth: int) -> None:
    """What a shell in a container makes of `mkdir d; cd d`."""
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 100, dir_fd=fd)
        os.close(os.open("f", os.O_CREAT, dir_fd=fd))
        inner = os.open("d" * 100, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)


def test_deeper_than_recursion_and_open_files_allow(tmp_path: Path) -> None:
    nest(tmp_path / "deep", 2000)
    remove_tree(tmp_path / "deep")
    assert os.listdir(tmp_path) == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    for name in ("a/b/c", "b/c"):
        (tmp_path / "doomed" / name).mkdir(parents=True)
    (tmp_path / "doomed/a/link").symlink_to(tmp_path / "kept")
    (tmp_path / "doomed/f").write_text("x")
    os.mkfifo(tmp_path / "doomed/fifo")
    remove_tree(os.fsencode(tmp_path / "doomed"))
    assert os.listdir(tmp_path) == ["kept"]
    assert os.listdir(tmp_path / "kept") == ["file"]


def test_a_link_itself_is_no_tree(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError):
        remove_tree(tmp_path / "link")
