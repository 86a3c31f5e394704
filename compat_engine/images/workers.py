"""The daemon's side of `worker`: jobs by name, awaited, cancelled by killing the child that runs them."""

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from compat_engine.errors import Internal, InvalidParameter

# The interpreter reads no environment and no site files: its path is the daemon's own.
_START = (
    "import sys; sys.path[:] = sys.argv[1].split('\\n'); from compat_engine.images import worker; worker.main(int(sys.argv[2]))"
)
IDLE_SECONDS = 10.0  # how long the worker process waits for another job: it is 12 MB, and there again in a tenth of a second
Progress = Callable[[int], None]


class Workers:
    """Starts the worker process with a job when there is none, and lets it go when it has had nothing to do for a while. `close`
    ends it and every job."""

    def __init__(self) -> None:
        self._requests: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ids = itertools.count(1)
        self._slots = asyncio.Semaphore(os.cpu_count() or 1)
        self._jobs = 0
        self._retirement: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Future[int] | None = None

    async def run(self, job: str, fds: Sequence[int], progress: Progress | None = None, **arguments: Any) -> dict[str, Any]:
        """The answer of worker.JOBS[job]. Takes no descriptor over.

        Raises InvalidParameter for a bad archive, OSError for what the system refused, Internal when the child died. Cancelling
        kills the child; the call returns when it is gone, so what it was filling may be removed.
        """
        id = next(self._ids)
        ours, theirs = socket.socketpair()
        with self._at_work(), ours:
            ours.setblocking(False)
            with theirs:
                await self._send({"id": id, "job": job, "arguments": arguments}, [theirs.fileno(), *fds])
            try:
                answer = await _answer(ours, progress)
            except BaseException:
                await asyncio.shield(self._kill(id, ours))
                raise
        return _result(job, answer)

    @contextlib.asynccontextmanager
    async def slot(self) -> Any:
        """Held by a job that keeps a CPU busy: no more of them at once than there are CPUs."""
        async with self._slots:
            yield

    async def close(self) -> None:
        if self._retirement is not None:
            self._retirement.cancel()
        self._retire()
        if self._leaving is not None:
            await self._leaving

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        self._jobs += 1
        if self._retirement is not None:
            self._retirement.cancel()
            self._retirement = None
        try:
            yield
        finally:
            self._jobs -= 1
            if self._jobs == 0:
                self._retirement = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._retire)

    def _retire(self) -> None:
        """It leaves by itself at the end of its requests."""
        if self._requests is not None and self._process is not None:
            self._requests.close()
            self._requests = None
            self._leaving = asyncio.get_running_loop().run_in_executor(None, self._process.wait)

    async def _send(self, request: dict[str, Any], fds: Sequence[int]) -> None:
        message = json.dumps(request).encode()
        for attempt in (1, 2):
            if self._requests is None:
                self._start()
            assert self._requests is not None
            try:
                socket.send_fds(self._requests, [message], fds)
                return
            except (BrokenPipeError, ConnectionResetError):
                self._retire()
                if attempt == 2:
                    raise Internal("the image worker does not start") from None

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            path = "\n".join(os.path.abspath(entry) for entry in sys.path)
            fd = theirs.fileno()
            command = [sys.executable, "-I", "-S", "-c", _START, path, str(fd)]
            self._process = subprocess.Popen(command, pass_fds=[fd], stdin=subprocess.DEVNULL, start_new_session=True)
        self._requests = ours

    async def _kill(self, id: int, reply: socket.socket) -> None:
        if self._requests is not None:
            with contextlib.suppress(OSError):
                socket.send_fds(self._requests, [json.dumps({"kill": id}).encode()], [])
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while await loop.sock_recv(reply, 1 << 16):
                pass


async def _answer(reply: socket.socket, progress: Progress | None) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    pieces: list[bytes] = []  # of a line that has not ended: some are long
    last: dict[str, Any] = {}
    while data := await loop.sock_recv(reply, 1 << 18):
        pieces.append(data)
        if b"\n" not in data:
            continue
        *lines, rest = b"".join(pieces).split(b"\n")
        pieces = [rest]
        for line in lines:
            last = json.loads(line)
            if "progress" in last and progress is not None:
                progress(last["progress"])
    return last


def _result(job: str, answer: dict[str, Any]) -> dict[str, Any]:
    if "done" in answer:
        done: dict[str, Any] = answer["done"]
        return done
    failed = answer.get("failed")
    if failed is None:
        raise Internal(f"the worker for {job} died")
    if failed["kind"] == "archive":
        raise InvalidParameter(failed["text"])
    if failed["kind"] == "system":
        raise OSError(failed["errno"], failed["text"])
    raise Internal(f"{job}: {failed['text']}")
