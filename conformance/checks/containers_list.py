"""GET /containers/json: the rows and every filter."""

from __future__ import annotations

import json
import time
from typing import Any

from ..assertions import equal, expect, has_fields, is_id, matches, refused, status
from ..engine import Engine
from ..registry import Body, check, each

LIST = "GET /containers/json"
NONE = {"NetworkMode": "none"}


def row(engine: Engine, container: str, **query: Any) -> Any:
    rows = [r for r in engine.rows(all=1, **query) if r["Id"] == container]
    equal(len(rows), 1, "rows of the container")
    return rows[0]


@check(LIST)
def row_of_a_running_container(engine: Engine) -> None:
    name = engine.name()
    container = engine.run("sleep", "55", name=name, Labels={"a": "b"})
    seen = row(engine, container)
    has_fields(
        seen, {"Names": [f"/{name}"], "Image": engine.image, "ImageID": engine.setup.image_id, "Command": "sleep 55"}, "row"
    )
    has_fields(seen, {"Labels": {"a": "b"}, "State": "running", "Mounts": [], "Ports": []}, "row")
    expect(abs(seen["Created"] - time.time()) < 600, "Created is a recent unix time")
    matches("Up (Less than a second|.* seconds?)", seen["Status"], "Status")
    is_id(seen["NetworkSettings"]["Networks"]["bridge"]["EndpointID"], "EndpointID")


@check(LIST)
def row_of_a_created_container(engine: Engine) -> None:
    has_fields(row(engine, engine.create()), {"State": "created", "Status": "Created"}, "row")


@check(LIST)
def row_of_an_exited_container(engine: Engine) -> None:
    seen = row(engine, engine.finish("sh", "-c", "exit 6").id)
    equal(seen["State"], "exited", "State")
    matches(r"Exited \(6\) (Less than a second|.* seconds?) ago", seen["Status"], "Status")


@check(LIST)
def row_of_a_paused_container(engine: Engine) -> None:
    container = engine.run_light()
    status(engine.client.post(f"/containers/{container}/pause"), 204)
    seen = row(engine, container)
    equal(seen["State"], "paused", "State")
    matches(r"Up .* \(Paused\)", seen["Status"], "Status")


@check(LIST)
def command_with_arguments_is_quoted(engine: Engine) -> None:
    equal(row(engine, engine.create("sh", "-c", "echo a b"))["Command"], "sh -c 'echo a b'", "Command")


@check(LIST)
def ports_of_a_row(engine: Engine) -> None:
    ports: dict[str, Any] = {"80/tcp": {}, "90/udp": {}}
    container = engine.run(ExposedPorts=ports, host={"PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}})
    public = int(engine.inspect(container)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])
    seen = sorted(row(engine, container)["Ports"], key=lambda port: port["PrivatePort"])
    equal(seen[0], {"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": public, "Type": "tcp"}, "published port")
    equal(seen[1], {"PrivatePort": 90, "Type": "udp"}, "exposed port")


@check(LIST)
def mounts_of_a_row(engine: Engine) -> None:
    volume = engine.volume()
    seen = row(engine, engine.create(host={"Binds": [f"{volume['Name']}:/v"]}))["Mounts"]
    has_fields(seen[0], {"Type": "volume", "Name": volume["Name"], "Destination": "/v", "RW": True}, "mount")


@check(LIST)
def only_running_ones_by_default(engine: Engine) -> None:
    stopped, running = engine.create(), engine.run_light()
    ids = {r["Id"] for r in engine.rows()}
    expect(running in ids and stopped not in ids, "the running one is listed, the created one is not")


@check(LIST)
def all_of_them(engine: Engine) -> None:
    containers = {engine.create(), engine.run_light()}
    expect(containers <= {r["Id"] for r in engine.rows(all=1)}, "both are listed")


FALSE_WORDS, TRUE_WORDS = ("", "0", "no", "false", "none", "False", "NONE"), ("1", "true", "yes", "anything")


def boolean(word: str, value: bool) -> Body:
    def run(engine: Engine) -> None:
        container = engine.create()
        equal(container in {r["Id"] for r in engine.rows(all=word)}, value, f"a created container is listed with all={word}")

    return run


each(LIST, "boolean_false", [(word or "empty", boolean(word, False)) for word in FALSE_WORDS])
each(LIST, "boolean_true", [(word, boolean(word, True)) for word in TRUE_WORDS])


@check(LIST)
def newest_first(engine: Engine) -> None:
    label = engine.name()
    containers = [engine.create(Labels={label: ""}) for _ in range(3)]
    equal([r["Id"] for r in engine.rows(all=1, filters={"label": [label]})], containers[::-1], "order")


@check(LIST)
def limit(engine: Engine) -> None:
    label = engine.name()
    containers = [engine.create(Labels={label: ""}) for _ in range(3)]
    rows = engine.rows(limit=2, filters={"label": [label]})
    equal([r["Id"] for r in rows], [containers[2], containers[1]], "the newest two, stopped ones included")


@check(LIST)
def size(engine: Engine) -> None:
    container = engine.create()
    expect(row(engine, container, size=1)["SizeRootFs"] > 500_000, "SizeRootFs")
    expect("SizeRootFs" not in row(engine, container), "no size unless asked for")


# filters


@check(LIST)
def both_forms_of_filters(engine: Engine) -> None:
    label = engine.name()
    container = engine.create(Labels={label: "x"})
    forms: list[Any] = [{"label": [label]}, {"label": {label: True}}]
    for filters in forms:
        equal([r["Id"] for r in engine.rows(all=1, filters=filters)], [container], f"list with {json.dumps(filters)}")


@check(LIST)
def empty_filters(engine: Engine) -> None:
    container = engine.create()
    forms: list[Any] = [{}, "", "{}"]
    for filters in forms:
        expect(container in {r["Id"] for r in engine.rows(all=1, filters=filters)}, f"listed with filters {filters!r}")


@check(LIST)
def filter_id(engine: Engine) -> None:
    containers = [engine.create(), engine.create()]
    for word in (containers[0], containers[0][:12]):
        equal(engine.listed({"id": [word]}, containers), {containers[0]}, f"id={word}")


@check(LIST)
def filter_name(engine: Engine) -> None:
    base = engine.name()
    containers = [engine.create(name=f"{base}-one"), engine.create(name=f"{base}-two")]
    equal(engine.listed({"name": [base]}, containers), set(containers), "a part of the name")
    equal(engine.listed({"name": [f"{base}-one"]}, containers), {containers[0]}, "the whole name")
    equal(engine.listed({"name": [f"^/{base}-t.*$"]}, containers), {containers[1]}, "a regular expression")
    equal(engine.listed({"name": [f"{base}-one", f"{base}-two"]}, containers), set(containers), "one or the other")


@check(LIST)
def filter_label(engine: Engine) -> None:
    key = engine.name()
    containers = [engine.create(Labels={key: "1"}), engine.create(Labels={key: "2", "other": "x"})]
    equal(engine.listed({"label": [key]}, containers), set(containers), "the key")
    equal(engine.listed({"label": [f"{key}=2"]}, containers), {containers[1]}, "key and value")
    equal(engine.listed({"label": [key, "other=x"]}, containers), {containers[1]}, "two labels are both needed")


@check(LIST)
def filter_status(engine: Engine) -> None:
    containers = [engine.create(), engine.run_light(), engine.finish("true").id]
    for index, word in enumerate(("created", "running", "exited")):
        equal(engine.listed({"status": [word]}, containers), {containers[index]}, f"status={word}")
    equal(engine.listed({"status": ["created", "exited"]}, containers), {containers[0], containers[2]}, "one or the other")


@check(LIST)
def filter_status_implies_all(engine: Engine) -> None:
    container = engine.create()
    expect(container in {r["Id"] for r in engine.rows(filters={"status": ["created"]})}, "listed without all=1")


@check(LIST)
def filter_exited(engine: Engine) -> None:
    containers = [engine.finish("true").id, engine.finish("sh", "-c", "exit 8").id]
    equal(engine.listed({"exited": ["8"]}, containers), {containers[1]}, "exited=8")


@check(LIST)
def filter_ancestor(engine: Engine) -> None:
    tag = engine.tag()
    containers = [engine.create(Image=tag)]
    for word in (tag, engine.setup.image_id, engine.setup.image_id.removeprefix("sha256:")[:12]):
        equal(engine.listed({"ancestor": [word]}, containers), set(containers), f"ancestor={word}")
    equal(engine.listed({"ancestor": ["conformance-none"]}, containers), set(), "an unknown image")


@check(LIST)
def filter_before_and_since(engine: Engine) -> None:
    containers = [engine.create() for _ in range(3)]
    equal(engine.listed({"before": [containers[1]]}, containers), {containers[0]}, "before")
    equal(engine.listed({"since": [containers[1]]}, containers), {containers[2]}, "since")


@check(LIST)
def filter_volume(engine: Engine) -> None:
    name = engine.volume()["Name"]
    containers = [engine.create(host={"Binds": [f"{name}:/v"]}), engine.create()]
    equal(engine.listed({"volume": [name]}, containers), {containers[0]}, "volume name")
    equal(engine.listed({"volume": ["/v"]}, containers), {containers[0]}, "mount point")


@check(LIST)
def filter_network(engine: Engine) -> None:
    containers = [engine.run(), engine.run_light()]
    equal(engine.listed({"network": ["bridge"]}, containers), {containers[0]}, "network=bridge")
    equal(engine.listed({"network": ["none"]}, containers), {containers[1]}, "network=none")
    network = engine.client.get("/networks/bridge").json()["Id"]
    equal(engine.listed({"network": [network]}, containers), {containers[0]}, "by network id")


@check(LIST)
def filter_expose_and_publish(engine: Engine) -> None:
    bound = {"PortBindings": {"81/tcp": [{"HostPort": ""}]}}
    containers = [engine.run(ExposedPorts={"80/tcp": {}}), engine.run(ExposedPorts={"81/tcp": {}}, host=bound)]
    equal(engine.listed({"expose": ["80"]}, containers), {containers[0]}, "expose=80")
    equal(engine.listed({"expose": ["79-82/tcp"]}, containers), set(containers), "expose=79-82/tcp")
    public = engine.inspect(containers[1])["NetworkSettings"]["Ports"]["81/tcp"][0]["HostPort"]
    equal(engine.listed({"publish": [public]}, containers), {containers[1]}, "publish=<the public port>")


@check(LIST)
def filter_health(engine: Engine) -> None:
    containers = [engine.run_light(), engine.run_light(Healthcheck={"Test": ["CMD", "true"], "Interval": 60_000_000_000})]
    equal(engine.listed({"health": ["none"]}, containers), {containers[0]}, "health=none")
    equal(engine.listed({"health": ["starting"]}, containers), {containers[1]}, "health=starting")


@check(LIST)
def filter_is_task(engine: Engine) -> None:
    containers = [engine.create()]
    equal(engine.listed({"is-task": ["false"]}, containers), set(containers), "is-task=false")
    equal(engine.listed({"is-task": ["true"]}, containers), set(), "is-task=true")


@check(LIST)
def different_filters_are_all_needed(engine: Engine) -> None:
    label = engine.name()
    containers = [engine.create(Labels={label: ""}), engine.run_light(Labels={label: ""})]
    equal(engine.listed({"label": [label], "status": ["running"]}, containers), {containers[1]}, "label and status")


def rejects(filters: Any, statuses: int | tuple[int, ...], message: str) -> Body:
    def run(engine: Engine) -> None:
        refused(engine.client.get("/containers/json", {"filters": filters}), statuses, message)

    return run


each(
    LIST,
    "filter_refused",
    [
        ("unknown key", rejects({"bogus": ["x"]}, 400, "invalid filter 'bogus'")),
        ("not json", rejects("{", 400, "invalid filter")),
        ("status", rejects({"status": ["bogus"]}, 400, "invalid filter 'status=bogus'")),
        ("exited", rejects({"exited": ["x"]}, 400, "invalid filter 'exited=x'")),
        ("before", rejects({"before": ["no-such"]}, 404, "No such container: no-such")),
        ("since", rejects({"since": ["no-such"]}, 404, "No such container: no-such")),
        ("health", rejects({"health": ["bogus"]}, 400, "unrecognized filter value for health: bogus")),
        ("is-task", rejects({"is-task": ["x"]}, 400, "invalid filter 'is-task=[x]'")),
        ("publish", rejects({"publish": ["x"]}, (400, 500), "x")),
    ],
)


@check(LIST)
def limit_that_is_no_number(engine: Engine) -> None:
    refused(engine.client.get("/containers/json", {"limit": "x"}), (400, 500), "invalid syntax")
