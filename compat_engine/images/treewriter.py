"""A tree of files as a tar, the way Docker writes them: sorted, whole seconds, hard links, capabilities. Runs in a worker.

Paths are taken in the process's own root, so that whatever links there are, nothing outside of it is read.
"""

import os
import stat
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

from isal import isal_zlib

from compat_engine.images import tarwriter

_CHUNK = 1 << 20
_PIECES = 512  # below IOV_MAX
_LARGE = 1 << 18  # bytes from where a file's content goes to the pipe without passing through this process
_ZEROS = bytes(1 << 16)
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WHERE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_FAR = 3000  # bytes of a path; a name of 255 may follow
_OVERLAY = ("trusted.overlay.", "user.overlay.")
XATTR = b"SCHILY.xattr."  # what begins the name of a PAX record
OPAQUE = "trusted.overlay.opaque"
_KINDS = {
    stat.S_IFLNK: tarwriter.SYMLINK,
    stat.S_IFCHR: tarwriter.CHAR,
    stat.S_IFBLK: tarwriter.BLOCK_DEVICE,
    stat.S_IFIFO: tarwriter.FIFO,
    stat.S_IFDIR: tarwriter.DIRECTORY,
}
_WINDOW = {"gzip": 31, "deflate": -15}  # as zlib takes them
Records = dict[bytes, bytes]  # of a PAX header
Listing = Iterator[tuple[bytes, bytes, os.stat_result]]


class Sink(Protocol):
    """Where a tar goes. copy: `size` bytes of a file from where it stands; zeros for what a file that shrank has no more."""

    def write(self, data: bytes) -> None: ...
    def copy(self, file: int, size: int) -> None: ...
    def close(self) -> None: ...


class PipeSink:
    """Bytes into a pipe, many pieces at a time; encoding: "", "gzip" or "deflate" (of HTTP as Go reads it: without a header)."""

    def __init__(self, fd: int, encoding: str = "") -> None:
        self._fd = fd
        self._pieces: list[Any] = []
        self._size = 0
        self._packer = isal_zlib.compressobj(1, zlib.DEFLATED, _WINDOW[encoding]) if encoding else None

    def write(self, data: bytes) -> None:
        if self._packer is not None:
            data = self._packer.compress(data)
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _CHUNK or len(self._pieces) >= _PIECES:
            self.flush()

    def flush(self) -> None:
        pieces = [piece for piece in self._pieces if piece]
        while pieces:
            written = os.writev(self._fd, pieces)
            while pieces and written >= len(pieces[0]):
                written -= len(pieces.pop(0))
            if written:
                pieces[0] = memoryview(pieces[0])[written:]
        self._pieces, self._size = [], 0

    def copy(self, file: int, size: int) -> None:
        if self._packer is None and size >= _LARGE:
            self.flush()
            while size and (sent := os.sendfile(self._fd, file, None, size)):
                size -= sent
        while size and (data := os.read(file, min(size, _CHUNK))):
            self.write(data)
            size -= len(data)
        for piece in zeros(size):
            self.write(piece)

    def close(self) -> None:
        if self._packer is not None:
            self._pieces.append(self._packer.flush())
        self.flush()


class TreeWriter:
    """Members into a sink. layer: the tree is an upper directory, whose whiteouts become `.wh.` files; skip: paths left out."""

    def __init__(self, sink: Sink, layer: bool = False, skip: frozenset[bytes] = frozenset()) -> None:
        self._sink = sink
        self._layer = layer
        self._skip = skip
        self._links: dict[tuple[int, int], bytes] = {}  # inode -> the name it was written under

    def tree(self, path: bytes, shown: bytes) -> None:
        """What is in the directory `path`, under names that begin with `shown`."""
        stack = [self._listed(path, shown)]
        while stack:
            item = next(stack[-1], None)
            if item is None:
                stack.pop()
            elif self.member(*item):
                path, below = item[0], item[1] + b"/"
                if len(path) > _FAR:
                    self._farther(path, below)
                else:
                    stack.append(self._listed(path, below))

    def member(self, path: bytes, shown: bytes, status: os.stat_result) -> bool:
        """Writes one; true for a directory. A socket is left out, as is what is gone meanwhile."""
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            self._file(path, shown, status)
        elif kind == stat.S_IFDIR:
            self._directory(path, shown, status, self._records(path))
            return True
        elif self._layer and kind == stat.S_IFCHR and not status.st_rdev:
            self._whiteout(shown, status)
        elif kind != stat.S_IFSOCK:
            self._special(path, shown, status, _KINDS[kind])
        return False

    def end(self) -> None:
        self._sink.write(tarwriter.END)
        self._sink.close()

    def _farther(self, path: bytes, shown: bytes) -> None:
        """`tree` from there on, as no path may be longer than PATH_MAX. Nothing so deep is left out."""
        back, skip, self._skip = os.open(".", _WHERE), self._skip, frozenset()
        try:
            os.chdir(path)
            self.tree(b"", shown)
        except (FileNotFoundError, NotADirectoryError):
            pass  # it is gone meanwhile
        finally:
            os.fchdir(back)
            os.close(back)
            self._skip = skip

    def _listed(self, path: bytes, shown: bytes) -> Listing:
        try:
            entries = sorted(os.scandir(path or b"."), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            below = path.rstrip(b"/") + b"/" + entry.name if path else entry.name
            if below in self._skip:
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield below, shown + entry.name, status

    def _file(self, path: bytes, shown: bytes, status: os.stat_result) -> None:
        if self._linked(shown, status):
            return
        try:
            fd = os.open(path, _OPEN)
        except OSError:
            if os.path.lexists(path):
                raise
            return
        try:
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode):
                self._content(shown, fd, found, self._records(fd))
        finally:
            os.close(fd)

    def _content(self, shown: bytes, fd: int, status: os.stat_result, records: Records) -> None:
        self._header(shown, status, tarwriter.FILE, size=status.st_size, records=records)
        self._sink.copy(fd, status.st_size)
        if status.st_size % tarwriter.BLOCK:
            self._sink.write(tarwriter.padding(status.st_size))

    def _directory(self, path: bytes, shown: bytes, status: os.stat_result, records: Records) -> None:
        self._header(shown.rstrip(b"/") + b"/", status, tarwriter.DIRECTORY, records=records)
        if self._layer and is_opaque(path):
            name = shown + b"/.wh..wh..opq"
            mode = stat.S_IMODE(status.st_mode) & 0o777
            self._sink.write(tarwriter.header(name, mode=mode, uid=status.st_uid, gid=status.st_gid))

    def _whiteout(self, shown: bytes, status: os.stat_result) -> None:
        parent, slash, name = shown.rpartition(b"/")
        self._sink.write(tarwriter.header(parent + slash + b".wh." + name, mode=0o600, mtime=int(status.st_mtime)))

    def _special(self, path: bytes, shown: bytes, status: os.stat_result, kind: bytes) -> None:
        if self._linked(shown, status):
            return
        try:
            link = os.readlink(path) if kind == tarwriter.SYMLINK else b""
        except OSError:
            return  # it is something else by now
        device = (os.major(status.st_rdev), os.minor(status.st_rdev))  # zeros but for a device
        self._header(shown, status, kind, link=link, device=device)

    def _linked(self, shown: bytes, status: os.stat_result) -> bool:
        """Whether it was written before under another name; then as a link to that."""
        if status.st_nlink < 2:
            return False
        first = self._links.setdefault((status.st_dev, status.st_ino), shown)
        if first == shown:
            return False
        self._header(shown, status, tarwriter.HARD_LINK, link=first)
        return True

    def _header(self, shown: bytes, status: os.stat_result, kind: bytes, **more: Any) -> None:
        mode, owner = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
        self._sink.write(
            tarwriter.header(shown, kind, mode=mode, uid=owner[0], gid=owner[1], mtime=status.st_mtime_ns // 10**9, **more)
        )

    def _records(self, target: int | bytes) -> Records:
        """Extended attributes: capabilities and the user's, in a layer all that overlayfs does not use itself."""
        try:
            names = os.listxattr(target)
        except OSError:
            return {}
        kept = [name for name in names if self._is_kept(name)]
        return {XATTR + os.fsencode(name): os.getxattr(target, name) for name in kept}

    def _is_kept(self, name: str) -> bool:
        if self._layer and name.startswith(("trusted.", "user.")):
            return not name.startswith(_OVERLAY)
        return name == "security.capability" or name.startswith("user.")


def zeros(size: int) -> Iterator[bytes]:
    while size:
        yield _ZEROS[:size]
        size -= min(size, len(_ZEROS))


def is_opaque(path: bytes) -> bool:
    try:
        return os.getxattr(path, OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False
