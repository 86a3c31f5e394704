"""Bytes through the memory a daemon and its worker share."""

import contextlib
import errno
import os
import random
import threading
from collections.abc import Iterator

import pytest

from compat_engine.images.codecs import CHUNK
from compat_engine.images.ring import SIZE, Receiver, Sender
from compat_engine.images.tarreader import Source, TarReader
from tests.support.tars import Item, tar


@pytest.fixture
def sender() -> Iterator[Sender]:
    with contextlib.closing(Sender()) as ring:
        yield ring


def send(ring: Sender, data: bytes, piece: int) -> None:
    """As the daemon does, but for waiting in turns."""
    for at in range(0, len(data), piece):
        view = memoryview(data)[at : at + piece]
        while view:
            view = view[ring.put(view) :]
    ring.end()


@pytest.mark.parametrize("piece", [1000, 1 << 15, SIZE, 3 * SIZE + 1])
def test_what_is_put_in_comes_out(sender: Sender, piece: int) -> None:
    data = random.Random(piece).randbytes(4 * SIZE + 12345)
    thread = threading.Thread(target=send, args=(sender, data, piece))
    thread.start()
    receiver, found = Receiver(sender.fds), []
    while view := receiver.borrow(CHUNK):
        found.append(bytes(view))
    thread.join()
    assert b"".join(found) == data
    assert not receiver.borrow(CHUNK)


def test_a_full_ring_takes_no_more_until_something_was_read(sender: Sender) -> None:
    assert sender.put(memoryview(bytes(SIZE + 1))) == SIZE
    assert sender.put(memoryview(b"x")) == 0
    receiver = Receiver(sender.fds)
    assert len(receiver.borrow(10)) == 10
    assert sender.put(memoryview(b"x")) == 0
    receiver.borrow(1)
    assert sender.put(memoryview(b"more than ten")) == 10


def test_without_descriptors_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(value: int, flags: int) -> int:
        raise OSError(errno.EMFILE, "no descriptors")

    monkeypatch.setattr(os, "eventfd", refuse)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="no descriptors"):
        Sender()
    assert os.listdir("/proc/self/fd") == before


def test_nothing_at_all(sender: Sender) -> None:
    sender.end()
    assert Receiver(sender.fds).read(1) == b""


def fleeting(data: bytes, size: int) -> Iterator[memoryview]:
    """Pieces in one and the same memory, each wiped when the next is asked for."""
    buffer = bytearray(size)
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        buffer[: len(piece)] = piece
        yield memoryview(buffer)[: len(piece)]
        buffer[:] = bytes(size)


@pytest.mark.parametrize("size", [500, 512, 99_991])
def test_a_tar_in_pieces_that_go(size: int) -> None:
    source = random.Random(2)
    sizes = [source.choice((0, 1, 511, 512, 513, 300_000)) for _ in range(100)]
    items = [Item(f"{'long/' * (number % 60)}{number}", source.randbytes(size)) for number, size in enumerate(sizes)]
    reader = TarReader(Source(fleeting(tar(*items), size)))
    found = [(entry.name.decode(), b"".join(map(bytes, reader.data()))) for entry in reader]
    assert found == [(item.name, item.content) for item in items]
