"""A layer unpacked by the store and by GNU tar is the same tree: names, types, modes, owners, times, links, attributes, bytes."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from compat_engine.images.images import Images
from compat_engine.store.records import Records
from compat_engine.store.tree import Tree
from tests.support.tars import body, docker_archive

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("tar"), reason="needs root and GNU tar")
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service=ep, version 2
ATTRIBUTES: dict[str, list[str]] = {"posix": ["--xattrs", "--xattrs-include=*"], "gnu": []}  # which has no place for them
Row = tuple[object, ...]


def make(root: Path) -> None:
    """Something of everything a layer can hold."""
    root.mkdir()
    long = root / "/".join(["directory-with-a-long-name-" + "x" * 40] * 6)
    long.mkdir(parents=True)
    (long / ("y" * 200)).write_bytes(b"long")
    (root / os.fsdecode(b"not-utf-8-\xff\xe9")).write_bytes(b"\0\xff")
    (root / "späße \n\t'\"\\").write_text("odd")
    (root / "empty").touch()
    with (root / "sparse").open("wb") as sparse:
        for offset in (0, 1 << 20, 5 << 20):
            sparse.seek(offset)
            sparse.write(b"data" * 1024)
        sparse.truncate(8 << 20)
    for name, mode in (("suid", 0o4755), ("sgid", 0o2755), ("none", 0), ("sticky", 0o1666)):
        (root / name).write_text(name)
        os.chown(root / name, 1000, 2_000_000_000)
        (root / name).chmod(mode)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    os.link(root / "suid", root / "tmp" / "hard")
    os.symlink("../suid", root / "tmp" / "soft")
    os.symlink("t" * 300, root / "tmp" / "far")
    os.link(root / "tmp" / "soft", root / "tmp" / "soft-again", follow_symlinks=False)
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "char", stat.S_IFCHR | 0o666, os.makedev(5, 300))
    os.mknod(root / "block", stat.S_IFBLK | 0o600, os.makedev(259, 7))
    os.setxattr(root / "empty", "security.capability", CAPABILITY)
    os.setxattr(root / "none", "user.note", b"=\n\0binary")
    os.setxattr(root / "tmp", "user.of-a-directory", b"")
    os.utime(root / "empty", ns=(0, 1_234_567_890_123_456_789))
    os.utime(root / "suid", ns=(0, -1_000_000_000))
    os.utime(root / "tmp", ns=(0, 4_000_000_000 * 10**9))


def rows(root: bytes) -> Iterator[Row]:
    names: dict[tuple[int, int], bytes] = {}
    for directory, directories, files in sorted(os.walk(root)):
        for name in sorted((*directories, *files)):
            path = os.path.join(directory, name)
            status, shown = os.lstat(path), os.path.relpath(path, root)
            link = os.readlink(path) if stat.S_ISLNK(status.st_mode) else b""
            first = names.setdefault((status.st_dev, status.st_ino), shown)
            attributes = {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)}
            content = Path(os.fsdecode(path)).read_bytes() if stat.S_ISREG(status.st_mode) else b""
            owner = (status.st_uid, status.st_gid, status.st_mode, status.st_rdev)
            yield shown, owner, status.st_mtime_ns, link, first, attributes, content


def packed(root: Path, format: str, sparse: bool) -> bytes:
    options = [f"--format={format}", "--numeric-owner", *ATTRIBUTES[format], *(["--sparse"] if sparse else [])]
    return subprocess.run(["tar", *options, "-C", root, "-cf", "-", "."], check=True, stdout=subprocess.PIPE).stdout


def unpacked(archive: bytes, root: Path, format: str) -> Path:
    root.mkdir()
    command: list[str | Path] = ["tar", "--numeric-owner", "--same-owner", *ATTRIBUTES[format], "-C", root, "-xpf", "-"]
    subprocess.run(command, check=True, input=archive)
    return root


@pytest.mark.parametrize("format", ["posix", "gnu"])
@pytest.mark.parametrize("sparse", [False, True])
async def test_the_same_as_gnu_tar(tmp_path: Path, format: str, sparse: bool) -> None:
    make(tmp_path / "made")
    archive = packed(tmp_path / "made", format, sparse)
    theirs = unpacked(archive, tmp_path / "theirs", format)
    tree = Tree(tmp_path / "data", tmp_path / "exec")
    tree.data.mkdir()
    records = Records(tree.database)
    images = await Images.open(tree, records)
    try:
        async for _ in images.load(body(docker_archive(archive))):
            pass
        [ours] = images.directories(images.find("test:1"))
        assert list(rows(os.fsencode(ours))) == list(rows(os.fsencode(theirs)))
        if sparse:
            assert os.stat(f"{ours}/sparse").st_blocks * 512 < 1 << 20
    finally:
        await images.close()
        records.close()
