"""Reads tar streams of every dialect images come in: ustar, GNU (long names, base-256, sparse), PAX (also sparse 0.0 to 1.0).

Names are bytes throughout: tar has no encoding. Nothing here touches the filesystem.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct
from zlib import adler32

from compat_engine.images.codecs import BadArchive, Piece

BLOCK = 512
_ZEROS = bytes(BLOCK)
_META_LIMIT = 1 << 20  # bytes of one PAX header or long name
_SPARSE_LIMIT = 1 << 20  # extents of one sparse file
_SIZE_LIMIT = 1 << 63
_XATTR = b"SCHILY.xattr."
_LINK, _SYMLINK, _CHAR, _BLOCK_DEVICE, _DIRECTORY, _FIFO = b"1", b"2", b"3", b"4", b"5", b"6"
_HEADER_ONLY = frozenset((_LINK, _SYMLINK, _CHAR, _BLOCK_DEVICE, _DIRECTORY, _FIFO))
_PASSED_OVER = frozenset((b"g", b"V", b"M", b"N"))  # "g": as for Docker, global PAX headers describe no entry
_REGULAR = frozenset((b"0", b"\0", b"7", b"S"))
_SPARSE = frozenset(b"GNU.sparse." + word for word in (b"major", b"name", b"realsize", b"size", b"map"))
_FIELDS = Struct("100s24s12s12s9x100s6s")  # name, mode with uid and gid, size, mtime, link, magic


class BadTar(BadArchive):
    """Not a tar, a truncated one, or one that asks for something no tar may."""


@dataclass(slots=True)
class Entry:
    """One member. type: "0" file, "1" hard link, "2" symlink, "3" char, "4" block, "5" directory, "6" fifo.

    size: bytes of the file's content as it reads, holes included. extents: (offset, length) of a sparse file's data, else None.
    """

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes
    major: int
    minor: int
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    extents: list[tuple[int, int]] | None = None


class Source:
    """A byte stream taken from an iterator of chunks, without copying bodies. A chunk may be gone when the next is asked for."""

    __slots__ = ("_at", "_chunk", "_chunks")

    def __init__(self, chunks: Iterator[Piece]) -> None:
        self._chunks = chunks
        self._chunk = memoryview(b"")
        self._at = 0

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes, or b"" at a clean end. Raises BadTar when the stream ends within them."""
        end = self._at + count
        if end <= len(self._chunk):
            taken = bytes(self._chunk[self._at : end])
            self._at = end
            return taken
        pieces = b"".join(map(bytes, self._pieces(count)))  # copied at once: a piece is gone when the next comes
        if pieces and len(pieces) < count:
            raise BadTar("unexpected EOF")
        return pieces

    def skip(self, count: int) -> None:
        """Passes over `count` bytes, or over none at a clean end. Raises BadTar when the stream ends within them."""
        if self._at + count <= len(self._chunk):
            self._at += count
        else:
            self.take(count)

    def at_hand(self, count: int) -> tuple[memoryview] | None:
        """A view of the next `count` bytes if no chunk ends within them, as most often: so no generator is made for it."""
        at, end = self._at, self._at + count
        if end > len(self._chunk):
            return None
        self._at = end
        return (self._chunk[at:end],)

    def body(self, count: int) -> Iterator[memoryview]:
        """Views of the next `count` bytes, each there until the next. Raises BadTar when the stream ends within them."""
        for piece in self._pieces(count):
            count -= len(piece)
            yield piece
        if count:
            raise BadTar("unexpected EOF")

    def drain(self) -> None:
        """Reads what is left: a digest covers also what follows the archive's end."""
        for _ in self._chunks:
            pass

    def _pieces(self, count: int) -> Iterator[memoryview]:
        while count > 0:
            if self._at == len(self._chunk):
                chunk = next(self._chunks, None)
                if chunk is None:
                    return
                self._chunk, self._at = memoryview(chunk), 0
            piece = self._chunk[self._at : self._at + count]
            self._at += len(piece)
            count -= len(piece)
            yield piece


class TarReader:
    """Iterate for the entries; `data()` gives the current regular file's bytes, the next step skips what is left of them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = 0  # bytes of the current body not yet read, padding not counted
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def data(self) -> Iterable[memoryview]:
        """The stored bytes of the current entry (of a sparse file: its extents, one after the other)."""
        if not self._left:
            return ()
        whole = self._source.at_hand(self._left)
        if whole is None:
            return self._pieces()
        self._left = 0
        return whole

    def _pieces(self) -> Iterator[memoryview]:
        for piece in self._source.body(self._left):
            self._left -= len(piece)
            yield piece

    def _next(self) -> Entry | None:
        pax: dict[bytes, bytes] = {}
        name = link = b""
        while (block := self._block()) is not None:
            kind = block[156:157]
            if kind == b"0":
                return self._entry(block, kind, pax, name, link)
            if kind in (b"x", b"X"):
                pax = _records(self._meta(block))
            elif kind == b"L":
                name = self._meta(block).partition(b"\0")[0]
            elif kind == b"K":
                link = self._meta(block).partition(b"\0")[0]
            elif kind not in _PASSED_OVER:
                return self._entry(block, kind, pax, name, link)
            else:
                self._expect(_number(block[124:136]))
        return None

    def _block(self) -> bytes | None:
        """The next header that is not the end."""
        if self._left or self._padding:
            for _ in self.data():
                pass
            self._source.skip(self._padding)
            self._padding = 0
        block = self._source.take(BLOCK)
        if not block or block == _ZEROS:
            self._source.drain()
            return None
        # The low half of adler32 is one more than a sum, modulo a prime that 256 bytes do not reach: six times as fast as adding.
        low, high = adler32(block[:256]) & 0xFFFF, adler32(block[256:]) & 0xFFFF
        if low + high - 2 != _expected(block[148:156]):
            raise BadTar("archive/tar: invalid tar header")
        return block

    def _entry(self, block: bytes, kind: bytes, pax: dict[bytes, bytes], name: bytes, link: bytes) -> Entry:
        short, ids, size, mtime, target, magic = _FIELDS.unpack_from(block)
        if not name:
            name = short.partition(b"\0")[0]
            if magic == b"ustar\0" and block[345]:
                name = block[345:500].partition(b"\0")[0] + b"/" + name
        if kind in _REGULAR:
            if kind != b"S":
                kind = _DIRECTORY if kind == b"\0" and name.endswith(b"/") else b"0"
        elif kind == b"D":
            kind = _DIRECTORY
        elif kind not in _HEADER_ONLY:
            raise BadTar(f"unhandled tar header type {kind[0]}")
        entry = Entry(
            name,
            kind,
            *_ids(ids),
            0 if kind in _HEADER_ONLY else _number(size),
            _number(mtime) * 1_000_000_000,
            link or target.partition(b"\0")[0],
            _number(block[329:337]) if kind in (_CHAR, _BLOCK_DEVICE) else 0,
            _number(block[337:345]) if kind in (_CHAR, _BLOCK_DEVICE) else 0,
        )
        if pax:
            _override(entry, pax)
        self._expect(entry.size)
        if kind == b"S":
            entry.type = b"0"
            self._gnu_sparse(entry, block)
        elif not _SPARSE.isdisjoint(pax):
            self._pax_sparse(entry, pax)
        return entry

    def _expect(self, size: int) -> None:
        if not 0 <= size < _SIZE_LIMIT:
            raise BadTar("archive/tar: invalid tar header")
        self._left, self._padding = size, -size % BLOCK

    def _meta(self, block: bytes) -> bytes:
        size = _number(block[124:136])
        if not 0 <= size <= _META_LIMIT:
            raise BadTar("archive/tar: header field too long")
        data = self._source.take(size)
        if len(data) < size:
            raise BadTar("unexpected EOF")
        self._expect(0)
        self._padding = -size % BLOCK
        return data

    def _gnu_sparse(self, entry: Entry, block: bytes) -> None:
        extents, more, fields = [], block[482], block[386:482]
        entry.size = _number(block[483:495])
        while True:
            for at in range(0, len(fields), 24):
                if not fields[at : at + 24].strip(b"\0 "):
                    break
                extents.append((_number(fields[at : at + 12]), _number(fields[at + 12 : at + 24])))
            if not more or len(extents) > _SPARSE_LIMIT:
                break
            extension = self._source.take(BLOCK)
            if not extension:
                raise BadTar("unexpected EOF")
            fields, more = extension[:504], extension[504]
        entry.extents = _checked(extents, entry.size, self._left)

    def _pax_sparse(self, entry: Entry, pax: dict[bytes, bytes]) -> None:
        if pax.get(b"GNU.sparse.major") == b"1":
            numbers = self._sparse_map()
        else:
            numbers = [_decimal(word) for word in pax.get(b"GNU.sparse.map", b"").split(b",") if word]
        entry.name = pax.get(b"GNU.sparse.name", entry.name)
        entry.size = _decimal(pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size") or b"0")
        entry.extents = _checked(list(zip(numbers[::2], numbers[1::2], strict=False)), entry.size, self._left)

    def _sparse_map(self) -> list[int]:
        """Sparse format 1.0: decimal lines before the data, padded to a block: a count, then offset and length of each extent."""
        text, lines, wanted = bytearray(), 0, 1
        while lines < wanted:
            if self._left < BLOCK or len(text) > 32 * _SPARSE_LIMIT or wanted > 2 * _SPARSE_LIMIT + 1:
                raise BadTar("archive/tar: invalid sparse map")
            block = self._source.take(BLOCK)
            self._left -= BLOCK
            text += block
            lines += block.count(b"\n")
            if wanted == 1 and lines:
                wanted += 2 * _decimal(bytes(text).partition(b"\n")[0])
        return [_decimal(line) for line in bytes(text).split(b"\n")[1:wanted]]


def _checked(extents: list[tuple[int, int]], size: int, stored: int) -> list[tuple[int, int]]:
    """The extents, once they are in order, within the file, and as long together as what is stored."""
    at = 0
    for offset, length in extents:
        if offset < at or length < 0 or offset + length > size:
            raise BadTar("archive/tar: invalid sparse map")
        at = offset + length
    if not 0 <= size < _SIZE_LIMIT or sum(length for _, length in extents) != stored or len(extents) > _SPARSE_LIMIT:
        raise BadTar("archive/tar: invalid sparse map")
    return extents


def _override(entry: Entry, pax: dict[bytes, bytes]) -> None:
    """What the PAX records say in place of the header's fields."""
    for key, value in pax.items():
        if key == b"path":
            entry.name = value
            if entry.type == b"0" and value.endswith(b"/") and not entry.size:
                entry.type = _DIRECTORY
        elif key == b"linkpath":
            entry.link = value
        elif key == b"size" and entry.type not in _HEADER_ONLY:
            entry.size = _decimal(value)
        elif key == b"uid":
            entry.uid = _decimal(value)
        elif key == b"gid":
            entry.gid = _decimal(value)
        elif key == b"mtime":
            entry.mtime_ns = _nanoseconds(value)
        elif key.startswith(_XATTR):
            entry.xattrs[key[len(_XATTR) :]] = value


def _records(data: bytes) -> dict[bytes, bytes]:
    """PAX records: "<length> <key>=<value>\\n". The pairs of sparse format 0.0 become one GNU.sparse.map, as in format 0.1."""
    found: dict[bytes, bytes] = {}
    pairs: list[bytes] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        end = at + _decimal(data[at:space]) if space > at else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not (space < end <= len(data) and data[end - 1 : end] == b"\n" and equals and key):
            raise BadTar("archive/tar: invalid tar header")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pairs.append(value)
        else:
            found[key] = value
        at = end
    if pairs:
        found[b"GNU.sparse.map"] = b",".join(pairs)
    return found


@lru_cache(8192)
def _expected(field: bytes) -> int:
    """The sum of a header's bytes that its checksum tells, which takes the checksum's own for spaces."""
    return _number(field) + sum(field) - 256


@lru_cache(8192)
def _ids(fields: bytes) -> tuple[int, int, int]:
    """Mode, uid and gid."""
    return _number(fields[:8]) & 0o7777, _number(fields[8:16]), _number(fields[16:])


@lru_cache(8192)
def _number(raw: bytes) -> int:
    """A header's number: octal digits, or base-256 when the first bit is set."""
    if raw[0] & 0x80:
        return int.from_bytes(bytes((raw[0] & 0x7F,)) + raw[1:], "big") - ((1 << (8 * len(raw) - 1)) if raw[0] & 0x40 else 0)
    digits = raw.partition(b"\0")[0].strip(b" ")
    if digits.strip(b"01234567"):
        raise BadTar("archive/tar: invalid tar header")
    return int(digits or b"0", 8)


def _decimal(raw: bytes) -> int:
    if not raw.isdigit() or len(raw) > 20:
        raise BadTar("archive/tar: invalid tar header")
    return int(raw)


def _nanoseconds(raw: bytes) -> int:
    """Decimal seconds with any number of decimals; also before 1970."""
    whole, _, fraction = raw.removeprefix(b"-").partition(b".")
    value = _decimal(whole) * 1_000_000_000
    if fraction:
        if not fraction.isdigit():
            raise BadTar("archive/tar: invalid tar header")
        value += int(fraction[:9].ljust(9, b"0"))
    return -value if raw.startswith(b"-") else value
