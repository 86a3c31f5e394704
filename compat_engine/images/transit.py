"""Blobs between the store and a registry: the worker's jobs for layers that come and go.

A download is hashed, written to its file and unpacked in one pass, so that when its last byte has come little is left to do.
"""

import hashlib
import io
import os
from typing import Any

from isal import igzip

from compat_engine.images.codecs import BadArchive, Input, ahead, chunks, codec_of
from compat_engine.images.extract import Extractor, enter, note, write_all
from compat_engine.images.ring import FDS, Receiver
from compat_engine.images.tarreader import Source, TarReader
from compat_engine.kernel.files import appended

_LEVEL = 2  # of isal: near gzip's fastest in size, many times as fast
_PIECE = 1 << 20


class Growing(io.RawIOBase):
    """A blob as it comes: first what its file holds already, then what comes through the ring, which is added to the file."""

    def __init__(self, ring: Receiver, file: int) -> None:
        self._ring = ring
        self._file = file
        self._held = os.fstat(file).st_size
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """Of all that was read so far."""
        return f"sha256:{self._digest.hexdigest()}"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self._held:
            count = os.readv(self._file, [view[: self._held]])
            self._held -= count
        else:
            count = self._ring.readinto(view)
            write_all(self._file, view[:count])
        self._taken(view[:count])
        return count

    def _taken(self, data: bytes | memoryview) -> None:
        appended(self._file, self.size, len(data))
        self._digest.update(data)
        self.size += len(data)

    def read(self, size: int = -1) -> bytes:
        """As the raw stream's own, which fills fresh bytes rather than copy them."""
        if self._held or size < 0:
            return super().read(size) or b""
        data = self._ring.read(size)
        write_all(self._file, memoryview(data))
        self._taken(data)
        return data

    def drain(self) -> None:
        while self.read(_PIECE):
            pass


def fetch(fds: list[int], arguments: dict[str, Any], reply: Any) -> dict[str, Any]:
    """Completes the blob in file `fds[FDS]` from the ring and unpacks it into directory `fds[FDS + 1]`, if given.

    {digest, size} of the blob; with a directory, and if the digest is `digest`, also {diff_id, unpacked, implied}. A tar that is
    bad is an error only when the blob is the one that was wanted.
    """
    blob = Growing(Receiver(fds[:FDS]), fds[FDS])
    unpacked: dict[str, Any] = {}
    failure: BadArchive | None = None
    if len(fds) > FDS + 1:
        try:
            unpacked = _unpack(Input(blob), fds[FDS + 1], arguments["digest"])
        except BadArchive as error:
            failure = error
    blob.drain()
    if failure is not None and blob.digest == arguments["digest"]:
        raise failure
    return {"digest": blob.digest, "size": blob.size, **unpacked}


def compress(fds: list[int], arguments: dict[str, Any], reply: Any) -> dict[str, Any]:
    """Writes the content of blob fds[0], whatever it is compressed with, as gzip into the pipe fds[1]: {digest, size}."""
    out = _Hashing(fds[1])
    source = Input(fds[0])
    with igzip.IGzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=out, mtime=0) as packed:  # type: ignore[no-untyped-call]
        for piece in ahead(chunks(source)):
            packed.write(piece)  # type: ignore[no-untyped-call]
            reply({"progress": source.consumed})
    os.close(fds[1])
    return {"digest": f"sha256:{out.digest.hexdigest()}", "size": out.size}


class _Hashing(io.RawIOBase):
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.digest.update(view)
        write_all(self._fd, view)
        self.size += len(view)
        return len(view)


def _unpack(source: Input, directory: int, digest: str) -> dict[str, Any]:
    """A plain tar's diff id is its blob's digest; the caller checks that."""
    plain = not codec_of(source.peek(8))
    hashed = hashlib.sha256()

    def content() -> Any:
        for piece in ahead(chunks(source)):
            hashed.update(piece)
            yield piece

    around = enter(directory)
    stream = ahead(chunks(source) if plain else content())  # a thread to decompress, one to hash, this one to write
    try:
        unpacked = Extractor().run(TarReader(Source(stream)))
    except BadArchive:
        for _ in stream:  # the thread behind it must have ended before anything else reads the blob
            pass
        raise
    diff_id = digest if plain else f"sha256:{hashed.hexdigest()}"
    return {"diff_id": diff_id, "unpacked": unpacked.size, "implied": note(around, unpacked.implied)}
