"""Any tree a container may leave: committed, made a tar and unpacked it is the same, and has the same digest. Needs root."""

import asyncio
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compat_engine.images.workers import Workers
from compat_engine.store.removal import remove_tree
from tests.unit.images.test_images_same_tree import CAPABILITY, rows

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes and trusted attributes")
SECOND = 10**9
NODES = {"fifo": stat.S_IFIFO, "char": stat.S_IFCHR, "block": stat.S_IFBLK}
names = st.binary(min_size=1, max_size=20) | st.binary(min_size=95, max_size=105) | st.binary(min_size=250, max_size=255)
owners = st.integers(0, 70_000) | st.sampled_from([(1 << 21) - 1, 1 << 21, (1 << 32) - 2])
links = st.binary(min_size=1, max_size=120) | st.just(b"t" * 1000)
xattrs = st.dictionaries(st.sampled_from(["user.a", "user.b c", "trusted.x"]), st.binary(max_size=60), max_size=2)
extents = st.lists(st.tuples(st.integers(0, 1 << 22), st.binary(min_size=1, max_size=5000)), max_size=3)


@dataclass(frozen=True)
class Node:
    """parent: the number of a directory made before, modulo how many there are; target: likewise of a file, for a hard link."""

    name: bytes
    kind: str
    parent: int
    target: int
    mode: int
    owner: tuple[int, int]
    mtime: int
    link: bytes
    extents: list[tuple[int, bytes]]
    hole: int
    xattrs: dict[str, bytes]
    capable: bool


def usable(name: bytes) -> bool:
    return b"/" not in name and b"\0" not in name and name not in (b".", b"..") and not name.startswith(b".wh.")


nodes = st.builds(
    Node,
    name=names.filter(usable),
    kind=st.sampled_from(["file", "file", "directory", "directory", "symlink", "link", *NODES]),
    parent=st.integers(0, 5),
    target=st.integers(0, 5),
    mode=st.integers(0, 0o7777),
    owner=st.tuples(owners, owners),
    mtime=st.integers(-(1 << 31) * SECOND, (1 << 33) * SECOND),
    link=links.filter(lambda link: b"\0" not in link),
    extents=extents,
    hole=st.sampled_from([0, 0, 1, 100_000]),
    xattrs=xattrs,
    capable=st.booleans(),
)


def make(root: bytes, found: list[Node]) -> None:
    """What cannot be, two of a name or a link to nothing, is left out."""
    directories, files = [root], list[bytes]()
    times: list[tuple[bytes, int]] = []
    for node in found:
        path = os.path.join(directories[node.parent % len(directories)], node.name)
        if os.path.lexists(path) or (node.kind == "link" and not files):
            continue
        if node.kind == "link":
            os.link(files[node.target % len(files)], path, follow_symlinks=False)
            continue
        if node.kind == "directory":
            os.mkdir(path)
            directories.append(path)
        elif node.kind == "symlink":
            os.symlink(node.link, path)
        elif node.kind == "file":
            write(path, node)
        else:
            os.mknod(path, NODES[node.kind], os.makedev(1 + node.target, node.parent * 60_000))
        if node.kind != "directory":
            files.append(path)
        os.chown(path, *node.owner, follow_symlinks=False)
        if node.kind != "symlink":
            os.chmod(path, node.mode)
        if node.kind in ("file", "directory"):
            for name, value in node.xattrs.items():
                os.setxattr(path, name, value)
        if node.kind == "file" and node.capable:
            os.setxattr(path, "security.capability", CAPABILITY)
        times.append((path, node.mtime))
    for path, mtime in reversed(times):
        os.utime(path, ns=(mtime, mtime), follow_symlinks=False)


def write(path: bytes, node: Node) -> None:
    with open(path, "wb") as file:
        for offset, content in node.extents:
            file.seek(offset)
            file.write(content)
        file.truncate(file.seek(0, os.SEEK_END) + node.hole)


def listed(root: Path) -> list[Any]:
    """With times as a tar has them."""
    found: list[Any] = list(rows(os.fsencode(root)))
    return [(name, owner, mtime // SECOND, *rest) for name, owner, mtime, *rest in found]


async def round_trip(work: Path) -> None:
    upper, made, out = work / "upper", work / "made", work / "out"
    workers = Workers()
    target, unpacked = (os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (made, out))
    files = [os.open(work / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("first", "second")]
    try:
        done = await workers.run("root_commit", [target], upper=str(upper), lowers=[str(work / "lower")])
        assert listed(made) == listed(upper)
        assert await workers.run("root_tar", [files[0]], layer=str(made)) == {"digest": done["digest"]}
        os.lseek(files[0], 0, os.SEEK_SET)
        again = await workers.run("extract", [files[0], unpacked])
        assert (again["diff_id"], again["size"], again["implied"]) == (done["digest"], done["unpacked"], False)
        assert listed(out) == listed(upper)
        assert await workers.run("root_tar", [files[1]], layer=str(out)) == {"digest": done["digest"]}
    finally:
        await workers.close()
        for fd in (target, unpacked, *files):
            os.close(fd)


@given(st.lists(nodes, min_size=1, max_size=12))
@settings(max_examples=40)
def test_a_tree_survives(tmp_path_factory: pytest.TempPathFactory, found: list[Node]) -> None:
    work = tmp_path_factory.mktemp("tree")
    try:
        for name in ("upper", "lower", "made", "out"):
            (work / name).mkdir()
        make(os.fsencode(work / "upper"), found)
        asyncio.run(round_trip(work))
    finally:
        remove_tree(work)
