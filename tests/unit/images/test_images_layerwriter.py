"""A commit makes blob and directory in one pass: the directory is what unpacking the blob would give."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from compat_engine.images.workers import Workers
from tests.unit.images.test_images_same_tree import Row, make, rows

HIDDEN = b"tmp/hidden"


def untimed(root: Path) -> list[Row]:
    """Rows; a whiteout's time says nothing."""
    found = rows(os.fsencode(root))
    return [(*row[:2], None, *row[3:]) if row[0] == HIDDEN else row for row in found]


def directory(path: Path) -> int:
    path.mkdir()
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes and trusted attributes")
async def test_the_directory_is_what_the_blob_unpacks_to(tmp_path: Path) -> None:
    upper, blob = tmp_path / "upper", tmp_path / "blob"
    make(upper)
    os.mknod(upper / os.fsdecode(HIDDEN), stat.S_IFCHR)
    os.setxattr(upper / "tmp", "trusted.overlay.opaque", b"y")
    (tmp_path / "lower").mkdir()
    workers = Workers()
    fds = [os.open(blob, os.O_RDWR | os.O_CREAT, 0o600), directory(tmp_path / "made"), directory(tmp_path / "unpacked")]
    try:
        done = await workers.run("root_commit", fds[:2], upper=str(upper), lowers=[str(tmp_path / "lower")])
        assert done["digest"] == f"sha256:{hashlib.sha256(blob.read_bytes()).hexdigest()}"
        assert done["size"] == blob.stat().st_size
        os.lseek(fds[0], 0, os.SEEK_SET)
        unpacked = await workers.run("extract", [fds[0], fds[2]], digest=done["digest"])
    finally:
        await workers.close()
        for fd in fds:
            os.close(fd)
    assert unpacked["size"] == done["unpacked"] and not unpacked["implied"]
    assert untimed(tmp_path / "made") == untimed(tmp_path / "unpacked")
