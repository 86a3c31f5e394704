"""Containers that join and leave networks while they run: published ports, events, what is refused."""

from __future__ import annotations

from typing import Any

from ..assertions import equal, refused, status
from ..engine import Engine
from ..registry import check
from .networks import read_from

CONNECT, DISCONNECT, CREATE = "POST /networks/{id}/connect", "POST /networks/{id}/disconnect", "POST /networks/create"


def made(engine: Engine, name: str) -> str:
    status(engine.client.post("/networks/create", body={"Name": name}), 201)
    engine.remove_later(f"/networks/{name}")
    return name


def change(engine: Engine, verb: str, network: str, container: str) -> None:
    status(engine.client.post(f"/networks/{network}/{verb}", body={"Container": container}), 200)


def told(engine: Engine, since: str, network: str) -> list[str]:
    """Actions of a network's events."""
    events = engine.events(since, filters={"type": ["network"]})
    return [event["Action"] for event in events if event["Actor"]["Attributes"].get("name") == network]


@check(DISCONNECT)
def published_ports_move(engine: Engine) -> None:
    first, second = (made(engine, f"{engine.name()}-{letter}") for letter in "ab")
    host = {"NetworkMode": second, "PortBindings": {"80/tcp": [{"HostPort": ""}]}}
    container = engine.run("sh", "-c", "while :; do echo hello | nc -l -p 80; done", ExposedPorts={"80/tcp": {}}, host=host)
    for verb, network in (("connect", first), ("disconnect", second), ("connect", second), ("disconnect", first)):
        change(engine, verb, network, container)
        port = int(engine.inspect(container)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])
        equal(engine.client.eventually(lambda port=port: read_from(engine.setup.publish_address, port)), b"hello\n", "answer")
    change(engine, "disconnect", second, container)
    equal(engine.inspect(container)["NetworkSettings"]["Ports"], {}, "Ports without a network")


@check(DISCONNECT)
def a_stopped_container_leaves_with_an_event(engine: Engine) -> None:
    network, container = made(engine, engine.name()), engine.create("true")
    since = engine.now()
    change(engine, "connect", network, container)
    change(engine, "disconnect", network, container)
    engine.client.eventually(lambda: told(engine, since, network) == ["disconnect"])


@check("POST /containers/{id}/start")
def a_start_that_fails_disconnects(engine: Engine) -> None:
    """After it was connected when the program is missing; for want of a port without."""
    network = made(engine, engine.name())
    holder = engine.run("sleep", "100", ExposedPorts={"80/tcp": {}}, host={"PortBindings": {"80/tcp": [{"HostPort": ""}]}})
    taken = engine.inspect(holder)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]
    for command, bindings, actions in (
        ("nonexistent", {}, ["connect", "disconnect"]),
        ("true", {"80/tcp": [{"HostPort": taken}]}, ["disconnect"]),
    ):
        container = engine.create(command, ExposedPorts={"80/tcp": {}}, host={"NetworkMode": network, "PortBindings": bindings})
        since = engine.now()
        equal(engine.client.post(f"/containers/{container}/start").status >= 400, True, "the start fails")
        engine.client.eventually(lambda since=since, actions=actions: told(engine, since, network) == actions)


@check(CONNECT)
def the_container_is_looked_for_first(engine: Engine) -> None:
    missing = engine.name()
    body = {"Container": missing}
    refused(engine.client.post(f"/networks/{missing}/connect", body=body), 404, f"No such container: {missing}")


@check(CREATE, since="1.44")
def one_address_for_two(engine: Engine) -> None:
    pool: dict[str, Any] = {"Subnet": "10.213.8.0/24", "Gateway": "10.213.8.7", "AuxiliaryAddresses": {"a": "10.213.8.7"}}
    body = {"Name": engine.name(), "IPAM": {"Config": [pool]}}
    refused(
        engine.client.post("/networks/create", body=body),
        500,
        "failed to allocate secondary ip address (a:10.213.8.7): Address already in use",
    )


@check(CREATE)
def pools_that_overlap(engine: Engine) -> None:
    for subnets, complaint in (
        (("10.213.9.0/24", "10.213.9.0/25"), "Pool overlaps with other one on this address space"),
        (("10.213.9.0/24", "10.213.10.0/24"), "bridge driver doesn't support multiple subnets"),
    ):
        body = {"Name": engine.name(), "IPAM": {"Config": [{"Subnet": subnet} for subnet in subnets]}}
        refused(engine.client.post("/networks/create", body=body), 403, complaint)
