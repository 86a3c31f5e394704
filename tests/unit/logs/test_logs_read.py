import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from struct import pack
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat_engine.logs import files as files_module
from compat_engine.logs import jsonfile
from compat_engine.logs.jsonfile import JsonFile
from compat_engine.logs.query import LogQuery, padded, stamp
from compat_engine.logs.read import Watch, read

# As dockerd 26.1.5 wrote them, stderr first although its stamp is later.
GOLDEN = r"""{"log":"two\n","stream":"stderr","attrs":{"Q":"z","a":"b"},"time":"2026-11-24T06:41:03.412771141Z"}
{"log":"one\n","stream":"stdout","attrs":{"Q":"z","a":"b"},"time":"2026-11-24T06:41:03.41268969Z"}
{"log":"tab\u0009q\"\u003cé\u003e\n","stream":"stdout","attrs":{"Q":"z","a":"b"},"time":"2026-11-24T06:41:03.4128445Z"}
{"log":"end\n","stream":"stdout","attrs":{"Q":"z","a":"b"},"time":"2026-11-24T06:41:03.414730682Z"}
{"log":"nonl","stream":"stdout","attrs":{"Q":"z","a":"b"},"time":"2026-11-24T06:41:03.446963672Z"}
"""
SECOND = 1_795_502_463_000_000_000


def frame(stream: int, text: str) -> bytes:
    data = text.encode()
    return pack(">BxxxL", stream, len(data)) + data


async def collect(path: Path, query: LogQuery, raw: bool = False) -> bytes:
    return b"".join([chunk async for chunk in read(path, query, raw)])


def line(number: int, stream: str = "stdout") -> str:
    return f'{{"log":"line {number}\\n","stream":"{stream}","time":"{padded(stamp(SECOND + number * 1_000_000))}"}}\n'


def giving(fd: int) -> Watch:
    async def watch() -> int:
        return fd

    return watch


def write(path: Path, numbers: range) -> None:
    path.write_text("".join(line(number) for number in numbers))


def numbers_in(text: bytes) -> list[int]:
    return [int(word) for word in text.decode().replace("line", "").split()]


def rotation(path: Path) -> list[Callable[[], None]]:
    """The steps in which the shim shifts the files of `rotated`."""
    names = [path, *(path.with_name(f"{path.name}.{end}") for end in ("1.gz", "2", "3.gz", "4", "5"))]
    moved = [path.with_name(f"{path.name}.{end}") for end in ("1", "2.gz", "3", "4.gz", "5", "6")]
    steps = [partial(os.rename, old, new) for old, new in zip(names, moved, strict=True)]
    return [*steps[::-1], partial(os.mknod, path)]


def rotated(path: Path) -> list[int]:
    """A log of six files, some compressed; their inodes, oldest first."""
    for end in ("", ".1.gz", ".2", ".3.gz", ".4", ".5"):
        path.with_name(path.name + end).touch()
    return [path.with_name(path.name + end).stat().st_ino for end in (".5", ".4", ".3.gz", ".2", ".1.gz", "")]


@pytest.mark.parametrize("done", range(8))
@pytest.mark.parametrize("when", range(14))
def test_a_rotation_meanwhile_hides_no_file(tmp_path: Path, when: int, done: int) -> None:
    """After `when` attempts to open a file, as many steps of a rotation as `done`, and the rest two attempts later."""
    path = tmp_path / "log"
    inodes, steps, attempts = rotated(path), rotation(path), 0
    early, late = steps[:done], steps[done:]

    def opening(*args: Any, really: Callable[..., int] = os.open) -> int:
        nonlocal attempts
        for step in {when: early, when + 2: late}.get(attempts, []):
            step()
        attempts += 1
        return really(*args)

    with patch("os.open", opening):
        files = files_module.open_all(path, JsonFile)
    found = [file.identity[1] for file in files]
    for file in files:
        file.close()
    assert [inode for inode in found if inode in inodes] == inodes


async def test_golden_frames(tmp_path: Path) -> None:
    path = tmp_path / "x-json.log"
    path.write_text(GOLDEN)
    everything = frame(2, "two\n") + frame(1, "one\n") + frame(1, 'tab\tq"<é>\n') + frame(1, "end\n") + frame(1, "nonl")
    assert await collect(path, LogQuery()) == everything
    assert await collect(path, LogQuery(stdout=False)) == frame(2, "two\n")
    assert await collect(path, LogQuery(), raw=True) == 'two\none\ntab\tq"<é>\nend\nnonl'.encode()
    decorated = await collect(path, LogQuery(timestamps=True, details=True, stderr=False, tail=4))
    assert decorated.startswith(frame(1, "2026-11-24T06:41:03.412689690Z Q=z,a=b one\n"))
    # tail counts the records of both streams, then the stream is selected
    assert await collect(path, LogQuery(stdout=False, tail=3)) == b""
    assert await collect(path, LogQuery(tail=0)) == b""
    assert await collect(path, LogQuery(since_ns=SECOND + 446_963_672)) == frame(1, "nonl")
    assert await collect(path, LogQuery(until_ns=SECOND + 412_800_000)) == frame(2, "two\n") + frame(1, "one\n")


async def test_no_file_is_an_empty_log(tmp_path: Path) -> None:
    assert await collect(tmp_path / "none", LogQuery(tail=5, since_ns=1)) == b""


@pytest.mark.parametrize("tail", [0, 1, 9, 10, 11, 25, 30, 99])
async def test_tail_over_rotated_files(tmp_path: Path, tail: int) -> None:
    path = tmp_path / "l"
    for name, numbers in (("l.2", range(10)), ("l.1", range(10, 20)), ("l", range(20, 30))):
        write(tmp_path / name, numbers)
    assert numbers_in(await collect(path, LogQuery(tail=tail), raw=True)) == list(range(30))[30 - min(tail, 30) :]


async def test_since_is_found_by_bisection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "l"
    write(path, range(30_000))
    read_bytes = 0
    pread = os.pread

    def counted(fd: int, length: int, offset: int) -> bytes:
        nonlocal read_bytes
        data = pread(fd, length, offset)
        read_bytes += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    query = LogQuery(since_ns=SECOND + 29_000 * 1_000_000, until_ns=SECOND + 29_002 * 1_000_000)
    assert numbers_in(await collect(path, query, raw=True)) == [29_000, 29_001, 29_002]
    assert read_bytes < path.stat().st_size / 2


async def test_what_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "l"
    path.write_text(line(1) + line(2)[:20] + line(3) + "\x00\x00\n" + line(4) + line(5)[:30])
    assert numbers_in(await collect(path, LogQuery(), raw=True)) == [1, 3, 4]
    assert numbers_in(await collect(path, LogQuery(tail=1), raw=True)) == [4]


async def test_follow_through_rotation_to_the_end(tmp_path: Path) -> None:
    path = tmp_path / "l"
    write(path, range(2))
    watch, grew = os.pipe2(os.O_NONBLOCK)
    received = bytearray()

    async def follow() -> None:
        async for chunk in read(path, LogQuery(follow=True), True, giving(watch)):
            received.extend(chunk)

    async def until(count: int) -> None:
        while received.count(b"\n") < count:
            await asyncio.sleep(0.005)

    task = asyncio.create_task(follow())
    await asyncio.wait_for(until(2), 60)
    with path.open("a") as file:
        file.write(line(2))
    os.write(grew, b"x")
    await asyncio.wait_for(until(3), 60)
    for number in (3, 4, 5):  # two rotations between two wakes
        with path.open("a") as file:
            file.write(line(number))
        if (tmp_path / "l.1").exists():
            os.rename(tmp_path / "l.1", tmp_path / "l.2")
        os.rename(path, tmp_path / "l.1")
        write(path, range(0))
    os.write(grew, b"x")
    await asyncio.wait_for(until(6), 60)
    os.close(grew)
    await asyncio.wait_for(task, 60)
    assert numbers_in(bytes(received)) == list(range(6))
    with pytest.raises(OSError):
        os.fstat(watch)


async def test_follow_ends_at_until(tmp_path: Path) -> None:
    path = tmp_path / "l"
    write(path, range(1))
    watch, grew = os.pipe2(os.O_NONBLOCK)
    query = LogQuery(follow=True, until_ns=SECOND - 1)
    assert [chunk async for chunk in read(path, query, True, giving(watch))] == []
    os.close(grew)


async def refuse(*args: object) -> None:
    raise AssertionError("a thread")


async def test_a_little_in_memory_is_read_without_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    write(path, range(300))
    monkeypatch.setattr(asyncio, "to_thread", refuse)
    assert numbers_in(await collect(path, LogQuery(), raw=True)) == [*range(300)]
    write(path, range(100_000))
    assert numbers_in(await collect(path, LogQuery(tail=100), raw=True)) == [*range(99_900, 100_000)]
    with pytest.raises(AssertionError, match="a thread"):
        await collect(path, LogQuery(), raw=True)


async def test_many_little_files_are_read_by_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    names = [path, *(path.with_name(f"log.{number}") for number in range(1, 7))]
    for number, name in enumerate(reversed(names)):
        write(name, range(number * 10, number * 10 + 10))
    assert numbers_in(await collect(path, LogQuery(), raw=True)) == [*range(70)]
    monkeypatch.setattr(asyncio, "to_thread", refuse)
    with pytest.raises(AssertionError, match="a thread"):
        await collect(path, LogQuery(tail=1), raw=True)


@pytest.mark.parametrize("failing", range(8))
@pytest.mark.parametrize("query", [LogQuery(), LogQuery(tail=250), LogQuery(tail=250, since_ns=SECOND + 100 * 1_000_000)])
async def test_what_is_not_in_memory_is_read_by_one(tmp_path: Path, query: LogQuery, failing: int) -> None:
    """Whichever read finds it so, nothing is lost, told twice or left open."""
    path = tmp_path / "log"
    write(path.with_name("log.1"), range(200))
    write(path, range(200, 300))
    calls, preadv = iter(range(1000)), os.preadv

    def sometimes(*args: Any) -> int:
        if next(calls) == failing:
            raise BlockingIOError
        return preadv(*args)

    expected = await collect(path, query, raw=True)
    open_files = len(os.listdir("/proc/self/fd"))
    with patch.object(os, "preadv", sometimes):
        assert await collect(path, query, raw=True) == expected != b""
    assert len(os.listdir("/proc/self/fd")) == open_files


async def test_a_reader_that_leaves_closes_its_files(tmp_path: Path) -> None:
    path = tmp_path / "l"
    write(path, range(1))
    watch, grew = os.pipe2(os.O_NONBLOCK)
    before = len(os.listdir("/proc/self/fd"))
    frames = read(path, LogQuery(follow=True), True, giving(watch))
    await anext(frames)
    await frames.aclose()  # type: ignore[attr-defined]
    os.close(grew)
    assert len(os.listdir("/proc/self/fd")) == before - 2


@given(st.lists(st.integers(0, 300), max_size=40), st.integers(0, 45), st.booleans())
def test_seek_last_counts_lines(lengths: list[int], count: int, partial: bool) -> None:
    lines = [b"x" * length + b"\n" for length in lengths]
    path = Path("/dev/shm") / f"seek-{os.getpid()}"
    path.write_bytes(b"".join(lines) + b"partial" * partial)
    file = JsonFile(path)
    with patch.object(jsonfile, "_BLOCK", 64):
        assert file.seek_last(count) == min(count, len(lines))
    assert file.next_records() == b"".join(lines[len(lines) - min(count, len(lines)) :])
    file.close()
    path.unlink()
