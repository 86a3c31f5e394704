"""What a check works with: requests to the engine, things it makes there, and their removal afterwards."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from . import frames
from .assertions import nanoseconds, status
from .client import Client, Response, Stream

FOREVER = ("sleep", "1000")
_serial = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Setup:
    """What all checks of a run share."""

    image: str
    image_id: str
    prefix: str
    publish_address: str
    registry_address: str
    busybox: str
    shared: str
    allow_unsupported: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """A container that ran to its end."""

    id: str
    code: int
    stdout: str
    stderr: str


@dataclass(slots=True)
class Engine:
    """The engine as one check sees it. All it makes is removed by ``clean_up``, newest first."""

    client: Client
    setup: Setup
    _made: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def version(self) -> tuple[int, int]:
        major, _, minor = self.client.version.partition(".")
        return int(major), int(minor)

    @property
    def image(self) -> str:
        return self.setup.image

    @property
    def shared(self) -> str:
        """A running container without a network for all checks; they may look at it and run commands in it, no more."""
        return self.setup.shared

    def name(self) -> str:
        """A name nothing else on the engine has."""
        return f"{self.setup.prefix}-{next(_serial)}"

    def remove_later(self, path: str, **query: Any) -> None:
        self._made.append((path, query))

    def clean_up(self) -> list[str]:
        """Remove what was made; returns complaints about what could not be removed."""
        complaints = []
        while self._made:
            path, query = self._made.pop()
            response = self.client.delete(path, query)
            if response.status not in (200, 204, 404) and "already in progress" not in response.message:
                complaints.append(f"DELETE {path}: {response.status} {response.message}")
        return complaints

    # containers

    def post_create(self, body: Any, name: str | None = None, **query: Any) -> Response:
        """POST /containers/create as it is; a container it makes is removed later."""
        if name is not None:
            query["name"] = name
        response = self.client.post("/containers/create", query, body=body)
        if response.status == 201:
            self.remove_later(f"/containers/{response.json()['Id']}", force=1, v=1)
        return response

    def create(self, *command: str, name: str | None = None, host: dict[str, Any] | None = None, **config: Any) -> str:
        """A created container's id. ``host`` is HostConfig, the other keywords are the config's fields."""
        body = {"Image": self.image, "Cmd": list(command or FOREVER), "HostConfig": host or {}, **config}
        response = self.post_create({k: v for k, v in body.items() if v is not None}, name or self.name())
        return str(status(response, 201).json()["Id"])

    def start(self, container: str) -> None:
        status(self.client.post(f"/containers/{container}/start"), 204)

    def run(self, *command: str, name: str | None = None, host: dict[str, Any] | None = None, **config: Any) -> str:
        """A started container's id."""
        container = self.create(*command, name=name, host=host, **config)
        self.start(container)
        return container

    def run_light(self, *command: str, **config: Any) -> str:
        """As ``run``, without a network: for checks that need any running container."""
        return self.run(*command, host={"NetworkMode": "none", **config.pop("host", {})}, **config)

    def finish(self, *command: str, host: dict[str, Any] | None = None, **config: Any) -> Finished:
        """Run a command to its end and collect its output."""
        container = self.run(*command, host={"NetworkMode": "none", **(host or {})}, **config)
        raw = status(self.logs(container, follow=1), 200).body
        output = [raw, b""] if config.get("Tty") else [frames.join(raw, 1), frames.join(raw, 2)]
        return Finished(container, self.wait(container), *(part.decode(errors="replace") for part in output))

    def inside(self, script: str, host: dict[str, Any] | None = None, **config: Any) -> str:
        """What a shell script prints in a new container; the script must succeed."""
        done = self.finish("sh", "-c", script, host=host, **config)
        if done.code:
            raise AssertionError(f"`{script}` ended with {done.code}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def inspect(self, container: str) -> Any:
        return status(self.client.get(f"/containers/{container}/json"), 200).json()

    def state(self, container: str) -> Any:
        return self.inspect(container)["State"]

    def wait(self, container: str, **query: Any) -> int:
        return int(status(self.client.post(f"/containers/{container}/wait", query), 200).json()["StatusCode"])

    def stop(self, container: str) -> None:
        status(self.client.post(f"/containers/{container}/stop", {"t": 0}), 204, 304)

    def kill(self, container: str, signal: str = "KILL") -> None:
        status(self.client.post(f"/containers/{container}/kill", {"signal": signal}), 204)

    def logs(self, container: str, **query: Any) -> Response:
        return self.client.get(f"/containers/{container}/logs", {"stdout": 1, "stderr": 1, **query})

    def until_logged(self, container: str, text: str) -> None:
        """Wait for a line of output, so that the process is known to have got there."""
        self.client.eventually(lambda: text.encode() in self.logs(container).body)

    def touch(self, container: str, path: str) -> None:
        """Make a file in a running container: the signal for a script that waits for it."""
        output, code = self.exec_output(container, "touch", path)
        if code:
            raise AssertionError(f"cannot make {path}: {output}")

    def rows(self, **query: Any) -> list[Any]:
        """GET /containers/json."""
        return list(status(self.client.get("/containers/json", query), 200).json())

    def listed(self, filters: Any, among: Sequence[str]) -> set[str]:
        """Which of these containers the list with these filters (and ``all``) shows."""
        return {row["Id"] for row in self.rows(all=1, filters=filters)} & set(among)

    # exec

    def exec_create(self, container: str, *command: str, **config: Any) -> str:
        body = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True, **config}
        response = self.client.post(f"/containers/{container}/exec", body=body)
        return str(status(response, 201).json()["Id"])

    def exec_start(self, exec_id: str, **config: Any) -> Stream:
        return self.client.hijack(f"/exec/{exec_id}/start", body={"Detach": False, "Tty": False, **config})

    def exec_output(self, container: str, *command: str, **config: Any) -> tuple[str, int]:
        """Both streams' output and the exit code of a command run inside."""
        exec_id = self.exec_create(container, *command, **config)
        with self.exec_start(exec_id) as stream:
            output = frames.join(stream.read_all()).decode()
        return output, self.exec_inspect(exec_id)["ExitCode"]

    def exec_inspect(self, exec_id: str) -> Any:
        return status(self.client.get(f"/exec/{exec_id}/json"), 200).json()

    # others

    def attach(self, container: str, **query: Any) -> Stream:
        defaults = {"stream": 1, "stdout": 1, "stderr": 1}
        return self.client.hijack(f"/containers/{container}/attach", {**defaults, **query})

    def volume(self, **config: Any) -> Any:
        """A new volume, as the engine describes it."""
        response = self.client.post("/volumes/create", body={"Name": self.name(), **config})
        volume = status(response, 201).json()
        self.remove_later(f"/volumes/{volume['Name']}", force=1)
        return volume

    def tag(self, tag: str = "1", source: str = "") -> str:
        """A new reference to the suite's image (or to ``source``)."""
        repository = self.name()
        status(self.client.post(f"/images/{source or self.image}/tag", {"repo": repository, "tag": tag}), 201)
        self.remove_later(f"/images/{repository}:{tag}", force=1)
        return f"{repository}:{tag}"

    def load(self, archive: bytes) -> list[str]:
        """Load an archive; the names or ids the engine says it loaded, which are removed later."""
        headers = {"Content-Type": "application/x-tar"}
        response = status(self.client.post("/images/load", {"quiet": 1}, body=archive, headers=headers), 200)
        loaded = re.findall(r"Loaded image(?: ID)?: (\S+)", "".join(m.get("stream", "") for m in response.json_lines()))
        for reference in loaded:
            self.remove_later(f"/images/{reference}", force=1)
        return loaded

    def prune(self, kind: str, filters: Any) -> Response:
        """POST /KIND/prune, again while another client's prune is running."""

        def attempt() -> Response | None:
            response = self.client.post(f"/{kind}/prune", {"filters": filters})
            return None if "already running" in response.message else response

        response: Response = self.client.eventually(attempt)
        return response

    def events(self, since: str, **query: Any) -> list[Any]:
        """The events from ``since`` until now."""
        query = {"since": since, "until": self.now(), **query}
        return status(self.client.get("/events", query), 200).json_lines()

    def now(self) -> str:
        """The engine's own time as ``seconds.nanoseconds``, for since and until."""

        moment = nanoseconds(status(self.client.get("/info"), 200).json()["SystemTime"])
        return f"{moment // 10**9}.{moment % 10**9:09}"
