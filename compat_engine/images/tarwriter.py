"""Tar headers by formatting bytes: ustar, with a PAX header in front only when a value does not fit."""

from functools import lru_cache

BLOCK = 512
END = bytes(2 * BLOCK)
FILE, HARD_LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_NAME, _PREFIX, _LINK = 100, 155, 100
_ID_LIMIT, _SIZE_LIMIT = 1 << 21, 1 << 33  # what seven and eleven octal digits hold


def header(
    name: bytes,
    kind: bytes = FILE,
    size: int = 0,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    records: dict[bytes, bytes] | None = None,
) -> bytes:
    """One member's header blocks. mtime in seconds; `records`: PAX records of the caller's own (xattrs, exact times)."""
    extra = dict(records) if records else {}
    short, prefix = _split(name)
    if short is None:
        extra[b"path"] = name
        short, prefix = name[:_NAME], b""
    if len(link) > _LINK:
        extra[b"linkpath"] = link
    if size >= _SIZE_LIMIT:
        extra[b"size"] = b"%d" % size
    if uid >= _ID_LIMIT:
        extra[b"uid"] = b"%d" % uid
    if gid >= _ID_LIMIT:
        extra[b"gid"] = b"%d" % gid
    if not 0 <= mtime < _SIZE_LIMIT:
        extra.setdefault(b"mtime", b"%d" % mtime)
    fields = (
        *(mode, uid if uid < _ID_LIMIT else 0, gid if gid < _ID_LIMIT else 0, size if size < _SIZE_LIMIT else 0),
        mtime if 0 <= mtime < _SIZE_LIMIT else 0,
    )
    return (_pax(extra) if extra else b"") + _ustar(short, kind, fields, link[:_LINK], device, prefix)


def padding(size: int) -> bytes:
    """What follows a body of `size` bytes."""
    return bytes(-size % BLOCK)


def _ustar(name: bytes, kind: bytes, fields: tuple[int, ...], link: bytes, device: tuple[int, int], prefix: bytes) -> bytes:
    mode, uid, gid, size, mtime = fields
    (owner, owned), (rest, summed) = _owner(mode, uid, gid), _rest(kind, link, device, prefix)
    numbers = b"%011o\0%011o\0" % (size, mtime)
    return b"%b%b%b%06o\0 %b" % (name.ljust(_NAME, b"\0"), owner, numbers, sum(name) + owned + sum(numbers) + summed, rest)


@lru_cache(1024)
def _owner(mode: int, uid: int, gid: int) -> tuple[bytes, int]:
    """These three fields, and what they add to the checksum: the same for most members of a tar."""
    fields = b"%07o\0%07o\0%07o\0" % (mode, uid, gid)
    return fields, sum(fields)


@lru_cache(1024)
def _rest(kind: bytes, link: bytes, device: tuple[int, int], prefix: bytes) -> tuple[bytes, int]:
    """What follows the checksum, and what that adds to it together with the spaces that count in its own place."""
    fields = b"%b%b%b%b%07o\0%07o\0%b%b" % (
        *(kind, link.ljust(_LINK, b"\0"), b"ustar\x0000", bytes(64), *device),
        *(prefix.ljust(_PREFIX, b"\0"), bytes(12)),
    )
    return fields, sum(fields) + sum(b" " * 8)


def _split(name: bytes) -> tuple[bytes | None, bytes]:
    """(name, prefix) as ustar stores them; (None, b"") when they do not fit, or would read back as something else."""
    if len(name) <= _NAME:
        return name, b""
    at = name.find(b"/", len(name) - _NAME - 1, _PREFIX + 1)
    if at <= 0 or at == len(name) - 1:
        return None, b""
    return name[at + 1 :], name[:at]


def _pax(records: dict[bytes, bytes]) -> bytes:
    body = b"".join(_record(key, value) for key, value in sorted(records.items()))
    fields = (0o644, 0, 0, len(body), 0)
    return _ustar(b"PaxHeaders.0/x", b"x", fields, b"", (0, 0), b"") + body + padding(len(body))


def _record(key: bytes, value: bytes) -> bytes:
    """ "<length> <key>=<value>\\n", the length counting itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(b"%d" % rest)
    length = rest + len(b"%d" % length)
    return b"%d %b=%b\n" % (length, key, value)
