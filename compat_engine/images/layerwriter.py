"""A container's writable layer as an image's: in one pass its tar, hashed and stored, and its files, copied. Runs in a worker.

Every byte is read once and goes both ways, so blob and directory agree even when the container goes on writing.
"""

import hashlib
import os
import queue
import stat
import threading
from typing import Any

from compat_engine.images import tarwriter
from compat_engine.images.extract import SPACE_CHECK, check_space, write_all
from compat_engine.images.treewriter import OPAQUE, Sink, TreeWriter, content, is_opaque

_DEPTH = 8  # pieces of about a mebibyte between the thread that reads and the one that stores
_CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SECOND = 10**9
_XATTR = b"SCHILY.xattr."
_TYPES = {tarwriter.CHAR: stat.S_IFCHR, tarwriter.BLOCK_DEVICE: stat.S_IFBLK, tarwriter.FIFO: stat.S_IFIFO}


class BlobSink(Sink):
    """Into the file `fd`; a thread hashes and writes while the caller reads on. `twin`: where files' content goes as well."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.twin = -1
        self.stored = 0
        self._digest = hashlib.sha256()
        self._waiting: queue.Queue[bytes | None] = queue.Queue(_DEPTH)
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._store, daemon=True)
        self._thread.start()

    @property
    def digest(self) -> str:
        """Of all, once it is closed."""
        return f"sha256:{self._digest.hexdigest()}"

    def flush(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiting.put(b"".join(self._pieces))
        self._pieces, self._size = [], 0

    def copy(self, file: int, size: int) -> None:
        for piece in content(file, size):
            write_all(self.twin, memoryview(piece))
            self.write(piece)

    def close(self) -> None:
        super().close()
        self._waiting.put(None)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _store(self) -> None:
        while (piece := self._waiting.get()) is not None:
            if self._failure is None:  # after one, somebody still has to empty the queue
                try:
                    self._digest.update(piece)
                    write_all(self._fd, memoryview(piece))
                    self.stored += len(piece)
                except OSError as failure:
                    self._failure = failure


class LayerWriter(TreeWriter):
    """Members into `blob`, and each of them as a file below the directory `target`, as unpacking that blob would make it."""

    def __init__(self, blob: BlobSink, target: int, skip: frozenset[bytes]) -> None:
        super().__init__(blob, layer=True, skip=skip)
        self._blob = blob
        self._target = target
        self._times: list[tuple[bytes, int]] = []  # directories' mtimes, set when nothing more is put into them
        self._unchecked = 0
        self.unpacked = 0  # bytes of all that is no directory

    def end(self) -> None:
        super().end()
        for path, mtime in self._times:
            os.utime(path, ns=(mtime, mtime), dir_fd=self._target, follow_symlinks=False)

    def _content(self, path: bytes, shown: bytes, fd: int, status: os.stat_result) -> None:
        self._blob.twin = twin = os.open(shown, _CREATE, 0o600, dir_fd=self._target)
        try:
            super()._content(path, shown, fd, status)
            self._describe(twin, status, self._records(path, fd))
            os.utime(twin, ns=(_mtime(status), _mtime(status)))
            self._account(twin, status.st_size)
        finally:
            os.close(twin)

    def _directory(self, path: bytes, shown: bytes, status: os.stat_result) -> None:
        super()._directory(path, shown, status)
        os.mkdir(shown, 0o700, dir_fd=self._target)
        twin = os.open(shown, _DIRECTORY, dir_fd=self._target)
        try:
            self._describe(twin, status, self._records(path))
            if is_opaque(path):
                os.setxattr(twin, OPAQUE, b"y")
        finally:
            os.close(twin)
        self._times.append((shown, _mtime(status)))

    def _whiteout(self, shown: bytes, status: os.stat_result) -> None:
        super()._whiteout(shown, status)
        os.mknod(shown, stat.S_IFCHR, dir_fd=self._target)

    def _header(self, shown: bytes, status: os.stat_result, kind: bytes, **more: Any) -> None:
        super()._header(shown, status, kind, **more)
        if kind == tarwriter.HARD_LINK:
            os.link(more["link"], shown, src_dir_fd=self._target, dst_dir_fd=self._target, follow_symlinks=False)
        elif kind == tarwriter.SYMLINK:
            os.symlink(more["link"], shown, dir_fd=self._target)
            self.unpacked += len(more["link"])
            self._own(shown, status)
        elif kind in _TYPES:
            os.mknod(shown, _TYPES[kind], os.makedev(*more["device"]), dir_fd=self._target)
            self._own(shown, status)
            os.chmod(shown, stat.S_IMODE(status.st_mode), dir_fd=self._target)

    def _own(self, shown: bytes, status: os.stat_result) -> None:
        os.chown(shown, status.st_uid, status.st_gid, dir_fd=self._target, follow_symlinks=False)
        os.utime(shown, ns=(_mtime(status), _mtime(status)), dir_fd=self._target, follow_symlinks=False)

    def _describe(self, twin: int, status: os.stat_result, records: dict[bytes, bytes] | None) -> None:
        if status.st_uid or status.st_gid:
            os.fchown(twin, status.st_uid, status.st_gid)
        os.fchmod(twin, stat.S_IMODE(status.st_mode))  # after the owner, whose change clears bits of it
        for name, value in (records or {}).items():
            os.setxattr(twin, name.removeprefix(_XATTR), value)

    def _account(self, twin: int, size: int) -> None:
        self.unpacked += size
        self._unchecked += size
        if self._unchecked > SPACE_CHECK:
            self._unchecked = 0
            check_space(twin)


def _mtime(status: os.stat_result) -> int:
    """ns, of whole seconds, as the tar has it."""
    return status.st_mtime_ns // _SECOND * _SECOND
