"""Unpacks a layer's tar into the current directory, as overlayfs wants it.

Runs in a worker chrooted into the directory it fills, with umask 0: whatever links a tar makes, nothing it writes is outside.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from compat_engine.images.tarreader import BadTar, Entry, TarReader
from compat_engine.kernel.files import appended
from compat_engine.store.removal import remove_tree

_CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_WHITEOUT, _OPAQUE, _AUFS = b".wh.", b".wh..wh..opq", b".wh..wh."
_OVERLAY = (b"trusted.overlay.", b"user.overlay.")  # what overlayfs believes: never taken from a tar
_ENTRY_LIMIT = 20_000_000
SPACE_CHECK = 64 << 20  # bytes written between looks at the free space
_RESERVE = 64 << 20  # bytes left free
IMPLIED = "implied"  # beside the directory that was filled: paths of directories no entry described, each ended by a zero byte
_ID_LIMIT = (1 << 32) - 1
_REMEMBERED = 10_000  # directories
_NO_NAMES = (b"", b".", b"..")
_NODES = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}
_TIME_LIMIT = 1 << 63  # ns; as for Docker, which takes what is beyond for no time at all


@dataclass(slots=True)
class Unpacked:
    """size: bytes of all that is no directory. implied: directories no entry described, made for what is in them."""

    size: int = 0
    implied: set[bytes] = field(default_factory=set)


class Extractor:
    """One layer: `run` once. Raises BadTar for what no layer may hold, OSError for what the filesystem refuses."""

    layer = True  # names that begin with .wh. are whiteouts

    def __init__(self, progress: Callable[[int], None] = lambda written: None) -> None:
        self._progress = progress
        self._result = Unpacked()
        self._times: dict[bytes, int] = {}  # directories' mtimes, set when nothing more is put into them
        self._whiteouts: set[bytes] = set()
        self._places: dict[bytes, bytes] = {}  # directory as entries name it -> what its entries' paths begin with
        self._made = os.geteuid(), os.getegid()  # whose a new file is
        self._groups: dict[bytes, bool] = {}  # directory -> its group is another, until one is replaced or described anew
        self._unchecked = 0
        self._types: dict[bytes, Callable[[bytes, Entry, TarReader], None]] = {
            b"0": self._file,
            b"1": self._hard_link,
            b"2": self._symlink,
            b"3": self._node,
            b"4": self._node,
            b"5": self._directory,
            b"6": self._node,
        }

    def run(self, reader: TarReader) -> Unpacked:
        for count, entry in enumerate(reader):
            if count > _ENTRY_LIMIT:
                raise BadTar("too many entries in archive")
            path = self.admit(entry)
            if self.layer and _WHITEOUT in path and (base := path.rpartition(b"/")[2]).startswith(_WHITEOUT):
                self._whiteout(path, base, entry)
            elif path:
                self._types[entry.type](path, entry, reader)
            else:
                self.root(entry)
        for path, mtime in self._times.items():
            if is_directory(path):  # a later entry may have replaced it
                _set_time(path, mtime)
        self._result.implied = {path for path in self._result.implied if is_directory(path)}
        return self._result

    def admit(self, entry: Entry) -> bytes:
        """Where the entry goes, b"" for the root. Raises BadTar when it may go nowhere."""
        directory, _, base = entry.name.rpartition(b"/")
        parent = self._places.get(directory)
        if parent is None:
            place = self.place(directory)
            if place is not None:
                if len(self._places) > _REMEMBERED:
                    self._places.clear()
                parent = self._places[directory] = place + b"/" if place else b""
        if parent is None or base in _NO_NAMES or b"\0" in base:
            whole = self.place(entry.name)
            if whole is None:
                raise self.outside(entry.name)
            return whole
        return parent + base

    def place(self, name: bytes) -> bytes | None:
        """`name` relative to the root, without `.`, `..`, doubled slashes; b"" is the root, None what is above it.

        Raises BadTar when it is no name.
        """
        parts: list[bytes] = []
        for part in name.split(b"/"):
            if part == b"..":
                if not parts:
                    return None
                parts.pop()
            elif part and part != b".":
                parts.append(part)
        if b"\0" in name:
            raise BadTar("archive/tar: invalid tar header")
        return b"/".join(parts)

    def outside(self, name: bytes) -> BadTar:
        """What is said of a name that `place` knows none for."""
        return BadTar(f"{os.fsdecode(name)!r} is outside of the archive's root")

    def root(self, entry: Entry) -> None:
        """An entry for the root itself."""
        if entry.type != b"5":
            raise BadTar("the root of an archive must be a directory")
        self._describe(b".", entry)

    def link_target(self, entry: Entry) -> bytes:
        """What a hard link names. Raises BadTar when that is outside."""
        target = self.place(entry.link)
        if target is None:
            raise self.outside(entry.link)
        return target

    def _file(self, path: bytes, entry: Entry, reader: TarReader) -> None:
        try:  # as a rule there is room for it: most entries are files, and a call more for each would show
            fd = os.open(path, _CREATE, entry.mode)
        except (FileNotFoundError, NotADirectoryError, FileExistsError):
            fd = self._make(path, lambda: os.open(path, _CREATE, entry.mode))
        try:
            self._fill(fd, entry, reader)
            if (owner := _owner(entry)) != self._made or self._gives_group(path.rpartition(b"/")[0]):
                os.fchown(fd, *owner)
            if entry.mode & 0o7000:
                os.fchmod(fd, entry.mode)  # chown clears these bits
            for name, value in entry.xattrs.items():
                _set_xattr(fd, name, value, entry)
            mtime = _time(entry)
            os.utime(fd, ns=(mtime, mtime))
        finally:
            os.close(fd)
        self._result.size += entry.size

    def _gives_group(self, directory: bytes) -> bool:
        """Whether a file made in the directory may be of another group than ours: a set-group-id directory gives its own."""
        known = self._groups.get(directory)
        if known is None:
            known = self._groups[directory] = os.stat(directory or b".").st_gid != self._made[1]
        return known

    def _fill(self, fd: int, entry: Entry, reader: TarReader) -> None:
        if entry.extents is not None:
            _fill_sparse(fd, entry, reader)
        else:
            done = 0
            for piece in reader.data():
                write_all(fd, piece)
                appended(fd, done, len(piece))
                done += len(piece)
        self._unchecked += entry.size
        if self._unchecked > SPACE_CHECK:
            check_space(fd)
            self._progress(self._unchecked)
            self._unchecked = 0

    def _directory(self, path: bytes, entry: Entry, reader: TarReader) -> None:
        with contextlib.suppress(FileExistsError):
            self._make(path, lambda: os.mkdir(path, entry.mode), keep_directory=True)
        if path in self._whiteouts:
            os.setxattr(path, "trusted.overlay.opaque", b"y", follow_symlinks=False)
        self._result.implied.discard(path)
        self._describe(path, entry)

    def _describe(self, path: bytes, entry: Entry) -> None:
        self._groups.clear()
        os.chown(path, *_owner(entry), follow_symlinks=False)
        os.chmod(path, entry.mode)
        for name, value in entry.xattrs.items():
            _set_xattr(path, name, value, entry)
        self._times[path] = _time(entry)

    def _hard_link(self, path: bytes, entry: Entry, reader: TarReader) -> None:
        target = self.link_target(entry)
        if target != path:
            self._make(path, lambda: os.link(target, path, follow_symlinks=False), source=target)
            _describe_link(path, entry)

    def _symlink(self, path: bytes, entry: Entry, reader: TarReader) -> None:
        self._make(path, lambda: os.symlink(entry.link, path))
        self._result.size += len(entry.link)
        self._finish(path, entry)

    def _node(self, path: bytes, entry: Entry, reader: TarReader) -> None:
        device = _device(entry)
        self._make(path, lambda: os.mknod(path, _NODES[entry.type] | entry.mode, device))
        self._finish(path, entry)
        if entry.mode & 0o7000:
            os.chmod(path, entry.mode)

    def _finish(self, path: bytes, entry: Entry) -> None:
        os.chown(path, *_owner(entry), follow_symlinks=False)
        for name, value in entry.xattrs.items():
            _set_xattr(path, name, value, entry)
        _set_time(path, _time(entry))

    def _whiteout(self, path: bytes, base: bytes, entry: Entry) -> None:
        parent = path[: -len(base)].rstrip(b"/")
        if base == _OPAQUE:
            if parent and not is_directory(parent):
                self._parents(path)
            os.setxattr(parent or b".", "trusted.overlay.opaque", b"y", follow_symlinks=False)
            return
        hidden = base[len(_WHITEOUT) :]
        if base.startswith(_AUFS):
            return  # bookkeeping of aufs, means nothing to others
        if hidden in (b"", b".", b".."):
            raise BadTar(f"invalid whiteout {os.fsdecode(path)!r}")
        target = parent + b"/" + hidden if parent else hidden
        self._whiteouts.add(target)
        try:
            self._make(target, lambda: os.mknod(target, stat.S_IFCHR, 0), keep=True)
            _set_time(target, _time(entry))
        except FileExistsError:  # a whiteout hides what is below this layer, never what the layer itself brings
            if is_directory(target):
                os.setxattr(target, "trusted.overlay.opaque", b"y", follow_symlinks=False)

    def _make(
        self,
        path: bytes,
        call: Callable[[], int | None],
        *,
        keep: bool = False,
        keep_directory: bool = False,
        source: bytes = b"",
    ) -> int:
        """`call`, which makes `path`, after making room for it: missing parents are made, what is there already is replaced."""
        for _ in range(3):
            try:
                return call() or 0
            except (FileNotFoundError, NotADirectoryError):
                if source and not os.path.lexists(source):
                    raise
                self._parents(path)
            except FileExistsError:
                if keep or (keep_directory and is_directory(path)):
                    raise
                self._clear(path)
        return call() or 0

    def _parents(self, path: bytes) -> None:
        at = path.find(b"/")
        while at > 0:
            try:
                os.mkdir(path[:at], 0o755)
                self._result.implied.add(path[:at])
                if path[:at] in self._whiteouts:
                    os.setxattr(path[:at], "trusted.overlay.opaque", b"y", follow_symlinks=False)
            except FileExistsError:
                if path[:at] in self._whiteouts and not is_directory(path[:at]):
                    self._clear(path[:at])
                    continue
            at = path.find(b"/", at + 1)

    def _clear(self, path: bytes) -> None:
        self._groups.clear()
        if is_directory(path):
            remove_tree(path)
        else:
            os.unlink(path)


def enter(directory: int) -> int:
    """Makes the directory this process's root, with umask 0; returns the directory it is in, opened."""
    around = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    os.fchdir(directory)
    os.chroot(".")
    os.umask(0)
    return around


def note(around: int, implied: set[bytes]) -> bool:
    """Writes the file IMPLIED if it has something to say."""
    if implied:
        fd = os.open(IMPLIED, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=around)
        with open(fd, "wb") as file:
            file.writelines(path + b"\0" for path in sorted(implied))
    return bool(implied)


def _fill_sparse(fd: int, entry: Entry, reader: TarReader) -> None:
    os.ftruncate(fd, entry.size)
    extents = iter(entry.extents or ())
    offset = left = 0
    for piece in reader.data():
        while piece:
            while not left:
                offset, left = next(extents)
            count = os.pwrite(fd, piece[:left], offset)
            offset, left, piece = offset + count, left - count, piece[count:]


def write_all(fd: int, piece: memoryview) -> None:
    while (written := os.write(fd, piece)) < len(piece):
        piece = piece[written:]


def _owner(entry: Entry) -> tuple[int, int]:
    if not (0 <= entry.uid < _ID_LIMIT and 0 <= entry.gid < _ID_LIMIT):
        raise BadTar("archive/tar: owner out of range")
    return entry.uid, entry.gid


def _device(entry: Entry) -> int:
    if not (0 <= entry.major < 1 << 12 and 0 <= entry.minor < 1 << 20):
        raise BadTar("archive/tar: device number out of range")
    return os.makedev(entry.major, entry.minor)


def _time(entry: Entry) -> int:
    return entry.mtime_ns if -_TIME_LIMIT < entry.mtime_ns < _TIME_LIMIT else 0


def _describe_link(path: bytes, entry: Entry) -> None:
    """A link's entry may describe the file anew. What is the same is left alone: a chown would drop the file's capabilities."""
    status = os.lstat(path)
    if (status.st_uid, status.st_gid) != _owner(entry):
        os.chown(path, *_owner(entry), follow_symlinks=False)
        status = os.lstat(path)
    if not stat.S_ISLNK(status.st_mode) and stat.S_IMODE(status.st_mode) != entry.mode:
        os.chmod(path, entry.mode)
    if status.st_mtime_ns != _time(entry):
        _set_time(path, _time(entry))


def _set_time(path: bytes, mtime: int) -> None:
    os.utime(path, ns=(mtime, mtime), follow_symlinks=False)


def _set_xattr(target: int | bytes, name: bytes, value: bytes, entry: Entry) -> None:
    if name.startswith(_OVERLAY):
        return
    try:
        if isinstance(target, int):
            os.setxattr(target, name, value)
        else:
            os.setxattr(target, name, value, follow_symlinks=False)
    except ValueError:
        raise BadTar("archive/tar: invalid extended attribute") from None
    except OSError as error:
        # The host's filesystem or security module may not know the attribute; user.* is only for files and directories.
        user_on_special = error.errno == errno.EPERM and name.startswith(b"user.") and entry.type not in (b"0", b"5")
        if error.errno != errno.ENOTSUP and not user_on_special:
            raise


def is_directory(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False


def check_space(fd: int) -> None:
    """Raises OSError (ENOSPC) when less than the reserve is free where the file `fd` is."""
    room = os.fstatvfs(fd)
    if room.f_bavail * room.f_frsize < _RESERVE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
