"""POST /containers/{id}/wait: conditions, early headers, exit codes."""

from __future__ import annotations

import json
import time
from typing import Any

from ..assertions import equal, expect, refused, status
from ..client import Stream
from ..engine import Engine
from ..registry import check

WAIT = "POST /containers/{id}/wait"
NONE = {"NetworkMode": "none"}


def waiting(engine: Engine, container: str, **query: Any) -> Stream:
    """An open wait whose headers have come; raises ProtocolError when they do not come at once."""
    stream = engine.client.open("POST", f"/containers/{container}/wait", query, timeout=30)
    equal(stream.status, 200, "status")
    stream.settimeout(engine.client.timeout)
    return stream


def result(stream: Stream) -> int:
    body = json.loads(stream.read_all())
    return int(body["StatusCode"])


@check(WAIT)
def exit_code(engine: Engine) -> None:
    container = engine.run("sh", "-c", "exit 12", host=NONE)
    answer = status(engine.client.post(f"/containers/{container}/wait"), 200)
    equal(answer.json(), {"StatusCode": 12}, "answer")
    equal(answer.headers["content-type"], "application/json", "content-type")


@check(WAIT)
def killed_by_a_signal(engine: Engine) -> None:
    container = engine.run("sh", "-c", "kill -9 $$; sleep 1", host={"Init": True, **NONE})
    equal(engine.wait(container), 137, "exit code")


@check(WAIT)
def already_stopped(engine: Engine) -> None:
    container = engine.finish("sh", "-c", "exit 2").id
    equal(engine.wait(container), 2, "exit code")


@check(WAIT, since="1.30")
def headers_come_at_once(engine: Engine) -> None:
    container = engine.run_light()
    with waiting(engine, container, condition="not-running") as stream:
        equal(stream.headers.get("transfer-encoding"), "chunked", "transfer-encoding")
        engine.kill(container)
        equal(result(stream), 137, "exit code")


@check(WAIT, since="1.30")
def not_running_of_a_created_container(engine: Engine) -> None:
    equal(engine.wait(engine.create(), condition="not-running"), 0, "exit code")


@check(WAIT, since="1.30")
def next_exit_before_start(engine: Engine) -> None:
    container = engine.create("sh", "-c", "exit 5", host=NONE)
    with waiting(engine, container, condition="next-exit") as stream:
        engine.start(container)
        equal(result(stream), 5, "exit code")


@check(WAIT, since="1.30")
def next_exit_of_a_stopped_container_waits(engine: Engine) -> None:
    container = engine.finish("sh", "-c", "exit 5").id
    with waiting(engine, container, condition="next-exit") as stream:
        engine.start(container)
        equal(result(stream), 5, "exit code")


@check(WAIT, since="1.30")
def removed(engine: Engine) -> None:
    container = engine.create("sh", "-c", "exit 6", host={"AutoRemove": True, **NONE})
    with waiting(engine, container, condition="removed") as stream:
        engine.start(container)
        equal(result(stream), 6, "exit code")
    status(engine.client.get(f"/containers/{container}/json"), 404)


@check(WAIT, since="1.30")
def removed_waits_for_the_removal(engine: Engine) -> None:
    container = engine.run("true", host=NONE)
    with waiting(engine, container, condition="removed") as stream:
        time.sleep(0.3)
        status(engine.client.delete(f"/containers/{container}", {"force": 1}), 204)
        equal(result(stream), 0, "exit code")


@check(WAIT, since="1.42")
def unknown_condition(engine: Engine) -> None:
    refused(engine.client.post(f"/containers/{engine.create()}/wait", {"condition": "bogus"}), 400, 'invalid condition: "bogus"')


@check(WAIT, since="1.30")
def many_wait_for_one(engine: Engine) -> None:
    container = engine.run_light()
    streams = [waiting(engine, container) for _ in range(5)]
    engine.kill(container)
    equal([result(stream) for stream in streams], [137] * 5, "exit codes")
    for stream in streams:
        stream.close()


@check(WAIT)
def state_is_final_when_it_answers(engine: Engine) -> None:
    container = engine.run("sh", "-c", "sleep 0.1; exit 3", host=NONE)
    engine.wait(container)
    state = engine.state(container)
    expect(not state["Running"] and state["ExitCode"] == 3, f"State: {state}")


@check(WAIT, since="1.30")
def client_that_goes_away(engine: Engine) -> None:
    container = engine.shared
    waiting(engine, container).close()
    expect(engine.state(container)["Running"], "it runs on")
