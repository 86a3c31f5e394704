"""Unpacks an archive into a directory of a container, by the rules of `docker cp`. Runs in a worker inside that root."""

import errno
import os
import posixpath
import stat

from compat_engine.images.codecs import BadArchive
from compat_engine.images.extract import Extractor, is_directory
from compat_engine.images.tarreader import BadTar, Entry, TarReader

_PASSWD_LIMIT = 1 << 20  # bytes


class CopyIn(Extractor):
    """Into the current directory, which is `destination`. keep_kind: no directory is replaced by something else, nor the other
    way round. owner: uid and gid everything gets. Raises BadArchive with Docker's texts."""

    layer = False

    def __init__(self, destination: bytes, keep_kind: bool, owner: tuple[int, int] | None) -> None:
        super().__init__()
        self._destination = destination
        self._keep_kind = keep_kind
        self._owner = owner

    def admit(self, entry: Entry) -> bytes:
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        if b"\0" in entry.link:
            raise BadTar("archive/tar: invalid tar header")
        return super().admit(entry)

    def place(self, name: bytes) -> bytes | None:
        """As for Docker, what would lead above an absolute name's root leads to that root, which is the destination."""
        if b"\0" in name:
            raise BadTar("archive/tar: invalid tar header")
        return self._inside(posixpath.normpath(name))

    def outside(self, name: bytes) -> BadTar:
        return BadTar(f'"{os.fsdecode(posixpath.normpath(name))}" is outside of "{os.fsdecode(self._destination)}"')

    def root(self, entry: Entry) -> None:
        """The directory itself stays as it is."""

    def _directory(self, path: bytes, entry: Entry, reader: TarReader) -> None:
        if self._keep_kind and os.path.lexists(path) and not is_directory(path):
            raise BadArchive(f'cannot overwrite non-directory "{self._shown(path)}" with directory "{self._shown(b"")}"')
        super()._directory(path, entry, reader)

    def _symlink(self, path: bytes, entry: Entry, reader: TarReader) -> None:
        target = posixpath.normpath(b"%b/%b/%b" % (self._destination, posixpath.dirname(path), entry.link))
        if not _single(target).startswith(self._destination):
            raise BadTar(f'invalid symlink "{self._shown(path)}" -> "{os.fsdecode(entry.link)}"')
        super()._symlink(path, entry, reader)

    def link_target(self, entry: Entry) -> bytes:
        path = self._inside(entry.link)
        if path is None:
            target = _single(posixpath.normpath(self._destination + b"/" + entry.link))
            raise BadTar(f'invalid hardlink "{os.fsdecode(target)}" -> "{os.fsdecode(entry.link)}"')
        return path

    def _clear(self, path: bytes) -> None:
        if self._keep_kind and is_directory(path):
            raise BadArchive(f'cannot overwrite directory "{self._shown(path)}" with non-directory "{self._shown(b"")}"')
        try:
            super()._clear(path)
        except OSError as error:
            if error.errno == errno.EBUSY:  # a mount point
                shown = os.fsdecode(self._destination + b"/" + path)
                raise BadArchive(f"unlinkat {shown}: device or resource busy") from error
            raise

    def _inside(self, name: bytes) -> bytes | None:
        """`name` relative to the destination; None when it is not below it."""
        full = _single(posixpath.normpath(self._destination + b"/" + name))
        if full == self._destination:
            return b""
        base = self._destination.rstrip(b"/") + b"/"
        return full[len(base) :] if full.startswith(base) else None

    def _shown(self, path: bytes) -> str:
        return os.fsdecode(posixpath.join(self._destination, path) if path else self._destination)


def owner_of(user: str) -> tuple[int, int]:
    """uid and gid of "name|uid[:group|gid]" by the root's own passwd and group files. Raises BadArchive for an unknown name."""
    name, _, group = user.partition(":")
    entry = _find("/etc/passwd", name)
    if entry is None and not name.isdecimal():
        raise BadArchive(f"unable to find user {name}: no matching entries in passwd file")
    uid, gid = (int(entry[2]), int(entry[3])) if entry else (int(name), 0)
    if group:
        found = _find("/etc/group", group)
        if found is None and not group.isdecimal():
            raise BadArchive(f"unable to find group {group}: no matching entries in group file")
        gid = int(found[2]) if found else int(group)
    return uid, gid


def _find(path: str, word: str) -> list[str] | None:
    """The line of a name or number; lines that are none are passed over."""
    for line in _read(path).splitlines():
        fields = line.split(":")
        numbers = fields[2:4] if len(fields) > 4 else fields[2:3]  # of a user: its group too
        if numbers and word in (fields[0], fields[2]) and all(number.isdecimal() for number in numbers):
            return fields
    return None


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, _PASSWD_LIMIT).decode(errors="replace") if stat.S_ISREG(os.fstat(fd).st_mode) else ""
    finally:
        os.close(fd)


def _single(path: bytes) -> bytes:
    """normpath leaves two leading slashes alone."""
    return b"/" + path.lstrip(b"/")
