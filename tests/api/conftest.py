"""A real aiohttp server on a unix socket; the engine behind it has real events, records and logs, and nothing that runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from compat_engine.api.app import make_dispatcher, make_runner
from compat_engine.config import Config
from compat_engine.engine.events import Events
from compat_engine.engine.execs import Execs
from compat_engine.engine.records import ContainerRecord
from compat_engine.engine.registry import Container, Registry
from compat_engine.engine.standby import Standby
from compat_engine.errors import NotFound
from compat_engine.store.records import Records
from compat_engine.store.tree import Tree
from compat_engine.wire.container import Config as ContainerConfig
from compat_engine.wire.container import HostConfig


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["message"])


@dataclass(frozen=True)
class Api:
    """A client that speaks HTTP by hand, so that tests see and send exactly what travels."""

    engine: Any
    socket: str
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self.socket)
        self.writers.append(writer)
        return reader, writer

    async def send(self, text: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.open()
        writer.write(text)
        return reader, writer

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if body is not None:
            headers.setdefault("Content_Type", "application/json")
        lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value]
        reader, writer = await self.send("\r\n".join((*lines, "", "")).encode() + data)
        try:
            return parse(await asyncio.wait_for(reader.read(), 60))
        finally:
            writer.close()

    async def container(self, name: str = "c", **config: Any) -> Container:
        """One that was created and never started."""
        record = ContainerRecord(
            id="ab" * 32, name=name, created="2026-01-01T00:00:00Z", config=ContainerConfig(Image="busybox", **config),
            host_config=HostConfig.parse({"LogConfig": {"Type": "json-file"}}), image="sha256:" + "cd" * 32, endpoints={}, args=("sh",),
        )  # fmt: skip
        registry: Registry = self.engine.containers
        with registry.reserve(name, record.id):
            found = await registry.add(record, lambda: None)
        self.engine.tree.container(record.id).mkdir(parents=True, exist_ok=True)
        return found


def parse(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    if headers.get("Transfer-Encoding") == "chunked":
        body = unchunk(body)
    return Answer(int(lines[0].split(" ")[1]), headers, body)


def unchunk(body: bytes) -> bytes:
    found = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        found, body = found + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return found


def no_image(word: str) -> None:
    raise NotFound(f"No such image: {word}")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    tree = Tree(tmp_path / "data", tmp_path / "exec")
    tree.data.mkdir()
    records = Records(tree.database)
    events = Events()
    engine = SimpleNamespace(
        config=Config(data_root=tree.data), tree=tree, records=records, events=events, containers=Registry(records),
        execs=Execs(events), standby=Standby(), cgroups=SimpleNamespace(version=1, has=lambda file, parent: True),
        images=SimpleNamespace(all=list, find=no_image), networks=SimpleNamespace(endpoints=lambda id: {}),
    )  # fmt: skip
    dispatcher = make_dispatcher(engine)  # type: ignore[arg-type]
    runner = make_runner(dispatcher)
    await runner.setup()
    socket = str(tmp_path / "api.sock")
    await web.UnixSite(runner, socket).start()
    found = Api(engine, socket)
    yield found
    for writer in found.writers:
        writer.close()
    await runner.cleanup()
    await dispatcher.settle()
    records.close()
