"""A commit makes directory and digest in one pass: the directory is what unpacking the tar would give, and makes it again."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from compat_engine.images.workers import Workers
from tests.unit.images.test_images_same_tree import make, rows


@pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes and trusted attributes")
async def test_the_directory_is_what_the_tar_unpacks_to_and_makes_it_again(tmp_path: Path) -> None:
    upper, made, out = tmp_path / "upper", tmp_path / "made", tmp_path / "out"
    make(upper)
    os.mknod(upper / "tmp" / "hidden", stat.S_IFCHR)
    os.setxattr(upper / "tmp", "trusted.overlay.opaque", b"y")
    os.chown(upper / "tmp", 0, 50)
    (upper / "tmp").chmod(0o2775)  # gives its group to what is made in it
    for name, size in (("large", (5 << 19) + 1), ("whole", 2 << 20)):  # what goes past the page cache, with and without a rest
        (upper / name).write_bytes(os.urandom(size))
        (upper / name).chmod(0o4755)
    (tmp_path / "lower").mkdir()
    made.mkdir()
    out.mkdir()
    workers = Workers()
    target, unpacked = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (made, out))
    files = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("first", "second")]
    try:
        done = await workers.run("root_commit", [target], upper=str(upper), lowers=[str(tmp_path / "lower")])
        assert await workers.run("root_tar", [files[0]], layer=str(made)) == {"digest": done["digest"]}
        content = (tmp_path / "first").read_bytes()
        assert done["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert done["size"] == len(content)
        os.lseek(files[0], 0, os.SEEK_SET)
        again = await workers.run("extract", [files[0], unpacked], digest=done["digest"])
        assert await workers.run("root_tar", [files[1]], layer=str(out)) == {"digest": done["digest"]}
    finally:
        await workers.close()
        for fd in (target, unpacked, *files):
            os.close(fd)
    assert again["size"] == done["unpacked"] and not again["implied"]
    assert list(rows(os.fsencode(made))) == list(rows(os.fsencode(out)))
