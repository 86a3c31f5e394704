"""Decompression by what the bytes say, in chunks, with a limit on how far they may expand."""

import bz2
import io
import lzma
import queue
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any, TypeVar, cast

import zstandard
from isal import igzip, igzip_lib

from compat_engine.images.ring import Receiver

CHUNK = 1 << 20
_ZSTD_WINDOW = 128 << 20  # bytes; what the zstd command accepts by default, and so what people's images use
_XZ_MEMORY = 256 << 20  # bytes; four times what xz -9 asks for, and it may ask for four gibibytes
_FREE_EXPANSION = 1 << 30  # bytes any archive may expand to
_RATIO = 5_000  # beyond that: bytes out for a byte in; deflate reaches 1,032
_DEPTH = 8  # chunks between the decompressing thread and its reader
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2"}
_LONGEST = 6
T = TypeVar("T")
Piece = bytes | memoryview
_ISAL: type[Exception] = cast(type[Exception], igzip_lib.error)  # annotated in the package as an instance


class BadArchive(Exception):
    """The bytes are not what they claim to be; `str()` is for the client."""


class Input(io.RawIOBase):
    """A raw stream that can be looked into and knows how much was read. Takes over a descriptor."""

    def __init__(self, source: int | io.RawIOBase) -> None:
        self._file: io.RawIOBase = io.FileIO(source) if isinstance(source, int) else source
        self._borrow: Callable[[int], Piece] = source.borrow if isinstance(source, Receiver) else self._read
        self._ahead = b""
        self.consumed = 0

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        while len(self._ahead) < size and (more := self._file.read(size - len(self._ahead))):
            self._ahead += more
        return self._ahead[:size]

    def views(self) -> Iterator[Piece]:
        """All that is left; each piece is there until the next is asked for."""
        if self._ahead:
            yield super().read(len(self._ahead)) or b""
        while piece := self._borrow(CHUNK):
            self.consumed += len(piece)
            yield piece

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """As the raw stream's own, which fills fresh bytes rather than copy them."""
        if self._ahead or size < 0:
            return super().read(size) or b""
        data = self._read(size)
        self.consumed += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        if self._ahead:
            count = min(len(buffer), len(self._ahead))
            buffer[:count] = self._ahead[:count]
            self._ahead = self._ahead[count:]
        else:
            count = self._file.readinto(buffer) or 0
        self.consumed += count
        return count

    def _read(self, size: int) -> bytes:
        return self._file.read(size) or b""


def codec_of(start: bytes) -> str:
    """gzip, zstd, xz, bzip2, or "" for none of them."""
    for magic, name in _MAGIC.items():
        if start.startswith(magic):
            return name
    return "zstd" if start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50 else ""  # a skippable frame first: zstd:chunked


def content(source: Input) -> Iterator[Piece]:
    """`chunks`, with a thread to decompress if that is to be done."""
    pieces = chunks(source)
    return ahead(pieces) if codec_of(source.peek(_LONGEST)) else pieces


def chunks(source: Input) -> Iterator[Piece]:
    """The decompressed content, about a mebibyte at a time; a piece of what is not compressed is there until the next is asked
    for. Raises BadArchive for broken data and for bombs."""
    total = 0
    try:
        for data in _pieces(source):
            total += len(data)
            if total > _FREE_EXPANSION and total > source.consumed * _RATIO:
                raise BadArchive(f"archive expands more than {_RATIO} times: refused")
            yield data
    except (EOFError, lzma.LZMAError, zstandard.ZstdError, _ISAL) as error:
        raise BadArchive(f"cannot decompress archive: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise BadArchive(f"cannot decompress archive: {error}") from error  # bz2 has no class of its own for it


def ahead(source: Iterator[T]) -> Iterator[T]:
    """`source`, run in a thread a few chunks ahead: reading, decompressing and hashing release the interpreter's lock."""
    ready: queue.Queue[T | BaseException | None] = queue.Queue(_DEPTH)

    def run() -> None:
        try:
            for chunk in source:
                ready.put(chunk)
            ready.put(None)
        except BaseException as error:  # raised again where the chunks are taken
            ready.put(error)

    threading.Thread(target=run, daemon=True).start()
    while (item := ready.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item


def _pieces(source: Input) -> Iterator[Piece]:
    codec = codec_of(source.peek(_LONGEST))
    if not codec:
        return source.views()
    return _unxz(source) if codec == "xz" else iter(partial(_reader(source, codec).read, CHUNK), b"")


def _unxz(source: Input) -> Iterator[bytes]:
    """One xz stream after the other. lzma.LZMAFile does as much, but knows no limit of memory."""
    piece = source.read(CHUNK)
    while piece:
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)
        yield unpacker.decompress(piece, CHUNK)
        while not unpacker.eof:
            piece = source.read(CHUNK) if unpacker.needs_input else b""
            if unpacker.needs_input and not piece:
                raise EOFError("unexpected EOF")
            yield unpacker.decompress(piece, CHUNK)
        piece = unpacker.unused_data.lstrip(b"\0")  # padding
        while not piece and (more := source.read(CHUNK)):
            piece = more.lstrip(b"\0")


def _reader(source: Input, codec: str) -> IO[bytes]:
    file = cast(IO[bytes], source)
    if codec == "gzip":
        return cast(IO[bytes], igzip.open(file, "rb"))  # type: ignore[no-untyped-call]
    if codec == "zstd":
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        return cast(IO[bytes], decompressor.stream_reader(file, read_size=CHUNK, read_across_frames=True))
    return cast(IO[bytes], bz2.BZ2File(file))
