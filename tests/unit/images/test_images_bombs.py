"""Archives made to hurt: what they ask for is refused in words, and neither memory nor time grows with it. Needs root."""

import io
import itertools
import lzma
import os
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from compat_engine.errors import Internal, InvalidParameter
from compat_engine.images import codecs, tarwriter
from compat_engine.images.codecs import BadArchive, Input, chunks
from compat_engine.images.images import Images
from compat_engine.images.intake import inflow
from compat_engine.images.tarreader import BadTar, Source, TarReader
from compat_engine.images.workers import Workers
from compat_engine.store.records import Records
from compat_engine.store.tree import Tree
from tests.support.tars import body, docker_archive, tar

MEBIBYTE = 1 << 20


def peak(work: Callable[[], object]) -> int:
    """Bytes that Python held at most while `work` ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def pax(kind: bytes, *records: bytes) -> bytes:
    content = b"".join(b"%d %b\n" % (length, record) for record in records for length in [_length(record)])
    return tarwriter.header(b"x", kind, len(content)) + content + tarwriter.padding(len(content))


def _length(record: bytes) -> int:
    return next(length for length in itertools.count(len(record)) if length == len(b"%d %b\n" % (length, record)))


def read(data: Iterator[bytes]) -> None:
    reader = TarReader(Source(data))
    for _ in reader:
        for _ in reader.data():
            pass


@pytest.mark.parametrize("kind", [b"x", b"g"])
def test_headers_without_end_are_not_collected(kind: bytes) -> None:
    value = b"v" * 900_000
    headers = (pax(kind, b"SCHILY.xattr.user.%d=" % number + value) for number in range(100))
    assert peak(lambda: read(headers)) < 10 * MEBIBYTE


@pytest.mark.parametrize("kind", [b"x", b"L", b"K"])
def test_a_header_too_long_to_hold(kind: bytes) -> None:
    with pytest.raises(BadTar, match="archive/tar: header field too long"):
        read(iter([tarwriter.header(b"x", kind, 2 << 20)]))


def test_a_sparse_map_takes_no_longer_than_it_is() -> None:
    """Sixteen mebibytes of numbers in format 1.0, for extents without data."""
    count = 1 << 19
    lines = b"%d\n" % count + (b"0" * 15 + b"\n") * 2 * count
    content = lines + tarwriter.padding(len(lines))
    records = (b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.name=s", b"GNU.sparse.realsize=0")
    data = pax(b"x", *records) + tarwriter.header(b"s", size=len(content)) + content
    began = time.process_time()
    read(iter([data]))
    assert time.process_time() - began < 5


@pytest.mark.parametrize("size", [1 << 63, 10**20 - 1])
@pytest.mark.parametrize("key", ["size", "GNU.sparse.realsize"])
def test_sizes_no_file_can_have(size: int, key: str) -> None:
    sparse = [] if key == "size" else [b"GNU.sparse.major=0", b"GNU.sparse.map="]
    with pytest.raises(BadTar, match="archive/tar: invalid"):
        read(iter([pax(b"x", *sparse, b"%b=%d" % (key.encode(), size)) + tarwriter.header(b"s")]))


def test_what_expands_beyond_reason_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "_FREE_EXPANSION", 64 * MEBIBYTE)
    bomb = zstandard.ZstdCompressor(19).compress(bytes(256 * MEBIBYTE))

    def run() -> None:
        with pytest.raises(BadArchive, match="archive expands more than 5000 times: refused"):
            for _ in chunks(Input(io.BytesIO(bomb))):  # type: ignore[arg-type]
                pass

    assert peak(run) < 32 * MEBIBYTE


def test_xz_that_asks_for_memory_is_refused() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 * MEBIBYTE}]
    bomb = lzma.compress(b"x", filters=filters)
    with pytest.raises(BadArchive, match="cannot decompress archive: Memory usage limit exceeded"):
        list(chunks(Input(io.BytesIO(bomb))))  # type: ignore[arg-type]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
END = tarwriter.END
SPARSE = (b"GNU.sparse.major=0", b"GNU.sparse.map=", b"GNU.sparse.realsize=%d" % ((1 << 63) - 1))
BOMBS = {
    "a file of exbibytes without a byte": (pax(b"x", *SPARSE) + tarwriter.header(b"s") + END, "file too large"),
    "a file that is cut off": (tarwriter.header(b"f", size=1 << 60) + b"x" * 5000, "unexpected EOF"),
    "a name longer than paths may be": (tarwriter.header(b"n/" * 3000) + END, "file name too long"),
    "a name longer than names may be": (tarwriter.header(b"n" * 300) + END, "file name too long"),
    "an attribute longer than they may be": (
        pax(b"x", b"SCHILY.xattr.user.a=" + b"v" * 100_000) + tarwriter.header(b"f") + END,
        r"no space left on device|argument list too long",
    ),
}


@needs_root
@pytest.mark.parametrize("name", BOMBS)
async def test_a_bad_layer_leaves_the_store_as_it_was(tmp_path: Path, name: str) -> None:
    layer, text = BOMBS[name]
    tree = Tree(tmp_path / "data", tmp_path / "exec")
    tree.data.mkdir()
    records = Records(tree.database)
    images = await Images.open(tree, records)
    try:
        before = os.listdir(tree.layers), os.listdir(tree.blobs)
        with pytest.raises((Internal, InvalidParameter), match=text):
            async for _ in images.load(body(docker_archive(tar(), layer))):
                pass
        assert (os.listdir(tree.layers), os.listdir(tree.blobs), os.listdir(tree.tmp)) == (*before, [])
    finally:
        await images.close()
        records.close()


async def test_an_image_archive_with_too_many_names(tmp_path: Path) -> None:
    entry = tarwriter.header(b"n" * 250_000)
    workers = Workers()

    async def archive() -> AsyncIterator[bytes]:
        yield entry * 80 + END

    spool = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(InvalidParameter, match="too many entries in archive"):
            await inflow(workers, "spool", archive(), spool)
    finally:
        os.close(spool)
        await workers.close()
