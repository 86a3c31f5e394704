"""Links on the default bridge, networks on top of the host's interfaces, and the choice of the default route."""

from __future__ import annotations

from ..assertions import contains, equal, expect, refused, status
from ..engine import Engine
from ..registry import check

CREATE = "POST /containers/create"
REMOVE = "DELETE /containers/{id}"
CREATE_NETWORK = "POST /networks/create"


def own_network(engine: Engine, suffix: str, subnet: str) -> str:
    name = engine.name() + suffix
    body = {"Name": name, "IPAM": {"Config": [{"Subnet": subnet}]}}
    status(engine.client.post("/networks/create", body=body), 201)
    engine.remove_later(f"/networks/{name}")
    return name


@check(CREATE)
def links(engine: Engine) -> None:
    server, web = engine.name(), engine.name()
    engine.run("sleep", "100", name=server, Hostname="dbhost", Env=["A=1"], ExposedPorts={"80/tcp": {}})
    container = engine.run("sleep", "100", name=web, host={"Links": [f"{server}:db"]})
    address = engine.inspect(server)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    equal(engine.inspect(container)["HostConfig"]["Links"], [f"/{server}:/{web}/db"], "HostConfig.Links")
    hosts, _ = engine.exec_output(container, "cat", "/etc/hosts")
    contains(hosts.splitlines(), f"{address}\tdb dbhost {server}", "/etc/hosts")
    environment, _ = engine.exec_output(container, "env")
    for variable in (f"DB_PORT=tcp://{address}:80", f"DB_PORT_80_TCP_ADDR={address}", f"DB_NAME=/{web}/db", "DB_ENV_A=1"):
        contains(environment.splitlines(), variable, "environment")
    (row,) = [row for row in engine.rows() if f"/{server}" in row["Names"]]
    equal(row["Names"], [f"/{server}", f"/{web}/db"], "Names of the target")
    equal(engine.inspect(f"{web}/db")["Name"], f"/{server}", "found by the link's name")


@check(CREATE)
def links_that_lead_nowhere(engine: Engine) -> None:
    missing = engine.post_create({"Image": engine.image, "HostConfig": {"Links": ["conformance-nobody:x"]}})
    refused(missing, 400, "could not get container for conformance-nobody: No such container: conformance-nobody")
    malformed = engine.post_create({"Image": engine.image, "HostConfig": {"Links": ["a:b:c"]}})
    refused(malformed, (400, 500), "bad format for links: a:b:c")
    server = engine.create("true", name=engine.name())
    web = engine.create("true", name=engine.name(), host={"Links": [f"{server}:db"]})
    refused(engine.client.post(f"/containers/{web}/start"), (409, 500), "Cannot link to a non running container")


@check(REMOVE)
def a_link_is_removed_alone(engine: Engine) -> None:
    server, web = engine.name(), engine.name()
    engine.create("true", name=server)
    engine.create("true", name=web, host={"Links": [f"{server}:db"]})
    refused(
        engine.client.delete(f"/containers/{server}", {"link": True}),
        (409, 500),
        "cannot remove the default link name of the container",
    )
    status(engine.client.delete(f"/containers/{web}/db", {"link": True}), 204)
    expect(not engine.inspect(web)["HostConfig"]["Links"], "no link is left")
    equal(engine.inspect(server)["Name"], f"/{server}", "the target is still there")


@check(CREATE_NETWORK)
def parents_that_cannot_be(engine: Engine) -> None:
    for driver, parent, complaint in (
        ("macvlan", "lo", "loopback interface is not a valid macvlan parent link"),
        ("ipvlan", "lo", "loopback interface is not a valid ipvlan parent link"),
        ("macvlan", "nosuch0", "invalid subinterface vlan name nosuch0, example formatting is eth0.10"),
        ("macvlan", "nosuch0.10", "-o parent interface was not found on the host: nosuch0"),
        ("ipvlan", "nosuch0.x", "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)"),
    ):
        body = {"Name": engine.name(), "Driver": driver, "Options": {"parent": parent}}
        refused(engine.client.post("/networks/create", body=body), (400, 500), complaint)


@check(CREATE_NETWORK)
def modes_that_are_none(engine: Engine) -> None:
    for driver, option, complaint in (
        ("macvlan", "macvlan_mode", "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default"),
        ("ipvlan", "ipvlan_mode", "requested ipvlan mode 'x' is not valid, 'l2' mode is the ipvlan driver default"),
        ("ipvlan", "ipvlan_flag", "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default"),
    ):
        body = {"Name": engine.name(), "Driver": driver, "Options": {option: "x"}}
        refused(engine.client.post("/networks/create", body=body), (400, 500), complaint)


@check("POST /networks/{id}/connect")
def the_default_route_goes_by_name(engine: Engine) -> None:
    early, late = own_network(engine, "-a", "10.213.8.0/24"), own_network(engine, "-z", "10.213.9.0/24")
    container = engine.run("sleep", "100", host={"NetworkMode": late})
    path = f"/networks/{early}"
    status(engine.client.post(f"{path}/connect", body={"Container": container}), 200)
    route, _ = engine.exec_output(container, "ip", "route", "show", "default")
    contains(route.split(), "10.213.8.1", "default route")
    status(engine.client.post(f"{path}/disconnect", body={"Container": container}), 200)
    route, _ = engine.exec_output(container, "ip", "route", "show", "default")
    contains(route.split(), "10.213.9.1", "default route")
