"""The worker's jobs on containers' filesystems: look, copy out, copy in, export, compare, and a writable layer as an image's."""

import errno
import json
import os
import posixpath
import stat
import time
from typing import Any

from compat_engine.images import difference, view
from compat_engine.images.codecs import BadArchive, Input, content
from compat_engine.images.copyin import CopyIn, owner_of
from compat_engine.images.extract import write_all
from compat_engine.images.layerwriter import BlobSink, LayerWriter
from compat_engine.images.ring import FDS, Receiver
from compat_engine.images.tarreader import Source, TarReader
from compat_engine.images.treewriter import PipeSink, TreeWriter

# Go's os.FileMode: what is beyond the permission bits, by type and by bit.
_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_BITS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


def root_stat(fds: list[int], arguments: dict[str, Any], reply: Any) -> dict[str, Any]:
    """{stat} of `path`, as the header X-Docker-Container-Path-Stat has it."""
    view.enter(arguments["view"], fds)
    return {"stat": _describe(absolute(arguments["path"]))[0]}


def root_read(fds: list[int], arguments: dict[str, Any], reply: Any) -> dict[str, Any]:
    """Writes into the pipe fds[0] a line with the stat of `path`, then its tar, packed as `encoding` says."""
    view.enter(arguments["view"], fds[1:])
    path = absolute(arguments["path"])
    described, status = _describe(path)
    directory, base = (path, "") if stat.S_ISDIR(status.st_mode) else os.path.split(path)
    os.chdir(directory)
    write_all(fds[0], memoryview(json.dumps(described).encode() + b"\n"))
    writer = TreeWriter(PipeSink(fds[0], arguments["encoding"]))
    name = os.fsencode("" if described["name"] == "/" else described["name"])
    if base:
        writer.member(os.fsencode(base), name, status)
    else:
        writer.member(b".", name, status)
        writer.tree(b"", name + b"/")
    writer.end()
    return {}


def root_write(fds: list[int], arguments: dict[str, Any], reply: Any) -> dict[str, Any]:
    """Unpacks the archive from the ring into the directory `path`."""
    view.enter(arguments["view"], fds[FDS:])
    destination = _destination(arguments["path"])
    _check_writable(destination, arguments["volumes"], arguments["readonly"])
    owner = owner_of(arguments["user"]) if arguments["user"] else None
    os.chdir(destination)
    copy = CopyIn(os.fsencode(posixpath.normpath(destination)), arguments["keep_kind"], owner)
    copy.run(TarReader(Source(content(Input(Receiver(fds[:FDS]))))))
    return {}


def root_export(fds: list[int], arguments: dict[str, Any], reply: Any) -> dict[str, Any]:
    """Writes all files into the pipe fds[0]."""
    view.enter(arguments["view"], fds[1:])
    os.chdir("/")
    writer = TreeWriter(PipeSink(fds[0]))
    writer.tree(b"", b"")
    writer.end()
    return {}


def root_diff(fds: list[int], arguments: dict[str, Any], reply: Any) -> dict[str, Any]:
    """{changes: [path, kind]} that `upper` makes to the merged `lowers`."""
    return {"changes": difference.changes(arguments["upper"], arguments["lowers"])}


def root_commit(fds: list[int], arguments: dict[str, Any], reply: Any) -> dict[str, Any]:
    """Copies the layer `upper` is over the merged `lowers` into the directory fds[0]: {digest, size, unpacked}, of its tar and of
    the files."""
    skip = difference.furniture(arguments["upper"], arguments["lowers"])
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    view.confine(arguments["upper"])
    os.umask(0)
    blob = BlobSink(nowhere)
    writer = LayerWriter(blob, fds[0], frozenset(map(os.fsencode, skip)))
    writer.tree(b"", b"")
    writer.end()
    return {"digest": blob.digest, "size": blob.stored, "unpacked": writer.unpacked}


def root_tar(fds: list[int], arguments: dict[str, Any], reply: Any) -> dict[str, Any]:
    """Writes the layer in the directory `layer` as a tar into the file fds[0]: {digest}. The one `root_commit` told of, if that
    made the directory."""
    view.confine(arguments["layer"])
    blob = BlobSink(fds[0])
    writer = TreeWriter(blob, layer=True)
    writer.tree(b"", b"")
    writer.end()
    return {"digest": blob.digest}


JOBS = {job.__name__: job for job in (root_stat, root_read, root_write, root_export, root_diff, root_commit, root_tar)}


def absolute(path: str, clean: str = "") -> str:
    """A client's path from the root, or `clean` in its place, with the `/.` or `/` at its end kept: they say "what is in it"."""
    clean = clean or posixpath.normpath("/" + path.lstrip("/"))
    dot = posixpath.basename(path.rstrip("/")) == "."
    if dot or path.endswith("/"):
        clean = clean if clean.endswith("/") else clean + "/"
    if dot:
        clean += "."
    return clean + "/" if dot and path.endswith("/") else clean


def file_mode(mode: int) -> int:
    """st_mode as Go's os.FileMode."""
    bits = sum(go for unix, go in _BITS.items() if mode & unix)
    return mode & 0o777 | bits | _TYPES.get(stat.S_IFMT(mode), 0)


def _describe(path: str) -> tuple[dict[str, Any], os.stat_result]:
    status = _lstat(path)
    target = os.path.realpath(path) if stat.S_ISLNK(status.st_mode) else ""
    described = {
        "name": posixpath.basename(path.rstrip("/")) or "/",
        "size": status.st_size,
        "mode": file_mode(status.st_mode),
        "mtime": _rfc3339(status.st_mtime_ns),
        "linkTarget": target,
    }
    return described, status


def _lstat(path: str) -> os.stat_result:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadArchive(f"lstat {path}: {_reason(error)}") from error
    except ValueError:
        raise BadArchive("invalid path: it holds a zero byte") from None


def _destination(path: str) -> str:
    try:
        real = os.path.realpath(absolute(path).rstrip("/") or "/", strict=True)
    except FileNotFoundError:
        raise
    except OSError as error:
        reason = "too many links" if error.errno == errno.ELOOP else _reason(error)
        raise BadArchive(f"lstat {error.filename}: {reason}") from error
    real = absolute(path, "/" + real.lstrip("/"))
    if not stat.S_ISDIR(_lstat(real).st_mode):
        raise BadArchive("extraction point is not a directory")
    return real


def _check_writable(path: str, volumes: list[tuple[str, bool]], readonly: bool) -> None:
    within = [(len(point), writable) for point, writable in volumes if f"{path}/".startswith(f"{point.rstrip('/')}/")]
    if not within and readonly:
        raise BadArchive("container rootfs is marked read-only")
    if within and not max(within)[1]:
        raise BadArchive("mounted volume is marked read-only")


def _rfc3339(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    at = time.gmtime(seconds)  # not strftime: it would read the container's /etc/localtime
    date, clock = f"{at.tm_year:04}-{at.tm_mon:02}-{at.tm_mday:02}", f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    return f"{date}T{clock}{fraction}Z"


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO).lower()
