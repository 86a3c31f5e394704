"""Containers' filesystems as streams: the daemon's side of `rootjobs`. Bytes pass the event loop, files never do."""

import asyncio
import contextlib
import fcntl
import json
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compat_engine.errors import Internal, InvalidParameter
from compat_engine.images.intake import inflow
from compat_engine.images.workers import Workers
from compat_engine.shim.spec import Mount, Overlay

_PIPE = 1 << 20  # bytes
_PIECE = 1 << 18  # bytes; more than a socket takes at once would be copied to wait for it


@dataclass(frozen=True, slots=True)
class View:
    """How to see a container's files: of a running one through the mount namespace of process `pid`, less the mounts on `hide`
    (bare: less all but the root's own); else (pid 0) by mounting its overlay, with `mounts` (binds) on it. writable: what is
    written stays; directories: made when missing, in one that does not run."""

    overlay: Overlay
    pid: int = 0
    hide: tuple[str, ...] = ()
    bare: bool = False
    mounts: tuple[Mount, ...] = ()
    directories: tuple[str, ...] = ()
    writable: bool = False

    def plain(self, point: Path) -> dict[str, Any]:
        """For a worker, which mounts on the directory `point`."""
        if self.pid:
            return {"running": True, "hide": self.hide, "bare": self.bare}
        mounts = [asdict(mount) for mount in self.mounts]
        mounted = {"overlay": asdict(self.overlay), "mounts": mounts, "directories": self.directories, "point": str(point)}
        return {"running": False, "writable": self.writable, **mounted}


@dataclass(frozen=True, slots=True)
class Rules:
    """Of an upload. keep_kind: a directory is replaced by directories only, and replaces nothing else. user: whose everything
    becomes, "" for the archive's own owners. volumes: (mount point, whether it may be written); readonly: the rest may not."""

    keep_kind: bool = False
    user: str = ""
    volumes: tuple[tuple[str, bool], ...] = ()
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class Download:
    """stat: as in Docker's header. tar: the archive in pieces; to be read to its end or closed."""

    stat: dict[str, Any]
    tar: AsyncIterator[bytes]


class Roots:
    """Every method raises FileNotFoundError for a path that is not there, ProcessLookupError when the container just ended,
    and Internal, in Docker's words, for everything else. `point`: a directory to mount on, in namespaces of the workers' own."""

    def __init__(self, workers: Workers, point: Path) -> None:
        self._workers = workers
        self._point = point

    async def stat(self, view: View, path: str) -> dict[str, Any]:
        with _namespace(view) as fds, _errors():
            answer = await self._workers.run("root_stat", fds, view=view.plain(self._point), path=path)
        found: dict[str, Any] = answer["stat"]
        return found

    async def read(self, view: View, path: str, encoding: str = "") -> Download:
        """encoding: "", "gzip" or "deflate"."""
        pieces = self._stream("root_read", view, path=path, encoding=encoding)
        head = b""
        try:
            while b"\n" not in head:
                head += await anext(pieces)
        except StopAsyncIteration:
            raise Internal("the copy ended before it began") from None
        line, _, rest = head.partition(b"\n")
        return Download(json.loads(line), _with(rest, pieces))

    async def write(self, view: View, path: str, body: AsyncIterator[bytes], rules: Rules) -> None:
        """Unpacks `body`, a tar however compressed, into the directory `path`."""
        with _namespace(view) as fds, _errors():
            await inflow(self._workers, "root_write", body, *fds, view=view.plain(self._point), path=path, **asdict(rules))

    def export(self, view: View) -> AsyncIterator[bytes]:
        return self._stream("root_export", view)

    async def changes(self, overlay: Overlay) -> list[tuple[str, int]]:
        """Absolute path and kind: 0 modified, 1 added, 2 deleted."""
        with _errors():
            answer = await self._workers.run("root_diff", [], upper=overlay.upper, lowers=overlay.lower)
        return [(path, kind) for path, kind in answer["changes"]]

    async def _stream(self, job: str, view: View, **arguments: Any) -> AsyncIterator[bytes]:
        with _errors(), _namespace(view) as fds:
            async for piece in outflow(self._workers, job, fds, view=view.plain(self._point), **arguments):
                yield piece


async def outflow(workers: Workers, job: str, fds: Sequence[int], **arguments: Any) -> AsyncIterator[bytes]:
    """What `job` writes into the pipe it gets as its first descriptor. Raises what `run` does; closing this ends the job."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # past the user's limit for pipes: a smaller one does as well
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE)
    os.set_blocking(reading, False)
    task = asyncio.ensure_future(workers.run(job, [writing, *fds], **arguments))
    task.add_done_callback(lambda done: os.close(writing))  # the last writer gone, reading ends
    try:
        while piece := await _read(reading):
            yield piece
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        os.close(reading)


async def _read(fd: int) -> bytes:
    loop = asyncio.get_running_loop()
    while True:
        try:
            return os.read(fd, _PIECE)
        except BlockingIOError:
            ready: asyncio.Future[None] = loop.create_future()
            loop.add_reader(fd, _resolve, ready)
            try:
                await ready
            finally:
                loop.remove_reader(fd)


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(rest):  # type: ignore[type-var]
        if first:
            yield first
        async for piece in rest:
            yield piece


def _resolve(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


@contextlib.contextmanager
def _namespace(view: View) -> Any:
    """The descriptors a job needs of the view."""
    if not view.pid:
        yield []
        return
    try:
        fd = os.open(f"/proc/{view.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ProcessLookupError(view.pid) from None
    try:
        if os.path.samestat(os.fstat(fd), os.stat("/proc/self/ns/mnt")):
            raise ProcessLookupError(view.pid)  # the number belongs to a process of the host by now
        yield [fd]
    finally:
        os.close(fd)


@contextlib.contextmanager
def _errors() -> Any:
    try:
        yield
    except (FileNotFoundError, ProcessLookupError):
        raise
    except InvalidParameter as error:
        raise Internal(str(error)) from error  # dockerd answers all of these with 500
    except OSError as error:
        raise Internal(error.strerror or str(error)) from error
