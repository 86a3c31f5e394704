"""An engine as the benchmarks see it: the docker CLI on it, raw requests to its socket, the processes it consists of."""

import asyncio
import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from benchmarks.fixtures import Fixtures

MARK = "compat-bench"
_PIECE = 1 << 20  # bytes


class CommandFailed(Exception):
    """A docker command or an API request did not do what the case needs."""


@dataclass(frozen=True)
class Options:
    containers: int  # in the `ps` case
    burst: int  # containers made by `clients` clients at once
    clients: int
    log_bytes: int
    log_lines: int
    idle: int  # containers of the `idle-memory` case


@dataclass
class Peer:
    """One engine: the docker CLI on it, raw requests to its socket, and the processes it consists of."""

    name: str
    host: str
    options: Options
    fixtures: Fixtures
    kept: dict[str, str] = field(default_factory=dict)  # what a case's set-up left for its rounds

    @property
    def path(self) -> str:
        return self.host.removeprefix("unix://")

    def docker(self, *args: str, output: bool = True) -> str:
        stdout = subprocess.PIPE if output else subprocess.DEVNULL
        environment = {**os.environ, "DOCKER_HOST": self.host}
        nothing, errors = subprocess.DEVNULL, subprocess.PIPE
        done = subprocess.run(["docker", *args], stdin=nothing, stdout=stdout, stderr=errors, env=environment)
        if done.returncode:
            raise CommandFailed(f"{self.name}: docker {' '.join(args)}: {done.stderr.decode().strip()}")
        return done.stdout.decode().strip() if output else ""

    def seconds(self, *args: str) -> float:
        """Wall time of one docker command whose output goes nowhere."""
        began = time.perf_counter()
        self.docker(*args, output=False)
        return time.perf_counter() - began

    def run(self, *args: str) -> str:
        return self.docker("run", "--label", MARK, *args)

    async def request(self, method: str, path: str, body: object = None) -> bytes:
        """One request on a connection of its own; raises CommandFailed for any status from 400 on."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        payload = b"" if body is None else json.dumps(body).encode()
        head = f"{method} /v1.41{path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload)
        answer = await reader.read()
        writer.close()
        if int(answer.split(b" ", 2)[1]) >= 400:
            raise CommandFailed(f"{self.name}: {method} {path}: {answer[-300:]!r}")
        return answer

    def upload(self, path: str, file: Path) -> float:
        """Seconds of a PUT with the file as its body."""
        with file.open("rb") as body:
            return self._exchange("PUT", path, body)

    def download(self, path: str) -> float:
        """Seconds of a GET whose answer is read to its end."""
        return self._exchange("GET", path, None)

    def _exchange(self, method: str, path: str, body: BinaryIO | None) -> float:
        size = os.fstat(body.fileno()).st_size if body else 0
        head = f"{method} /v1.41{path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.path)
            began = time.perf_counter()
            connection.sendall(head.encode())
            if body:
                connection.sendfile(body)
            answer, buffer = b"", bytearray(_PIECE)
            while count := connection.recv_into(buffer):
                answer = answer or bytes(buffer[:count])
            took = time.perf_counter() - began
        if int(answer.split(b" ", 2)[1]) >= 400:
            raise CommandFailed(f"{self.name}: {method} {path}: {answer[-300:]!r}")
        return took

    async def many(self, jobs: Sequence[list[tuple[str, str, object]]]) -> None:
        """Each job is requests in order; `clients` jobs run at once."""
        waiting = iter(jobs)

        async def client() -> None:
            for job in waiting:
                for method, path, body in job:
                    await self.request(method, path, body)

        await asyncio.gather(*(client() for _ in range(self.options.clients)))

    def make(self, count: int, start: bool, command: Sequence[str] = ("sleep", "6000")) -> float:
        """Create (and start) containers named compat-bench-N; returns the seconds it took."""
        body = {"Image": "busybox", "Cmd": list(command), "Labels": {MARK: ""}}
        jobs: list[list[tuple[str, str, object]]] = []
        for number in range(count):
            job: list[tuple[str, str, object]] = [("POST", f"/containers/create?name={MARK}-{number}", body)]
            jobs.append([*job, ("POST", f"/containers/{MARK}-{number}/start", None)] if start else job)
        began = time.perf_counter()
        asyncio.run(self.many(jobs))
        return time.perf_counter() - began

    def halt(self) -> None:
        """Ends the containers of the cases, without removing anything."""
        if ids := self.docker("ps", "-q", "--filter", f"label={MARK}").split():
            self.docker("kill", *ids)

    def clean(self) -> None:
        ids = self.docker("ps", "-aq", "--no-trunc", "--filter", f"label={MARK}").split()
        asyncio.run(self.many([[("DELETE", f"/containers/{id}?force=1&v=1", None)] for id in ids]))

        if images := self.docker("images", "-q", "--no-trunc", "--filter", f"label={MARK}").split():
            self.docker("rmi", "-f", *dict.fromkeys(images))

    def ping(self) -> None:
        asyncio.run(self.request("GET", "/_ping"))

    def daemon_pids(self) -> list[int]:
        """The process that listens on the socket and its descendants, as long as no container runs."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(self.path)
            pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return [pid, *_descendants(pid)]

    def supervisors(self) -> set[int]:
        """Parents of the first process of each container of the bench."""
        ids = self.docker("ps", "-q", "--filter", f"label={MARK}").split()
        pids = self.docker("inspect", "-f", "{{.State.Pid}}", *ids).split()
        return {_parent(int(pid)) for pid in pids}


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def _descendants(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task").glob("*/children"):
        for word in child.read_text().split():
            yield int(word)
            yield from _descendants(int(word))


def memory(pid: int, *fields: str) -> float:
    """MB of these fields of /proc/PID/smaps_rollup together."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return sum(int(line.split()[1]) for line in lines if line.split(":")[0] in fields) / 1024
