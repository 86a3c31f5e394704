"""GET /events: the stream, its limits, its filters, and what each operation emits."""

from __future__ import annotations

import threading
import time
from typing import Any

from ..assertions import contains, equal, expect, has_fields, refused, status
from ..client import decode_json_stream
from ..engine import Engine
from ..registry import check

EVENTS = "GET /events"
NONE = {"NetworkMode": "none"}


def actions(engine: Engine, since: str, container: str) -> list[str]:
    """The actions of a container's own events, in order."""
    found = engine.events(since, filters={"container": [container], "type": ["container"]})
    return [event["Action"] for event in found]


def expect_actions(engine: Engine, since: str, container: str, expected: list[str]) -> None:
    """The container's events are these; they may come a moment after the answer that tells of their cause."""
    deadline = time.monotonic() + 60
    while (found := actions(engine, since, container)) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    equal([action.strip() for action in found], expected, "actions")


def expect_events(engine: Engine, since: str, filters: Any, expected: list[tuple[str, str]]) -> None:
    """The events under these filters are of these actors and actions."""

    def seen() -> list[tuple[str, str]]:
        return [(event["Actor"]["ID"], event["Action"]) for event in engine.events(since, filters=filters)]

    deadline = time.monotonic() + 60
    while (found := seen()) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    equal(found, expected, f"events with {filters}")


def quiet(engine: Engine, **config: Any) -> tuple[str, str]:
    """A running container and a moment after its start was told."""
    before = engine.now()
    container = engine.run_light(**config)
    engine.client.eventually(lambda: "start" in actions(engine, before, container))
    return container, engine.now()


def seen_until(engine: Engine, since: str, container: str, last: str) -> list[str]:
    """As ``actions``, once the event ``last`` is there."""
    engine.client.eventually(lambda: last in actions(engine, since, container))
    return actions(engine, since, container)


@check(EVENTS)
def headers_come_at_once(engine: Engine) -> None:
    with engine.client.open("GET", "/events", {"filters": {"container": ["none"]}}, timeout=30) as stream:
        equal(stream.status, 200, "status")
        kind = "application/json" if engine.version < (1, 52) else "application/jsonl"
        equal(stream.headers.get("content-type"), kind, "content-type")
        equal(stream.headers.get("transfer-encoding"), "chunked", "transfer-encoding")


@check(EVENTS)
def live(engine: Engine) -> None:
    container = engine.create(host=NONE)
    with engine.client.open("GET", "/events", {"filters": {"container": [container]}}) as stream:
        engine.start(container)
        equal(next(decode_json_stream(stream.read_some().decode()))["Action"], "start", "Action")


@check(EVENTS)
def live_until_a_moment(engine: Engine) -> None:
    now = engine.now()
    until = f"{int(now.split('.')[0]) + 2}"
    started = time.monotonic()
    status(engine.client.get("/events", {"until": until, "filters": {"container": ["none"]}}), 200)
    expect(time.monotonic() - started < 30, "the stream ends at its time")


@check(EVENTS)
def event_fields(engine: Engine) -> None:
    since, name = engine.now(), engine.name()
    container = engine.create(name=name, Labels={"color": "red"})
    expect_actions(engine, since, container, ["create"])
    (event,) = engine.events(since, filters={"container": [container]})
    has_fields(event, {"Type": "container", "Action": "create", "scope": "local"}, "event")
    equal(event["Actor"]["ID"], container, "Actor.ID")
    equal(event["Actor"]["Attributes"], {"image": engine.image, "name": name, "color": "red"}, "Attributes")
    expect(event["timeNano"] // 10**9 == event["time"], "time and timeNano agree")


@check(EVENTS, until="1.51")
def legacy_fields(engine: Engine) -> None:
    since, container = engine.now(), engine.create()
    expect_actions(engine, since, container, ["create"])
    (event,) = engine.events(since, filters={"container": [container]})
    has_fields(event, {"status": "create", "id": container, "from": engine.image}, "event")


@check(EVENTS)
def run_to_the_end(engine: Engine) -> None:
    since = engine.now()
    container = engine.finish("sh", "-c", "exit 3").id
    equal(seen_until(engine, since, container, "die"), ["create", "start", "die"], "actions")
    die = engine.events(since, filters={"container": [container], "event": ["die"]})[0]
    has_fields(die["Actor"]["Attributes"], {"exitCode": "3", "image": engine.image}, "Attributes")


@check(EVENTS, since="1.25")
def auto_remove(engine: Engine) -> None:
    since = engine.now()
    container = engine.run("true", host={"AutoRemove": True, **NONE})
    equal(seen_until(engine, since, container, "destroy"), ["create", "start", "die", "destroy"], "actions")


@check(EVENTS)
def stop(engine: Engine) -> None:
    container, since = quiet(engine)
    engine.stop(container)
    found = seen_until(engine, since, container, "die")
    equal(sorted(found), ["die", "kill", "kill", "stop"], "actions")
    kills = engine.events(since, filters={"container": [container], "event": ["kill"]})
    equal([event["Actor"]["Attributes"]["signal"] for event in kills], ["15", "9"], "signals")


@check(EVENTS)
def kill(engine: Engine) -> None:
    container, since = quiet(engine)
    engine.kill(container)
    equal(seen_until(engine, since, container, "die"), ["kill", "die"], "actions")
    die = engine.events(since, filters={"container": [container], "event": ["die"]})[0]
    equal(die["Actor"]["Attributes"]["exitCode"], "137", "exitCode")


@check(EVENTS)
def restart(engine: Engine) -> None:
    container = engine.run("sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done", host=NONE)
    engine.until_logged(container, "ready")
    time.sleep(0.2)
    since = engine.now()
    status(engine.client.post(f"/containers/{container}/restart", {"t": 5}), 204)
    found = seen_until(engine, since, container, "restart")
    equal(sorted(found), ["die", "kill", "restart", "start", "stop"], "actions")
    equal((found[0], found[-1]), ("kill", "restart"), "first and last")


@check(EVENTS)
def remove_by_force(engine: Engine) -> None:
    container, since = quiet(engine)
    status(engine.client.delete(f"/containers/{container}", {"force": 1}), 204)
    equal(seen_until(engine, since, container, "destroy"), ["kill", "die", "destroy"], "actions")


@check(EVENTS)
def pause_rename_update(engine: Engine) -> None:
    old, new = engine.name(), engine.name()
    container, since = quiet(engine, name=old)
    for path in ("pause", "unpause", f"rename?name={new}"):
        status(engine.client.post(f"/containers/{container}/{path}"), 204)
    status(engine.client.post(f"/containers/{container}/update", body={"CpuShares": 600}), 200)
    seen = seen_until(engine, since, container, "update")
    equal(list(dict.fromkeys(seen)), ["pause", "unpause", "rename", "update"], "actions, once or twice each")
    (event,) = engine.events(since, filters={"container": [container], "event": ["rename"]})
    has_fields(event["Actor"]["Attributes"], {"name": new, "oldName": f"/{old}"}, "Attributes")


@check(EVENTS)
def attach_resize_top(engine: Engine) -> None:
    container, since = quiet(engine, Tty=True)
    engine.attach(container).close()
    status(engine.client.post(f"/containers/{container}/resize", {"h": 10, "w": 20}), 200)
    status(engine.client.get(f"/containers/{container}/top"), 200)
    expect_actions(engine, since, container, ["attach", "resize", "top"])
    found = engine.events(since, filters={"container": [container]})
    has_fields(found[1]["Actor"]["Attributes"], {"height": "10", "width": "20"}, "Attributes of resize")


@check(EVENTS, since="1.36")
def exec_events(engine: Engine) -> None:
    container, since = quiet(engine)
    exec_id = engine.exec_create(container, "sh", "-c", "exit 3")
    with engine.exec_start(exec_id) as stream:
        stream.read_all()
    engine.client.eventually(lambda: "exec_die" in actions(engine, since, container))
    found = [action.strip() for action in actions(engine, since, container)]
    equal(found, ["exec_create: sh -c exit 3", "exec_start: sh -c exit 3", "exec_die"], "actions")
    (die,) = engine.events(since, filters={"container": [container], "event": ["exec_die"]})
    has_fields(die["Actor"]["Attributes"], {"execID": exec_id, "exitCode": "3"}, "Attributes")


@check(EVENTS)
def exec_filter_matches_by_prefix(engine: Engine) -> None:
    container, since = quiet(engine)
    engine.exec_output(container, "true")
    expect_events(engine, since, {"container": [container], "event": ["exec_create"]}, [(container, "exec_create: true ")])


@check(EVENTS)
def network_events(engine: Engine) -> None:
    since = engine.now()
    container = engine.run("true")
    engine.wait(container)
    bridge = engine.client.get("/networks/bridge").json()["Id"]

    def mine() -> list[Any]:
        found = engine.events(since, filters={"type": ["network"]})
        return [event for event in found if event["Actor"]["Attributes"].get("container") == container]

    engine.client.eventually(lambda: len(mine()) == 2)
    equal([event["Action"] for event in mine()], ["connect", "disconnect"], "actions")
    for event in mine():
        equal(event["Actor"]["ID"], bridge, "Actor.ID")
        has_fields(event["Actor"]["Attributes"], {"name": "bridge", "type": "bridge"}, "Attributes")


@check(EVENTS)
def volume_events(engine: Engine) -> None:
    since = engine.now()
    name = engine.volume()["Name"]
    container = engine.finish("true", host={"Binds": [f"{name}:/v:ro"]}).id
    status(engine.client.delete(f"/containers/{container}"), 204)
    status(engine.client.delete(f"/volumes/{name}"), 204)
    expect_events(engine, since, {"volume": [name]}, [(name, action) for action in ("create", "mount", "unmount", "destroy")])
    found = engine.events(since, filters={"volume": [name]})
    mount = {"container": container, "destination": "/v", "driver": "local", "read/write": "false"}
    has_fields(found[1]["Actor"]["Attributes"], mount, "Attributes of mount")


@check(EVENTS)
def image_events(engine: Engine) -> None:
    since = engine.now()
    tag = engine.tag()
    status(engine.client.delete(f"/images/{tag}"), 200)
    found = engine.events(since, filters={"image": [engine.setup.image_id], "type": ["image"]})
    contains([event["Action"] for event in found], "tag", "actions")
    contains([event["Action"] for event in found], "untag", "actions")


@check(EVENTS)
def failed_start_emits_no_start(engine: Engine) -> None:
    since = engine.now()
    container = engine.create("/no/such", host=NONE)
    engine.client.post(f"/containers/{container}/start")
    expect_actions(engine, since, container, ["create"])


@check(EVENTS, since="1.41")
def prune_event(engine: Engine) -> None:
    since, label = engine.now(), engine.name()
    engine.create(Labels={label: ""})
    status(engine.prune("containers", {"label": [label]}), 200)
    found = engine.client.eventually(lambda: engine.events(since, filters={"event": ["prune"], "type": ["container"]}))
    contains(found[-1]["Actor"]["Attributes"], "reclaimed", "Attributes")


# limits and filters


@check(EVENTS)
def since_and_until_are_limits(engine: Engine) -> None:
    container = engine.create(host=NONE)
    time.sleep(0.05)
    since = engine.now()
    engine.start(container)
    expect_actions(engine, since, container, ["start"])
    middle = engine.now()
    engine.kill(container)
    engine.wait(container)
    query = {"since": since, "until": middle, "filters": {"container": [container]}}
    found = status(engine.client.get("/events", query), 200).json_lines()
    equal([event["Action"] for event in found], ["start"], "actions")


@check(EVENTS)
def both_forms_of_filters(engine: Engine) -> None:
    since, container = engine.now(), engine.create()
    forms: list[Any] = [{"container": [container]}, {"container": {container: True}}]
    for filters in forms:
        expect_events(engine, since, filters, [(container, "create")])


@check(EVENTS)
def filter_container_by_name_and_prefix(engine: Engine) -> None:
    since, name = engine.now(), engine.name()
    container = engine.create(name=name)
    for word in (name, container[:12]):
        expect_events(engine, since, {"container": [word]}, [(container, "create")])


@check(EVENTS)
def filter_label(engine: Engine) -> None:
    since, key = engine.now(), engine.name()
    container = engine.create(Labels={key: "v"})
    for word in (key, f"{key}=v"):
        expect_events(engine, since, {"label": [word]}, [(container, "create")])
    equal(engine.events(since, filters={"label": [f"{key}=w"]}), [], "another value")


@check(EVENTS)
def filter_image(engine: Engine) -> None:
    tag = engine.tag()
    since, container = engine.now(), engine.create(Image=tag)
    expect_events(engine, since, {"image": [tag], "type": ["container"]}, [(container, "create")])


@check(EVENTS)
def filter_event_and_type(engine: Engine) -> None:
    since = engine.now()
    container = engine.finish("true").id
    expect_events(
        engine, since, {"container": [container], "event": ["create", "die"]}, [(container, "create"), (container, "die")]
    )
    equal(engine.events(since, filters={"container": [container], "type": ["image"]}), [], "type=image")


@check(EVENTS)
def several_listeners(engine: Engine) -> None:
    container = engine.create(host=NONE)
    filters = {"container": [container]}
    streams = [engine.client.open("GET", "/events", {"filters": filters}) for _ in range(3)]
    engine.start(container)
    for stream in streams:
        equal(next(decode_json_stream(stream.read_some().decode()))["Action"], "start", "Action")
        stream.close()


@check(EVENTS)
def replay_goes_on_live(engine: Engine) -> None:
    since, container = engine.now(), engine.create(host=NONE)
    with engine.client.open("GET", "/events", {"since": since, "filters": {"container": [container]}}) as stream:
        timer = threading.Timer(0.2, lambda: engine.start(container))
        timer.start()
        text = stream.read_until(b'"Action":"start"').decode()
        timer.join()
    equal([event["Action"] for event in decode_json_stream(text)], ["create", "start"], "actions")


@check(EVENTS)
def refusals(engine: Engine) -> None:
    refused(engine.client.get("/events", {"filters": "x"}), 400, "invalid filter")
    refused(engine.client.get("/events", {"since": "x", "until": "1"}), (400, 500), "invalid syntax")
    refused(engine.client.get("/events", {"since": "5", "until": "1"}), 400, "`since` time (5) cannot be after `until` time (1)")
