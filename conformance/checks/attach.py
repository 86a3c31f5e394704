"""POST /containers/{id}/attach: hijacking, framing, replay, stdin and half-close."""

from __future__ import annotations

import time
from typing import Any

from .. import frames
from ..assertions import contains, equal, expect, status
from ..client import Stream
from ..engine import Engine
from ..registry import check

ATTACH = "POST /containers/{id}/attach"
WS = "GET /containers/{id}/attach/ws"
NONE = {"NetworkMode": "none"}
RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
DIES_WITH_INPUT: dict[str, Any] = {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True}


def upgraded(stream: Stream, content_type: str) -> None:
    equal((stream.status, stream.reason), (101, "UPGRADED"), "status line")
    equal(stream.headers.get("content-type"), content_type, "content-type")
    equal(stream.headers.get("connection"), "Upgrade", "connection")
    equal(stream.headers.get("upgrade"), "tcp", "upgrade")


@check(ATTACH, since="1.42")
def upgrade_without_a_terminal(engine: Engine) -> None:
    with engine.attach(engine.create()) as stream:
        upgraded(stream, MULTIPLEXED)


@check(ATTACH, until="1.41")
def upgrade_without_a_terminal_before_1_42(engine: Engine) -> None:
    with engine.attach(engine.create()) as stream:
        upgraded(stream, RAW)


@check(ATTACH)
def upgrade_with_a_terminal(engine: Engine) -> None:
    with engine.attach(engine.create(Tty=True)) as stream:
        upgraded(stream, RAW)


@check(ATTACH)
def without_upgrade(engine: Engine) -> None:
    query = {"stream": 1, "stdout": 1, "stderr": 1}
    with engine.client.open("POST", f"/containers/{engine.create()}/attach", query) as stream:
        equal(stream.status, 200, "status")
        contains((RAW, MULTIPLEXED), stream.headers.get("content-type"), "content-type")


@check(ATTACH)
def before_start(engine: Engine) -> None:
    container = engine.create("sh", "-c", "echo out; echo err >&2", host=NONE)
    with engine.attach(container) as stream:
        engine.start(container)
        seen = stream.read_all()
    equal(frames.join(seen, frames.STDOUT), b"out\n", "stdout")
    equal(frames.join(seen, frames.STDERR), b"err\n", "stderr")


@check(ATTACH)
def two_clients_see_the_same(engine: Engine) -> None:
    container = engine.create("echo", "hello", host=NONE)
    with engine.attach(container) as one, engine.attach(container) as other:
        engine.start(container)
        equal(frames.join(one.read_all()), b"hello\n", "first client")
        equal(frames.join(other.read_all()), b"hello\n", "second client")


@check(ATTACH)
def only_the_streams_asked_for(engine: Engine) -> None:
    container = engine.create("sh", "-c", "echo out; echo err >&2", host=NONE)
    with engine.attach(container, stdout=0) as stream:
        engine.start(container)
        equal(frames.decode(stream.read_all()), [(frames.STDERR, b"err\n")], "frames")


@check(ATTACH)
def terminal_output_is_raw(engine: Engine) -> None:
    container = engine.create("echo", "hello", Tty=True, host=NONE)
    with engine.attach(container) as stream:
        engine.start(container)
        equal(stream.read_all(), b"hello\r\n", "output")


@check(ATTACH)
def output_arrives_as_it_is_written(engine: Engine) -> None:
    container = engine.create("sh", "-c", "echo first; sleep 1000", host=NONE)
    with engine.attach(container) as stream:
        engine.start(container)
        frames.read_payload_until(stream, b"first\n")
        expect(engine.state(container)["Running"], "the first line comes before the process ends")


@check(ATTACH)
def large_output_is_complete(engine: Engine) -> None:
    container = engine.create("sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x", host=NONE)
    with engine.attach(container) as stream:
        engine.start(container)
        seen = frames.join(stream.read_all(), frames.STDOUT)
    equal((len(seen), seen.strip(b"x")), (3_000_000, b""), "length and rest")


@check(ATTACH)
def logs_are_replayed(engine: Engine) -> None:
    container = engine.finish("sh", "-c", "echo one; echo two >&2").id
    with engine.attach(container, logs=1, stream=0) as stream:
        seen = stream.read_all()
    equal((frames.join(seen, 1), frames.join(seen, 2)), (b"one\n", b"two\n"), "replayed output")


@check(ATTACH)
def logs_then_stream(engine: Engine) -> None:
    container = engine.run("sh", "-c", "echo early; until test -e /go; do sleep 0.05; done; echo late", host=NONE)
    engine.until_logged(container, "early")
    with engine.attach(container, logs=1) as stream:
        frames.read_payload_until(stream, b"early\n")
        engine.touch(container, "/go")
        equal(frames.join(stream.read_all()), b"late\n", "output")


# stdin


@check(ATTACH)
def stdin_reaches_the_process(engine: Engine) -> None:
    container = engine.create("head", "-n1", OpenStdin=True, host=NONE)
    with engine.attach(container, stdin=1) as stream:
        engine.start(container)
        stream.write(b"ping\nmore\n")
        equal(frames.join(stream.read_all()), b"ping\n", "echo")


@check(ATTACH)
def half_close_ends_stdin_and_output_goes_on(engine: Engine) -> None:
    container = engine.create("sh", "-c", "cat; sleep 0.5; echo done", host=NONE, **DIES_WITH_INPUT)
    with engine.attach(container, stdin=1) as stream:
        engine.start(container)
        stream.write(b"input\n")
        stream.half_close()
        equal(frames.join(stream.read_all()), b"input\ndone\n", "output after the half-close")
    equal(engine.wait(container), 0, "exit code")


@check(ATTACH)
def half_close_before_start_does_no_harm(engine: Engine) -> None:
    container = engine.create("echo", "hello", host=NONE)
    with engine.attach(container) as stream:
        stream.half_close()
        engine.start(container)
        equal(frames.join(stream.read_all()), b"hello\n", "output")


@check(ATTACH)
def stdin_sent_before_start(engine: Engine) -> None:
    container = engine.create("cat", host=NONE, **DIES_WITH_INPUT)
    with engine.attach(container, stdin=1) as stream:
        stream.write(b"early\n")
        stream.half_close()
        engine.start(container)
        equal(frames.join(stream.read_all()), b"early\n", "echo")


@check(ATTACH)
def stdin_stays_open_without_stdin_once(engine: Engine) -> None:
    container = engine.create("cat", OpenStdin=True, host=NONE)
    with engine.attach(container, stdin=1) as stream:
        engine.start(container)
        stream.write(b"one\n")
        frames.read_payload_until(stream, b"one\n")
    with engine.attach(container, stdin=1) as stream:
        stream.write(b"two\n")
        frames.read_payload_until(stream, b"two\n")
    expect(engine.state(container)["Running"], "cat still runs")


@check(ATTACH)
def binary_input_is_untouched(engine: Engine) -> None:
    data = bytes(range(256)) * 400
    container = engine.create("cat", host=NONE, **DIES_WITH_INPUT)
    with engine.attach(container, stdin=1) as stream:
        engine.start(container)
        stream.write(data)
        stream.half_close()
        expect(frames.join(stream.read_all(), frames.STDOUT) == data, "the bytes come back as they were")


@check(ATTACH)
def terminal_session(engine: Engine) -> None:
    container = engine.create("sh", Tty=True, OpenStdin=True, host=NONE)
    with engine.attach(container, stdin=1) as stream:
        engine.start(container)
        stream.write(b"echo $((6*7)); tty\n")
        contains(stream.read_until(b"/dev/"), b"42\r\n", "output")
        stream.write(b"exit 3\n")
        stream.read_all()
    equal(engine.wait(container), 3, "exit code")


@check(ATTACH)
def detach_keys(engine: Engine) -> None:
    container = engine.create("cat", Tty=True, OpenStdin=True, host=NONE)
    with engine.attach(container, stdin=1) as stream:
        engine.start(container)
        stream.write(b"\x10\x11")
        stream.read_all()
    expect(engine.state(container)["Running"], "it runs on after ctrl-p ctrl-q")


@check(ATTACH)
def detach_keys_of_ones_own(engine: Engine) -> None:
    container = engine.create("cat", Tty=True, OpenStdin=True, host=NONE)
    with engine.attach(container, stdin=1, detachKeys="ctrl-x,y") as stream:
        engine.start(container)
        stream.write(b"\x18y")
        stream.read_all()
    expect(engine.state(container)["Running"], "it runs on")


# refusals and clients that go


@check(ATTACH)
def client_that_goes_away(engine: Engine) -> None:
    container = engine.run("sh", "-c", "while :; do echo x; done", host=NONE)
    engine.attach(container).close()
    time.sleep(0.1)
    expect(engine.state(container)["Running"], "the process does not notice")


@check(ATTACH)
def missing_container(engine: Engine) -> None:
    answer = status(engine.client.post("/containers/no-such/attach", {"stream": 1}), 404)
    contains(answer.body, b"No such container: no-such", "body")


@check(ATTACH)
def paused_container(engine: Engine) -> None:
    container = engine.run_light()
    status(engine.client.post(f"/containers/{container}/pause"), 204)
    answer = status(engine.client.post(f"/containers/{container}/attach", {"stream": 1, "stdout": 1}), 409)
    contains(answer.body, b"is paused, unpause the container before attach", "body")


@check(ATTACH)
def bad_detach_keys(engine: Engine) -> None:
    query = {"stream": 1, "detachKeys": "foo,bar"}
    answer = status(engine.client.post(f"/containers/{engine.shared}/attach", query), 400)
    contains(answer.body, b"Invalid detach keys (foo,bar) provided", "body")


@check(WS)
def websocket_handshake(engine: Engine) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Origin": "http://docker"}
    headers["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    container = engine.run_light()
    query = {"stream": 1, "stdout": 1}
    with engine.client.open("GET", f"/containers/{container}/attach/ws", query, headers=headers) as stream:
        equal(stream.status, 101, "status")
        equal(stream.headers.get("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "sec-websocket-accept")


@check(WS, since="1.42")
def websocket_output(engine: Engine) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Origin": "http://docker"}
    headers["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    container = engine.create("echo", "hello", host=NONE)
    query = {"stream": 1, "stdout": 1}
    with engine.client.open("GET", f"/containers/{container}/attach/ws", query, headers=headers) as stream:
        engine.start(container)
        equal(stream.read_until(b"hello\n")[:1], b"\x82", "a binary message, not multiplexed")


@check(WS)
def websocket_without_handshake(engine: Engine) -> None:
    status(engine.client.get(f"/containers/{engine.shared}/attach/ws"), 400)
