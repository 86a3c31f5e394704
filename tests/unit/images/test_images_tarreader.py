"""The tar reader: every dialect, and what is no tar."""

import contextlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compat_engine.images import tarwriter
from compat_engine.images.tarreader import BadTar, Entry, Source, TarReader
from tests.support.tars import Item, tar


def read(data: bytes, size: int = 700) -> list[tuple[Entry, bytes]]:
    """In pieces that cut headers and bodies anywhere."""
    reader = TarReader(Source(data[at : at + size] for at in range(0, len(data), size)))
    return [(entry, b"".join(reader.data())) for entry in reader]


NAMES = ["a", "d" * 90 + "/" + "f" * 90, "x" * 300, "n\udcff\udcfe", "ü/" * 60 + "é"]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_of_any_length_and_bytes(format: int) -> None:
    found = read(tar(*(Item(name, b"content") for name in NAMES), format=format))
    assert [entry.name for entry, _ in found] == [name.encode("utf-8", "surrogateescape") for name in NAMES]
    assert all(data == b"content" for _, data in found)


def test_large_numbers_and_times() -> None:
    data = tar(Item("big", owner=(3_000_000, 2_500_000), mtime=-5), format=tarfile.GNU_FORMAT)
    entry = read(data)[0][0]
    assert (entry.uid, entry.gid, entry.mtime_ns) == (3_000_000, 2_500_000, -5_000_000_000)
    entry = read(tar(Item("t", pax={"mtime": "1700000000.123456789"})))[0][0]
    assert entry.mtime_ns == 1_700_000_000_123_456_789
    assert read(tar(Item("t", pax={"mtime": "-1.5"})))[0][0].mtime_ns == -1_500_000_000


def test_extended_attributes_and_links() -> None:
    data = tar(Item("f", pax={"SCHILY.xattr.user.x": "value=1"}), Item("l", kind=tarfile.SYMTYPE, link="t" * 150))
    (file, _), (link, _) = read(data)
    assert file.xattrs == {b"user.x": b"value=1"}
    assert link.link == b"t" * 150


@pytest.mark.parametrize("format", ["gnu", "pax-0.0", "pax-0.1", "pax-1.0"])
def test_sparse_files_as_gnu_tar_writes_them(format: str, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        for number in range(40):
            file.seek(number * 200_000)
            file.write(b"data%d" % number)
        file.truncate(9_000_000)
    options = ["--format=gnu"] if format == "gnu" else ["--format=posix", f"--sparse-version={format[4:]}"]
    data = subprocess.run(["tar", "-cS", *options, "sparse"], cwd=tmp_path, capture_output=True, check=True).stdout
    (entry, stored), *rest = read(data, 1 << 16)
    assert not rest
    assert (entry.name, entry.size, entry.type) == (b"sparse", 9_000_000, b"0")
    assert len(stored) < 1_000_000
    content, at = bytearray(entry.size), 0
    for offset, length in entry.extents or ():
        content[offset : offset + length] = stored[at : at + length]
        at += length
    assert bytes(content) == (tmp_path / "sparse").read_bytes()


@pytest.mark.parametrize("kind", [b"g", b"V", b"M", b"N", b"0", b"x", b"L"])
@pytest.mark.parametrize("size", [-512, -513, -1])
def test_no_size_leads_back(kind: bytes, size: int) -> None:
    header = bytearray(tarwriter.header(b"f", kind))
    header[124:136] = size.to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(BadTar, match=r"invalid tar header|too long"):
        read(tar(Item("a"))[:512] + bytes(header) + tarwriter.END, 1 << 20)


@pytest.mark.parametrize("keep", [1, 511, 513, 1000, 1500])
def test_truncated(keep: int) -> None:
    with pytest.raises(BadTar, match=r"unexpected EOF|invalid tar header"):
        read(tar(Item("f", b"x" * 2000))[:keep])


@pytest.mark.parametrize("records", [b"\n", b"key=value\n", b"0 key=value\n", b"6 a=bc\n", b"7 a=bc", b"9 a=bc\n", b"7 =abc\n", b" 7 a=b\n"])
def test_records_that_are_none(records: bytes) -> None:
    header = tarwriter.header(b"PaxHeader", b"x", size=len(records))
    with pytest.raises(BadTar, match="invalid tar header"):
        read(header + records + tarwriter.padding(len(records)) + tar(Item("f")))


def test_empty_and_missing_end() -> None:
    assert read(b"") == []
    assert [entry.name for entry, _ in read(tar(Item("f", b"x" * 512))[:1024])] == [b"f"]


@given(st.binary(max_size=2000), st.integers(0, 2047))
@settings(max_examples=200, deadline=None)
def test_damage_is_an_error_or_harmless(noise: bytes, at: int) -> None:
    data = bytearray(tar(Item("a", b"1" * 600, pax={"comment": "x"}), Item("b")))
    data[at : at + len(noise)] = noise
    with contextlib.suppress(BadTar):
        read(bytes(data))


@given(
    st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name and not name.endswith(b"/")),
    st.integers(0, 1 << 40),
    st.integers(0, 1 << 33),
    st.binary(max_size=200).filter(lambda link: b"\0" not in link),
)
def test_the_writer_is_read_back(name: bytes, size: int, mtime: int, link: bytes) -> None:
    block = tarwriter.header(name, tarwriter.SYMLINK, 0, 0o777, 5, 1 << 22, mtime, link)
    entry = read(block + tarwriter.END)[0][0]
    assert (entry.name, entry.link, entry.uid, entry.gid, entry.mtime_ns) == (name, link, 5, 1 << 22, mtime * 1_000_000_000)
    reader = TarReader(Source(iter([tarwriter.header(name, size=size)])))
    assert next(iter(reader)).size == size


def test_the_writer_pleases_tarfile() -> None:
    content = b"hello"
    data = tarwriter.header(b"x/" * 120 + b"y", size=5, uid=1 << 21) + content + tarwriter.padding(5) + tarwriter.END
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        entry = archive.next()
        assert entry is not None and (entry.name, entry.uid, entry.size) == ("x/" * 120 + "y", 1 << 21, 5)
