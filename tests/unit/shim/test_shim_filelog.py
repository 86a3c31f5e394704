"""Rotation, compression and the `local` format, written by the shim and read back by the daemon's reader."""

import errno
import gzip
import json
import os
import select
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat_engine.logs.jsonfile import JsonFile
from compat_engine.logs.localfile import LocalFile, messages
from compat_engine.logs.query import LogQuery
from compat_engine.logs.read import LogReader, read
from compat_engine.shim import compress
from compat_engine.shim.filelog import FileLog, open_log
from compat_engine.shim.lines import PIECE
from compat_engine.shim.locallog import LocalLines
from compat_engine.shim.spec import Log

# dockerd 26.1.5's file for: echo hi; echo err >&2; echo
GOLDEN = bytes.fromhex(
    "00000016 0a067374646f757410d4e7eeccaaa7bff5181a026869 00000016"
    "00000017 0a067374646572721094d3f5ccaaa7bff5181a03657272 00000017"
    "00000012 0a067374646f757410ace4e9ff80b6bff518 00000012"
)


def failing(text: str) -> None:
    raise AssertionError(text)


def written(path: Path, driver: str = "local", **settings: Any) -> FileLog:
    return open_log(Log(driver, str(path), **settings), failing)


async def content(path: Path, driver: str, **query: Any) -> bytes:
    return b"".join([chunk async for chunk in read(path, LogQuery(**query), True, None, driver)])


async def test_docker_s_own_bytes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "container.log"
    path.write_bytes(GOLDEN)
    assert await content(path, "local") == b"hi\nerr\n\n"
    assert await content(path, "local", tail=2) == b"err\n\n"
    assert await content(path, "local", stdout=False) == b"err\n"
    assert await content(path, "local", timestamps=True, tail=3, stderr=False) == (
        b"2026-11-24T13:10:29.856048084Z hi\n2026-11-24T13:18:54.084706860Z \n"
    )


def test_a_record_has_docker_s_bytes() -> None:
    lines = LocalLines(1)
    record = lines.records(b"hi\n")
    assert record[:4] == record[-4:] == b"\0\0\0\x16"
    assert record[4:13] == GOLDEN[4:13]
    assert record[-8:-4] == b"\x1a\x02hi"
    assert lines.records(b"\n")[:13] == GOLDEN[61:74]
    unfinished = lines.records(b"end") + lines.end()
    assert unfinished[:4] == b"\0\0\0\x5f"
    assert unfinished[22:33] == b"\x1a\x03end\x20\x01\x2a\x44\x12\x40"[:11]
    assert unfinished[-6:-4] == b"\x18\x01"


@given(st.lists(st.sampled_from([b"a", b"\n", b"\xff", "é".encode(), b"x" * PIECE, b"y" * 40000])), st.integers(1, 50000))
async def test_any_bytes_come_back(parts: list[bytes], step: int) -> None:
    data = b"".join(parts)
    lines = LocalLines(2)
    chunks = [lines.records(data[start : start + step]) for start in range(0, len(data), step)]
    path = Path("/dev/shm") / f"local-{os.getpid()}"
    path.write_bytes(b"".join(chunks) + lines.end())
    assert await content(path, "local") == data
    path.unlink()


@pytest.mark.parametrize("cut", [1, 5, 20, 25])
async def test_what_a_crash_cut_short_is_passed_over(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "container.log"
    path.write_bytes(GOLDEN[:30] + GOLDEN[30 : 30 + cut] + GOLDEN)
    assert await content(path, "local") == b"hi\nhi\nerr\n\n"
    assert await content(path, "local", tail=2) == b"err\n\n"
    path.write_bytes(GOLDEN + GOLDEN[:cut])
    assert await content(path, "local", tail=1) == b"\n"
    assert [end for _, end in messages(GOLDEN)] == [30, 61, len(GOLDEN)]


@pytest.mark.parametrize("driver", ["local", "json-file"])
@pytest.mark.parametrize("packed", [False, True])
async def test_rotated_files_are_read_in_order(tmp_path: Path, driver: str, packed: bool) -> None:
    path = tmp_path / "log"
    log = written(path, driver, max_size=2000, max_file=4, compress=packed)
    for number in range(300):
        log.write(1, b"line %d\n" % number)
    log.close()
    suffix = ".gz" if packed else ""
    assert sorted(os.listdir(tmp_path)) == ["log", *(f"log.{number}{suffix}" for number in (1, 2, 3))]
    shown = (await content(path, driver)).splitlines()
    assert 200 > len(shown) > 60
    assert shown == [b"line %d" % number for number in range(300 - len(shown), 300)]
    for tail in (0, 1, 50, 70, 1000):
        assert (await content(path, driver, tail=tail)).splitlines() == shown[len(shown) - min(tail, len(shown)) :]


def test_what_docker_notes_in_a_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"some text\n" * 1000)
    inode = path.stat().st_ino
    compress.compress(str(path), "2026-11-24T13:10:30.201331362Z")
    packed = tmp_path / "log.gz"
    assert os.listdir(tmp_path) == ["log.gz"]
    assert gzip.decompress(packed.read_bytes()) == b"some text\n" * 1000
    length = int.from_bytes(packed.read_bytes()[10:12], "little")
    assert json.loads(packed.read_bytes()[12 : 12 + length]) == {"lastTime": "2026-11-24T13:10:30.201331362Z", "inode": inode}


def test_a_reader_goes_on_after_its_file_was_compressed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = written(path, "json-file", max_size=200, max_file=5, compress=True)
    log.write(1, b"one\n")
    reader = LogReader(path, LogQuery(), True, JsonFile)
    assert reader.next_frames() == (b"one\n", False)
    for number in range(2, 16):
        log.write(1, b"%d\n" % number)
    log.close()
    assert len(os.listdir(tmp_path)) > 3
    rest, more = reader.next_frames()
    reader.close()
    assert not more
    assert rest.split() == [b"%d" % number for number in range(2, 16)]


async def test_since_leaves_compressed_files_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = written(path, "local", max_size=200, max_file=3, compress=True)
    for number in range(20):
        log.write(1, b"%d\n" % number)
    log.close()
    oldest = tmp_path / "log.2.gz"
    oldest.write_bytes(oldest.read_bytes()[:80])  # its content is damaged, what is known of it is not
    later = log._lines[1].last_ns
    assert await content(path, "local", since_ns=later) == b"19\n"
    assert b"0" not in (await content(path, "local")).split()


@pytest.mark.parametrize(("buffer", "kept"), [(-1, 1000), (0, 16), (400, 24)])
def test_a_busy_compressor_holds_the_container_or_loses_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffer: int, kept: int
) -> None:
    """Blocking waits; non-blocking lets the file grow by its buffer, then drops."""
    monkeypatch.setattr(compress, "start", lambda *_: 1)
    monkeypatch.setattr(compress, "finished", lambda pid, wait: wait)
    path = tmp_path / "log"
    log = written(path, "local", max_size=350, max_file=1000, compress=True, buffer=buffer)
    for _ in range(1000):
        log.write(1, b"0123456789012345678\n")
    sizes = [file.stat().st_size for file in tmp_path.iterdir()]
    assert sum(sizes) // 47 == kept  # bytes of a record
    os.close(log._fd)


def test_local_files_seek(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(GOLDEN)
    file = LocalFile(path)
    assert [file.seek_last(count) for count in (0, 1, 2, 3, 9)] == [0, 1, 2, 3, 3]
    assert file.next_records() == GOLDEN
    file.close()


def test_a_new_file_that_cannot_be_made_costs_no_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old descriptor stays open meanwhile: its number may soon be a client's."""
    path, reports = tmp_path / "log", list[str]()
    log = open_log(Log("json-file", str(path), max_size=1, max_file=4), reports.append)
    for word in (b"one\n", b"two\n"):
        log.write(1, word)
    opening = os.open

    def full(name: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opening(name, flags, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", full)
        for word in (b"lost\n", b"lost, too\n", b"and this\n"):
            assert not log.write(1, word)
    assert reports == [f"log: [Errno {errno.ENOSPC}] No space left on device"] * 3
    log.write(1, b"three\n")
    log.close()
    kept = [json.loads((tmp_path / name).read_text())["log"] for name in ("log.2", "log.1", "log")]
    assert kept == ["one\n", "two\n", "three\n"]


def test_the_compressor_holds_nothing_of_the_shim_s(tmp_path: Path) -> None:
    source = tmp_path / "log.1"
    os.mkfifo(source)  # whose opening waits until we open it, too
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = compress.start(str(source), "", failing)
    os.close(writer)
    try:
        assert select.select([reader], [], [], 60)[0]
        assert os.read(reader, 1) == b""
    finally:
        os.close(os.open(source, os.O_WRONLY | os.O_CLOEXEC))
        os.close(reader)
        assert compress.finished(pid, wait=True)


def test_a_rotation_costs_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = written(path, "json-file", max_size=1, max_file=10**15)
    for word in (b"one\n", b"two\n", b"three\n", b"four\n"):
        log.write(1, word)
    log.close()
    kept = [json.loads((tmp_path / name).read_text())["log"] for name in ("log.3", "log.2", "log.1", "log")]
    assert kept == ["one\n", "two\n", "three\n", "four\n"]
