"""Connections that live: hijack, half-close, websocket, wait, events, logs."""

import asyncio
import base64
import json
import os
import select
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from compat_engine.api.streams import frame
from compat_engine.engine.containers import attach
from compat_engine.engine.streams import Duplex
from compat_engine.errors import Conflict
from tests.api.conftest import Api

UPGRADE = b"Upgrade: tcp\r\nConnection: Upgrade\r\n"
Script = Callable[[Duplex], Awaitable[None]]


@dataclass
class Session:
    """What attach.open gives, with a script instead of a process."""

    script: Script
    tty: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, duplex: Duplex) -> None:
        try:
            await self.script(duplex)
        finally:
            self.ended.set()


def attach_runs(monkeypatch: pytest.MonkeyPatch, script: Script, tty: bool = False) -> Session:
    session = Session(script, tty)

    async def open(*_: object) -> Session:
        return session

    monkeypatch.setattr(attach, "open", open)
    return session


async def echo(duplex: Duplex) -> None:
    """Says what it heard when its input has ended."""
    heard = b""
    while data := await duplex.read():
        heard += data
    await duplex.write(b"heard " + heard)
    await duplex.close_write()


async def head(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)


def attach_request(version: str = "1.51", extra: bytes = UPGRADE) -> bytes:
    return f"POST /v{version}/containers/c/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\n".encode() + extra + b"\r\n"


async def test_upgrade_and_half_close(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    attach_runs(monkeypatch, echo)
    reader, writer = await api.send(attach_request())
    found = await head(reader)
    assert found.startswith(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n")
    assert b"\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n" in found
    assert b"Api-Version: 1.51" in found
    writer.write(b"some words")
    writer.write_eof()
    assert await reader.read() == b"heard some words"
    writer.close()


@pytest.mark.parametrize(
    ("version", "tty", "kind"), [("1.41", False, b"raw"), ("1.42", False, b"multiplexed"), ("1.51", True, b"raw")]
)
async def test_content_type(api: Api, monkeypatch: pytest.MonkeyPatch, version: str, tty: bool, kind: bytes) -> None:
    attach_runs(monkeypatch, echo, tty)
    reader, writer = await api.send(attach_request(version))
    assert b"Content-Type: application/vnd.docker." + kind + b"-stream\r\n" in await head(reader)
    writer.close()


async def test_without_upgrade(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    attach_runs(monkeypatch, echo)
    reader, writer = await api.send(attach_request(extra=b"Content-Length: 0\r\n"))
    assert (await head(reader)).startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n")
    writer.write(b"in")
    writer.write_eof()
    assert await reader.read() == b"heard in"
    writer.close()


async def test_head_is_read_before_the_first_frame_is_sent(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(duplex: Duplex) -> None:
        await duplex.write(b"frame")

    attach_runs(monkeypatch, talk)
    reader, writer = await api.open()
    raw = writer.get_extra_info("socket")
    writer.write(attach_request())
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await settled(lambda: bool(select.select([raw], [], [], 0)[0]))
    await asyncio.sleep(0.03)  # the frame would come along
    first = os.read(raw.fileno(), 65536)
    assert first.endswith(b"\r\n\r\n"), "head and frame came in one read"
    writer.transport.resume_reading()  # type: ignore[attr-defined]
    assert await reader.read() == b"frame"
    writer.close()


async def test_an_error_after_the_head_is_told_in_band(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(duplex: Duplex) -> None:
        raise Conflict("too late")

    attach_runs(monkeypatch, fail)
    reader, writer = await api.send(attach_request())
    await head(reader)
    assert await reader.read() == frame(1, b"too late\r\n")
    writer.close()


async def test_a_client_that_leaves_ends_the_session(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait_for_client(duplex: Duplex) -> None:
        while True:
            await duplex.write(b"x")
            await asyncio.sleep(0.01)

    session = attach_runs(monkeypatch, wait_for_client)
    reader, writer = await api.send(attach_request())
    await head(reader)
    writer.close()
    await asyncio.wait_for(session.ended.wait(), 60)


async def test_a_slow_client_holds_the_process_back(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0

    async def flood(duplex: Duplex) -> None:
        nonlocal written
        for _ in range(400):
            await duplex.write(bytes(65536))
            written += 65536

    session = attach_runs(monkeypatch, flood)
    reader, writer = await api.send(attach_request())
    await head(reader)
    await asyncio.sleep(0.1)
    assert written < 8 << 20
    assert len(await reader.read()) == 400 * 65536
    assert session.ended.is_set()
    writer.close()


async def test_a_slow_process_holds_the_client_back(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    go = asyncio.Event()

    async def count(duplex: Duplex) -> None:
        await go.wait()
        total = 0
        while data := await duplex.read():
            total += len(data)
        await duplex.write(str(total).encode())

    attach_runs(monkeypatch, count)
    reader, writer = await api.send(attach_request())
    await head(reader)
    writer.write(bytes(16 << 20))
    await asyncio.sleep(0.1)
    assert writer.transport.get_write_buffer_size() > 8 << 20
    go.set()
    writer.write_eof()
    assert await reader.read() == str(16 << 20).encode()
    writer.close()


async def test_exec_start_with_a_body_and_upgrade(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    from compat_engine.engine import execs

    async def open(*_: object) -> Session:
        return Session(echo)

    monkeypatch.setattr(execs, "open", open)
    body = b'{"Detach":false,"Tty":false}'
    request = (
        b"POST /v1.51/exec/x/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        + UPGRADE + b"Content-Length: %d\r\n\r\n" % len(body)
    )  # fmt: skip
    reader, writer = await api.send(request + body)
    assert b"101 UPGRADED" in await head(reader)
    writer.write(b"hello")
    writer.write_eof()
    assert await reader.read() == b"heard hello"
    writer.close()


async def websocket(api: Api, version: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    key = base64.b64encode(os.urandom(16))
    reader, writer = await api.send(
        f"GET /v{version}/containers/c/attach/ws?stream=1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n".encode()
        + b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
    )  # fmt: skip
    assert b"101 Switching Protocols" in await head(reader)
    return reader, writer


@pytest.mark.parametrize(("version", "opcode"), [("1.24", 1), ("1.51", 2)])
async def test_websocket(api: Api, monkeypatch: pytest.MonkeyPatch, version: str, opcode: int) -> None:
    async def answer(duplex: Duplex) -> None:
        heard = await duplex.read()
        await duplex.write(frame(1, b"heard ")[:5])
        await duplex.write(frame(1, b"heard ")[5:] + frame(2, heard))

    attach_runs(monkeypatch, answer)
    reader, writer = await websocket(api, version)
    writer.write(b"\x82\x82\x00\x00\x00\x00hi")
    assert await reader.readexactly(10) == bytes((0x80 | opcode, 8)) + b"heard hi"
    writer.close()


async def test_wait_sends_its_head_at_once(api: Api) -> None:
    container = await api.container("c")
    reader, writer = await api.send(b"POST /v1.51/containers/c/wait?condition=next-exit HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in await head(reader)
    container.state = container.state.to("exited", exit_code=7)
    container.announce_exit()
    assert await reader.readuntil(b"0\r\n\r\n") == b'11\r\n{"StatusCode":7}\n\r\n0\r\n\r\n'
    writer.close()


async def test_a_waiting_client_that_leaves_is_forgotten(api: Api) -> None:
    container = await api.container("c")
    reader, writer = await api.send(b"POST /containers/c/wait?condition=removed HTTP/1.1\r\nHost: x\r\n\r\n")
    await head(reader)
    assert len(container.removal_waiters) == 1
    writer.close()
    await settled(lambda: not container.removal_waiters)


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_old_wait_answers_at_the_end(api: Api) -> None:
    container = await api.container("c")
    container.state = container.state.to("exited", exit_code=3)
    assert (await api.call("POST", "/v1.29/containers/c/wait?condition=removed")).json == {"StatusCode": 3}


async def test_events_live(api: Api) -> None:
    reader, writer = await api.send(b"GET /v1.51/events?filters=%7B%22type%22:%5B%22volume%22%5D%7D HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"Content-Type: application/json\r\n" in await head(reader)
    api.engine.events.publish("container", "start", "x", {"name": "c"})
    api.engine.events.publish("volume", "create", "v", {"driver": "local"})
    line = (await reader.readuntil(b"}\n")).split(b"\r\n", 1)[1]
    assert json.loads(line)["Actor"] == {"ID": "v", "Attributes": {"driver": "local"}}
    writer.close()
    await settled(lambda: api.engine.events.listeners == 0)


async def test_events_of_the_past(api: Api) -> None:
    api.engine.events.publish("container", "start", "x", {"name": "c", "image": "busybox"})
    now = api.engine.events._ring[0]["time"] + 1
    events = await api.call("GET", f"/v1.51/events?since=1&until={now}")
    assert events.json["status"] == "start"
    assert events.json["from"] == "busybox"
    assert "status" not in (await api.call("GET", f"/v1.52/events?since=1&until={now}")).json
    assert (await api.call("GET", "/events?since=1&until=2")).body == b""


async def test_logs(api: Api) -> None:
    container = await api.container("c")
    line = json.dumps({"log": "hello\n", "stream": "stderr", "time": "2026-01-01T00:00:00.5Z"})
    api.engine.tree.log(container.id).write_text(line + "\n")
    answer = await api.call("GET", "/v1.51/containers/c/logs?stdout=1&stderr=1&timestamps=1&tail=all")
    assert answer.body == frame(2, b"2026-01-01T00:00:00.500000000Z hello\n")
    assert answer.headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
    answer = await api.call("GET", "/v1.41/containers/c/logs?stdout=1&stderr=1&tail=x")
    assert answer.headers["Content-Type"] == "application/vnd.docker.raw-stream"
    assert (await api.call("GET", "/containers/c/logs?stdout=1")).body == b""
