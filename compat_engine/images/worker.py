"""The process that does the heavy work on bytes, a child a job. Started by `workers.Workers` as an interpreter of its own.

Requests arrive on a SEQPACKET socket, each one JSON object with descriptors; each forks one child:

    daemon                                        worker
    {"id", "job", "arguments"} + [reply, *fds] -> forks; the child runs JOBS[job]
                                               <- on `reply`: {"progress": bytes} lines, then {"done": ...} or {"failed": ...}
    {"kill": id}                               -> SIGKILL for that child
    end of file                                -> SIGKILL for all, exit

Single-threaded until the fork, so the children start clean; a child dies with the worker, and the worker with the daemon.
"""

import errno
import gc
import hashlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from compat_engine.images.codecs import BadArchive, Input, Piece, ahead, chunks, codec_of, content
from compat_engine.images.extract import IMPLIED, Extractor, enter, note, write_all
from compat_engine.images.merged import Merged, copy_tree
from compat_engine.images.ring import FDS, Receiver
from compat_engine.images.rootjobs import JOBS as ROOT_JOBS
from compat_engine.images.tarreader import Source, TarReader
from compat_engine.images.transit import compress, fetch
from compat_engine.kernel.files import appended
from compat_engine.kernel.libc import check, libc

_MESSAGE = 1 << 20
_MAX_FDS = 16
_MEMBERS = 100_000  # of an image archive
_NAMES = 16 << 20  # bytes of their names together
_PR_SET_PDEATHSIG = 1
Reply = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an image archive, spooled to `file` (a name in the spool directory, "" for a link to `link`)."""

    name: str
    file: str
    size: int = 0
    digest: str = ""
    link: str = ""


def spool(fds: list[int], arguments: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """Splits the archive from the ring into files of the directory fds[FDS], hashing each."""
    members: list[dict[str, Any]] = []
    named = 0
    reader = TarReader(Source(content(Input(Receiver(fds[:FDS])))))
    for number, entry in enumerate(reader):
        named += len(entry.name) + len(entry.link)
        if number > _MEMBERS or named > _NAMES:
            raise BadArchive("too many entries in archive")
        name = os.fsdecode(entry.name)
        if entry.type == b"0":
            members.append(asdict(_store(reader, name, str(number), fds[FDS])))
        elif entry.type in (b"1", b"2"):
            link = os.fsdecode(entry.link)
            members.append(asdict(Member(name, "", link=link if entry.type == b"2" else f"/{link}")))
    return {"members": members}


def receive(fds: list[int], arguments: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """Stores the bytes from the ring in the file fds[FDS] as they come: {digest, size, codec}."""
    digest, size = hashlib.sha256(), 0
    source = Input(Receiver(fds[:FDS]))
    codec = codec_of(source.peek(8))
    for chunk in source.views():
        digest.update(chunk)
        write_all(fds[FDS], memoryview(chunk))
        size += len(chunk)
    return {"digest": f"sha256:{digest.hexdigest()}", "size": size, "codec": codec}


def extract(fds: list[int], arguments: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """Unpacks the layer blob fds[0] into the directory fds[1]: {diff_id, size, implied}.

    arguments: digest, of the blob, which an uncompressed layer's diff id is without hashing it again.
    """
    source = Input(fds[0])
    plain = not codec_of(source.peek(8))
    digest = hashlib.sha256()
    stream = chunks(source) if plain and arguments.get("digest") else _hashed(chunks(source), digest)
    around = enter(fds[1])
    unpacked = Extractor(lambda written: reply({"progress": source.consumed})).run(TarReader(Source(ahead(stream))))
    diff_id = arguments["digest"] if plain and arguments.get("digest") else f"sha256:{digest.hexdigest()}"
    return {"diff_id": diff_id, "size": unpacked.size, "implied": note(around, unpacked.implied)}


def inherit(fds: list[int], arguments: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """Gives the implied directories of the layer fds[0] the owner and mode they have in the layers `lowers` below it."""
    around = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fds[0])
    with open(os.open(IMPLIED, os.O_RDONLY | os.O_CLOEXEC, dir_fd=around), "rb") as file:
        paths = os.fsdecode(file.read()).split("\0")[:-1]
    with Merged(arguments["lowers"]) as below, Merged([f"/proc/self/fd/{fds[0]}/."]) as layer:
        for path in paths:
            with below.itself(path) as lower:
                if not lower:  # as most often: nothing to open in the layer
                    continue
                with layer.itself(path) as own:
                    if own:
                        status = os.fstat(lower[0])
                        os.fchown(own[0], status.st_uid, status.st_gid)
                        os.fchmod(own[0], status.st_mode & 0o7777)
    os.unlink(IMPLIED, dir_fd=around)
    return {}


def copy_up(fds: list[int], arguments: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """Copies the directory `path` of the merged `lowers` into the directory fds[0]: {found}."""
    os.umask(0)
    return {"found": copy_tree(arguments["lowers"], arguments["path"], fds[0])}


JOBS = {job.__name__: job for job in (spool, receive, extract, inherit, copy_up, fetch, compress)} | ROOT_JOBS


def main(fd: int) -> None:
    """Serves the requests on socket `fd` until the daemon's end closes."""
    gc.collect()
    gc.freeze()
    gc.disable()  # a child ends with its job: it would only look at garbage, and copy the pages it is on
    _Server(socket.socket(fileno=fd)).serve()


class _Server:
    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._poll = select.poll()
        self._poll.register(requests, select.POLLIN)
        self._children: dict[int, tuple[int, int]] = {}  # pidfd -> (job id, pid)

    def serve(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                if fd != self._requests.fileno():
                    self._reap(fd)
                elif not self._request():
                    self._kill(None)
                    return

    def _request(self) -> bool:
        message, fds, _, _ = socket.recv_fds(self._requests, _MESSAGE, _MAX_FDS)
        if not message:
            return False
        request = json.loads(message)
        if "kill" in request:
            self._kill(request["kill"])
            return True
        try:
            self._start(request, fds)
        except OSError as error:  # no process left: this job fails, the next may not
            print(f"image worker: fork: {error}", file=sys.stderr)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _start(self, request: dict[str, Any], fds: list[int]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                check(libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
                if os.getppid() == parent:
                    self._requests.close()
                    _run(request, socket.socket(fileno=fds[0]), fds[1:])
            finally:
                os._exit(0)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (request["id"], pid)
        self._poll.register(pidfd, select.POLLIN)

    def _kill(self, job: int | None) -> None:
        for pidfd, (id, _) in self._children.items():
            if job in (None, id):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def _reap(self, pidfd: int) -> None:
        self._poll.unregister(pidfd)
        os.waitpid(self._children.pop(pidfd)[1], 0)
        os.close(pidfd)


def _run(request: dict[str, Any], socket_: socket.socket, fds: list[int]) -> None:
    def reply(message: dict[str, Any]) -> None:
        socket_.sendall(json.dumps(message).encode() + b"\n")

    try:
        reply({"done": JOBS[request["job"]](fds, request["arguments"], reply)})
    except BadArchive as error:
        reply({"failed": {"kind": "archive", "text": str(error)}})
    except OSError as error:
        reply({"failed": {"kind": "system", "errno": error.errno or errno.EIO, "text": _text(error)}})
    except BaseException as error:
        traceback.print_exc()
        reply({"failed": {"kind": "bug", "text": repr(error)}})


def _text(error: OSError) -> str:
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    reason = os.strerror(error.errno or errno.EIO).lower()
    return f"{' '.join(names)}: {reason}" if names else reason


def _store(reader: TarReader, name: str, file: str, directory: int) -> Member:
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    digest, size = hashlib.sha256(), 0
    try:
        for piece in reader.data():
            write_all(fd, piece)
            appended(fd, size, len(piece))
            digest.update(piece)
            size += len(piece)
    finally:
        os.close(fd)
    return Member(name, file, size, f"sha256:{digest.hexdigest()}")


def _hashed(source: Iterator[Piece], digest: Any) -> Iterator[Piece]:
    for chunk in source:
        digest.update(chunk)
        yield chunk
