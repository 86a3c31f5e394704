"""Layers unpacked by the worker: what the tree looks like, and that nothing leaves it. Needs root."""

import contextlib
import os
import stat
import subprocess
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from compat_engine.errors import InvalidParameter
from compat_engine.images.workers import Workers
from tests.support.tars import COMPRESSORS, Item, digest, directory, hard_link, symlink, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
Unpack = Callable[..., Awaitable[dict[str, object]]]
OPAQUE = "trusted.overlay.opaque"


@pytest.fixture
async def unpack(tmp_path: Path) -> AsyncIterator[Unpack]:
    """Unpacks bytes into tmp_path/root, as a layer."""
    workers = Workers()
    root = tmp_path / "root"
    root.mkdir()

    async def run(data: bytes) -> dict[str, object]:
        (tmp_path / "blob").write_bytes(data)
        fds = [os.open(tmp_path / "blob", os.O_RDONLY), os.open(root, os.O_RDONLY)]
        try:
            return await workers.run("extract", fds)
        finally:
            for fd in fds:
                os.close(fd)

    yield run
    await workers.close()


async def test_kinds_and_metadata(unpack: Unpack, tmp_path: Path) -> None:
    root = tmp_path / "root"
    done = await unpack(
        tar(
            directory("./", 0o711),
            directory("d", 0o1777, owner=(7, 8), mtime=1_500_000_000.25),
            Item("d/f", b"data", mode=0o4751, owner=(1, 2), pax={"mtime": "1600000000.123456789", "SCHILY.xattr.user.k": "v"}),
            Item("d/h", kind=tarfile.LNKTYPE, link="d/f", mode=0o4751, owner=(1, 2), pax={"mtime": "1600000000.123456789"}),
            symlink("d/s", "../elsewhere"),
            Item("d/null", kind=tarfile.CHRTYPE, device=(1, 3), mode=0o666),
            Item("d/pipe", kind=tarfile.FIFOTYPE, mode=0o640),
            Item("n\udcff", b"x"),
        )
    )
    file = (root / "d/f").stat()
    assert (root.stat().st_mode & 0o7777, (root / "d").stat().st_mode & 0o7777) == (0o711, 0o1777)
    assert (root / "d").stat().st_mtime_ns == 1_500_000_000_250_000_000
    assert ((root / "d").stat().st_uid, file.st_mode & 0o7777, file.st_uid, file.st_gid) == (7, 0o4751, 1, 2)
    assert (file.st_mtime_ns, file.st_nlink, os.getxattr(root / "d/f", "user.k")) == (1_600_000_000_123_456_789, 2, b"v")
    assert os.readlink(root / "d/s") == "../elsewhere"
    assert (root / "d/null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO((root / "d/pipe").stat().st_mode)
    assert os.listdir(bytes(root))[0:] and b"n\xff" in os.listdir(bytes(root))
    assert done["size"] == 4 + 1 + len("../elsewhere")


async def test_whiteouts(unpack: Unpack, tmp_path: Path) -> None:
    root = tmp_path / "root"
    await unpack(
        tar(
            Item("gone/.wh.file"),
            directory("opaque"),
            Item("opaque/.wh..wh..opq"),
            Item(".wh.again"),
            Item("again/inside", b"new"),
            Item("own", b"kept"),
            Item(".wh.own"),
            directory("both"),
            Item(".wh.both"),
            Item(".wh..wh.plnk"),
        )
    )
    hidden = (root / "gone/file").lstat()
    assert stat.S_ISCHR(hidden.st_mode) and hidden.st_rdev == 0
    for name in ("opaque", "again", "both"):
        assert os.getxattr(root / name, OPAQUE) == b"y", name
    assert (root / "again/inside").read_bytes() == b"new"
    assert (root / "own").read_bytes() == b"kept"
    assert sorted(os.listdir(root)) == ["again", "both", "gone", "opaque", "own"]


async def test_replacing(unpack: Unpack, tmp_path: Path) -> None:
    root = tmp_path / "root"
    await unpack(
        tar(
            Item("f", b"1"), hard_link("h", "f"), Item("f", b"2"),
            directory("d"), Item("d/x", b"x"), Item("d", b"file now"),
            Item("e", b"file"), directory("e"), Item("e/y", b"y"),
            symlink("l", "e"), directory("l"), Item("l/z", b"z"),
        )
    )  # fmt: skip
    assert ((root / "f").read_bytes(), (root / "h").read_bytes()) == (b"2", b"1")
    assert ((root / "d").read_bytes(), os.listdir(root / "e"), os.listdir(root / "l")) == (b"file now", ["y"], ["z"])


@pytest.mark.parametrize(
    "items",
    [
        [Item("../evil", b"x")],
        [Item("a/../../evil", b"x")],
        [symlink("s", "/"), Item("s/evil", b"x")],
        [symlink("s", "../.."), Item("s/evil", b"x")],
        [symlink("s", "../../../../.."), directory("s/evil")],
        [hard_link("h", "../outside"), Item("h", b"evil")],
        [symlink("s", "../outside"), hard_link("h", "s"), Item("h", b"evil")],
        [symlink("s", "../outside"), Item("s", b"evil")],
        [symlink("s", ".."), hard_link("h", "s/outside"), Item("h", b"evil")],
        [symlink("s", ".."), Item("s/.wh.outside")],
        [Item(".wh..")],
        [Item(".wh...")],
        [Item("d/.wh...")],
        [directory("s"), symlink("s", ".."), Item("s/.wh..wh..opq")],
        [Item("/evil", b"x")],
        [Item("x", pax={"SCHILY.xattr.trusted.overlay.redirect": "/outside"})],
    ],
)
async def test_nothing_leaves_the_directory(unpack: Unpack, tmp_path: Path, items: list[Item]) -> None:
    (tmp_path / "outside").write_bytes(b"precious")
    (tmp_path / "outside").chmod(0o600)
    with contextlib.suppress(InvalidParameter, OSError):
        await unpack(tar(*items))
    assert sorted(os.listdir(tmp_path)) == ["blob", "outside", "root"]
    assert (tmp_path / "outside").read_bytes() == b"precious"
    assert (tmp_path / "outside").stat().st_nlink == 1
    assert not any(OPAQUE in os.listxattr(path) for path in (tmp_path, tmp_path / "outside"))
    assert not any(
        "redirect" in name for path in (tmp_path / "root").rglob("*") for name in os.listxattr(path, follow_symlinks=False)
    )


async def test_sparse_stays_sparse(unpack: Unpack, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    data = subprocess.run(["tar", "-cS", "sparse"], cwd=tmp_path, capture_output=True, check=True).stdout  # noqa: ASYNC221
    await unpack(data)
    status = (tmp_path / "root/sparse").stat()
    assert (status.st_size, status.st_blocks < 1000) == ((50 << 20) + 3, True)
    assert (tmp_path / "root/sparse").read_bytes()[-4:] == b"\0end"


@pytest.mark.parametrize("codec", COMPRESSORS)
async def test_diff_id_through_every_codec(unpack: Unpack, tmp_path: Path, codec: str) -> None:
    data = tar(Item("f", b"content" * 1000))
    done = await unpack(COMPRESSORS[codec](data))
    assert done["diff_id"] == digest(data)
    assert (tmp_path / "root/f").read_bytes() == b"content" * 1000


async def test_damaged_compression(unpack: Unpack) -> None:
    data = tar(Item("f", os.urandom(300_000)))
    for codec in ("gzip", "zstd", "xz", "bzip2"):
        packed = COMPRESSORS[codec](data)
        with pytest.raises(InvalidParameter):
            await unpack(packed[:-2000])
        if codec != "zstd":  # made without a checksum here: its damage shows in the diff id
            with pytest.raises(InvalidParameter):
                await unpack(packed[:5000] + os.urandom(2000) + packed[7000:])


async def test_gzip_and_zstd_of_several_parts(unpack: Unpack, tmp_path: Path) -> None:
    data = tar(Item("f", b"x" * 100_000))
    for codec in ("gzip", "zstd", "xz"):
        parts = [COMPRESSORS[codec](data[at : at + 30_000]) for at in range(0, len(data), 30_000)]
        skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd" if codec == "zstd" else b""
        padding = bytes(8) if codec == "xz" else b""
        done = await unpack(skippable + padding.join([*parts, b""]))
        assert done["diff_id"] == digest(data)
