"""A container's writable layer as an image's: in one pass its files, copied, and the digest of its tar. Runs in a worker.

Every byte is read once and goes both ways, so digest and directory agree even when the container goes on writing. The tar is not
kept: `root_tar` makes it from the directory again, to the byte, should anybody want it.
"""

import errno
import fcntl
import hashlib
import mmap
import os
import queue
import stat
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from compat_engine.images import tarwriter
from compat_engine.images.codecs import ahead
from compat_engine.images.extract import SPACE_CHECK, check_space, write_all
from compat_engine.images.treewriter import OPAQUE, XATTR, Records, TreeWriter, is_opaque, zeros
from compat_engine.kernel.files import appended

_BUFFER = 1 << 20  # bytes
_DEPTH = 4  # buffers between the thread that reads and the one that stores
_CALLS = 128  # to follow one buffer: what waits holds files open
_CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SECOND = 10**9
_MODE, _SET_ID = 0o7777, 0o6000
_TYPES = {tarwriter.CHAR: stat.S_IFCHR, tarwriter.BLOCK_DEVICE: stat.S_IFBLK, tarwriter.FIFO: stat.S_IFIFO}


class Twin:
    """A file of the directory, `fd`, which it takes over. A large one is for the thread that stores: it goes to the disk past the
    page cache, which saves the memory and is waited for there, where there is time, rather than by the sync at the end. For a
    small one handing it over would take as long as storing it."""

    def __init__(self, fd: int, status: os.stat_result, records: Records) -> None:
        self._fd = fd
        self._status = status
        self._records = records
        self.large = status.st_size >= _BUFFER
        self._direct = self.large and _bypass(fd)

    def write(self, piece: memoryview) -> None:
        if self._direct and len(piece) < _BUFFER:  # full buffers alone are aligned as the disk wants it
            fcntl.fcntl(self._fd, fcntl.F_SETFL, 0)
            self._direct = False
        write_all(self._fd, piece)

    def finish(self) -> None:
        status = self._status
        os.fchown(self._fd, status.st_uid, status.st_gid)  # also for root: a set-group-id directory gives its group
        if status.st_mode & _SET_ID:
            os.fchmod(self._fd, status.st_mode & _MODE)  # after the content and the owner, which clear these bits
        _set_xattrs(self._fd, self._records)
        os.utime(self._fd, ns=(_mtime(status), _mtime(status)))
        os.close(self._fd)


class BlobSink:
    """Into the file `fd`; one thread hashes and one writes while the caller reads on. `twin`: a file where content goes as well.

    Content is read into a few buffers that are used again and again: fresh memory for every piece costs more than the reading.
    """

    def __init__(self, fd: int) -> None:
        self.twin: Twin | None = None
        self.stored = 0
        self._fd = fd
        self._digest = hashlib.sha256()
        self._free: queue.Queue[memoryview] = queue.Queue()
        for _ in range(_DEPTH):
            self._free.put(memoryview(mmap.mmap(-1, _BUFFER)))
        self._waiting: queue.Queue[tuple[memoryview, list[Callable[[], None]]] | None] = queue.Queue()
        self._buffer, self._size = self._free.get(), 0
        self._calls: list[Callable[[], None]] = []
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._store, daemon=True)
        self._thread.start()

    @property
    def digest(self) -> str:
        """Of all, once it is closed."""
        return f"sha256:{self._digest.hexdigest()}"

    def write(self, data: bytes) -> None:
        while data:
            room = self._room(len(data))
            count = len(room)
            room[:] = data[:count]
            self._size += count
            data = data[count:]

    def copy(self, file: int, size: int) -> None:
        if size >= _BUFFER:
            self._hand_over()
        while size and (count := os.readv(file, [room := self._room(size)])):
            self._size += count
            size -= count
            self._copied(room[:count])
        for piece in zeros(size):
            self.write(piece)
            self._copied(memoryview(piece))

    def _copied(self, piece: memoryview) -> None:
        if self.twin is not None and self.twin.large:
            self.later(partial(self.twin.write, piece))
        elif self.twin is not None:
            self.twin.write(piece)

    def later(self, call: Callable[[], None]) -> None:
        """Called by the thread that stores, once what came before is stored."""
        self._calls.append(call)

    def close(self) -> None:
        self._hand_over()
        self._waiting.put(None)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _room(self, size: int) -> memoryview:
        """At most `size` bytes of free buffer, at least one."""
        if self._size == _BUFFER or len(self._calls) >= _CALLS:
            self._hand_over()
        return self._buffer[self._size : self._size + size]

    def _hand_over(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiting.put((self._buffer[: self._size], self._calls))
        self._buffer, self._size, self._calls = self._free.get(), 0, []

    def _store(self) -> None:
        for data, calls in ahead(self._hashed()):
            if self._failure is None:  # after one, somebody still has to hand the buffers back
                try:
                    write_all(self._fd, data)
                    appended(self._fd, self.stored, len(data))
                    self.stored += len(data)
                    for call in calls:
                        call()
                except OSError as failure:
                    self._failure = failure
            self._free.put(memoryview(data.obj))

    def _hashed(self) -> Iterator[tuple[memoryview, list[Callable[[], None]]]]:
        while (item := self._waiting.get()) is not None:
            self._digest.update(item[0])
            yield item


class LayerWriter(TreeWriter):
    """Members into `blob`, and each of them as a file below the directory `target`, as unpacking that blob would make it. With
    umask 0."""

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

    def _content(self, shown: bytes, fd: int, status: os.stat_result, records: Records) -> None:
        file = os.open(shown, _CREATE, status.st_mode & ~_SET_ID & _MODE, dir_fd=self._target)
        self._blob.twin = twin = Twin(file, status, records)
        super()._content(shown, fd, status, records)
        if twin.large:
            self._blob.later(twin.finish)
        else:
            twin.finish()
        self._account(status.st_size)

    def _directory(self, path: bytes, shown: bytes, status: os.stat_result, records: Records) -> None:
        super()._directory(path, shown, status, records)
        os.mkdir(shown, 0o700, dir_fd=self._target)
        twin = os.open(shown, _DIRECTORY, dir_fd=self._target)
        try:
            os.fchown(twin, status.st_uid, status.st_gid)
            os.fchmod(twin, status.st_mode & _MODE)  # after the owner, whose change clears bits of it
            _set_xattrs(twin, records)
            if is_opaque(path):
                os.setxattr(twin, OPAQUE, b"y")
        finally:
            os.close(twin)
        self._times.append((shown, _mtime(status)))

    def _whiteout(self, shown: bytes, status: os.stat_result) -> None:
        super()._whiteout(shown, status)
        os.mknod(shown, stat.S_IFCHR, dir_fd=self._target)
        os.utime(shown, ns=(_mtime(status), _mtime(status)), dir_fd=self._target, follow_symlinks=False)

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

    def _account(self, size: int) -> None:
        self.unpacked += size
        self._unchecked += size
        if self._unchecked > SPACE_CHECK:
            self._unchecked = 0
            check_space(self._target)


def _bypass(fd: int) -> bool:
    """Whether what is written to `fd` from now on goes past the page cache: not every filesystem can."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def _set_xattrs(twin: int, records: Records) -> None:
    for name, value in records.items():
        os.setxattr(twin, name.removeprefix(XATTR), value)


def _mtime(status: os.stat_result) -> int:
    """ns, of whole seconds, as the tar has it."""
    return status.st_mtime_ns // _SECOND * _SECOND
