"""The predefined networks and how containers join them."""

from __future__ import annotations

import socket
import time
from typing import Any

from ..assertions import contains, equal, expect, has_fields, has_keys, is_id, is_time, matches, one_of, refused, status
from ..engine import Engine
from ..registry import Body, check, each

LIST = "GET /networks"
INSPECT = "GET /networks/{id}"
CREATE = "POST /containers/create"
PREDEFINED = {"bridge": "bridge", "host": "host", "none": "null"}


def network(engine: Engine, name: str) -> Any:
    return status(engine.client.get(f"/networks/{name}"), 200).json()


@check(LIST)
def predefined_networks_are_listed(engine: Engine) -> None:
    seen = {row["Name"]: row["Driver"] for row in status(engine.client.get("/networks"), 200).json()}
    has_fields(seen, PREDEFINED, "networks")


@check(LIST)
def trailing_slash(engine: Engine) -> None:
    expect(isinstance(status(engine.client.get("/networks/"), 200).json(), list), "GET /networks/ is the list too")


@check(LIST, since="1.28")
def list_has_no_containers(engine: Engine) -> None:
    engine.run()
    (row,) = [row for row in engine.client.get("/networks").json() if row["Name"] == "bridge"]
    equal(row.get("Containers") or {}, {}, "Containers")


def filtered(engine: Engine, **filters: Any) -> set[str]:
    return {row["Name"] for row in status(engine.client.get("/networks", {"filters": filters}), 200).json()}


@check(LIST)
def filters(engine: Engine) -> None:
    contains(filtered(engine, name=["bridge"]), "bridge", "name=bridge")
    contains(filtered(engine, driver=["bridge"]), "bridge", "driver=bridge")
    equal(filtered(engine, driver=["null"]), {"none"}, "driver=null")
    equal(filtered(engine, id=[network(engine, "bridge")["Id"][:20]]), {"bridge"}, "id")
    expect(set(PREDEFINED) <= filtered(engine, type={"builtin": True}), "type=builtin")
    expect(set(PREDEFINED) <= filtered(engine, scope=["local"]), "scope=local")
    equal(filtered(engine, label=["conformance-no-such"]), set(), "label")


@check(LIST)
def filter_refusals(engine: Engine) -> None:
    refused(engine.client.get("/networks", {"filters": {"bogus": ["x"]}}), 400, "invalid filter 'bogus'")
    refused(engine.client.get("/networks", {"filters": {"type": ["bogus"]}}), (400, 500), "invalid filter")


def inspects(name: str, driver: str) -> Body:
    def run(engine: Engine) -> None:
        seen = network(engine, name)
        is_id(seen["Id"])
        is_time(seen["Created"], "Created")
        expected = {"Name": name, "Driver": driver, "Scope": "local", "EnableIPv6": False, "Internal": False, "Attachable": False}
        has_fields(seen, expected | {"Ingress": False, "ConfigOnly": False, "Labels": {}}, "network")
        has_keys(seen, ("IPAM", "Containers", "Options", "ConfigFrom"), "network")
        equal(network(engine, seen["Id"])["Name"], name, "Name by id")
        equal(network(engine, seen["Id"][:12])["Name"], name, "Name by a part of the id")

    return run


each(INSPECT, "inspect", [(name, inspects(name, driver)) for name, driver in PREDEFINED.items()])


@check(INSPECT)
def bridge_address_management(engine: Engine) -> None:
    ipam = network(engine, "bridge")["IPAM"]
    equal(ipam["Driver"], "default", "Driver")
    matches(r"\d+\.\d+\.\d+\.\d+/\d+", ipam["Config"][0]["Subnet"], "Subnet")


@check(INSPECT)
def bridge_options(engine: Engine) -> None:
    options = network(engine, "bridge")["Options"]
    prefix = "com.docker.network.bridge."
    expected = {f"{prefix}default_bridge": "true", f"{prefix}enable_icc": "true", f"{prefix}enable_ip_masquerade": "true"}
    has_fields(options, expected, "Options")
    has_keys(options, (f"{prefix}name", f"{prefix}host_binding_ipv4", "com.docker.network.driver.mtu"), "Options")


@check(INSPECT)
def containers_of_the_bridge(engine: Engine) -> None:
    name = engine.name()
    container = engine.run(name=name)
    endpoint = engine.inspect(container)["NetworkSettings"]["Networks"]["bridge"]
    row = network(engine, "bridge")["Containers"][container]
    address = f"{endpoint['IPAddress']}/{endpoint['IPPrefixLen']}"
    has_fields(
        row,
        {"Name": name, "EndpointID": endpoint["EndpointID"], "MacAddress": endpoint["MacAddress"], "IPv4Address": address},
        "row",
    )
    engine.stop(container)
    expect(container not in network(engine, "bridge")["Containers"], "a stopped container has left")


@check(INSPECT)
def missing_network(engine: Engine) -> None:
    refused(engine.client.get("/networks/conformance-none"), 404, "network conformance-none not found")
    refused(engine.client.delete("/networks/conformance-none"), 404, "network conformance-none not found")


@check("DELETE /networks/{id}")
def predefined_networks_stay(engine: Engine) -> None:
    for name in PREDEFINED:
        refused(engine.client.delete(f"/networks/{name}"), 403, f"{name} is a pre-defined network and cannot be removed")


@check("POST /networks/create")
def predefined_names_are_taken(engine: Engine) -> None:
    refused(
        engine.client.post("/networks/create", body={"Name": "bridge"}),
        403,
        "operation is not permitted on predefined bridge network",
    )


def ipv6_network(engine: Engine, *pools: dict[str, Any]) -> str:
    name = engine.name()
    body = {"Name": name, "EnableIPv6": True, "IPAM": {"Config": list(pools)}}
    status(engine.client.post("/networks/create", body=body), 201)
    engine.remove_later(f"/networks/{name}")
    return name


@check("POST /networks/create")
def ipv6_and_ipv4_of_ones_own(engine: Engine) -> None:
    name = ipv6_network(
        engine,
        {"Subnet": "fd00:c0f0:1::/64", "Gateway": "fd00:c0f0:1::7", "AuxiliaryAddresses": {"router": "fd00:c0f0:1::1"}},
        {"Subnet": "10.213.7.0/24"},
    )
    seen = network(engine, name)
    expect(seen["EnableIPv6"], "EnableIPv6")
    equal({pool["Subnet"] for pool in seen["IPAM"]["Config"]}, {"fd00:c0f0:1::/64", "10.213.7.0/24"}, "subnets")
    settings = {"EndpointsConfig": {name: {"IPAMConfig": {"IPv6Address": "fd00:c0f0:1::99", "LinkLocalIPs": ["fe80::77"]}}}}
    container = engine.run("sleep", "100", host={"NetworkMode": name}, NetworkingConfig=settings)
    endpoint = engine.inspect(container)["NetworkSettings"]["Networks"][name]
    has_fields(
        endpoint,
        {"GlobalIPv6Address": "fd00:c0f0:1::99", "GlobalIPv6PrefixLen": 64, "IPv6Gateway": "fd00:c0f0:1::7", "IPPrefixLen": 24},
        "endpoint",
    )
    equal(network(engine, name)["Containers"][container]["IPv6Address"], "fd00:c0f0:1::99/64", "IPv6Address")
    inside = engine.exec_output(container, "sh", "-c", "ip -6 -o addr show eth0; ip -6 route; cat /etc/hosts")[0]
    for part in ("fd00:c0f0:1::99/64", "fe80::77/64", "default via fd00:c0f0:1::7", "fd00:c0f0:1::99\t"):
        contains(inside, part, "inside")


@check("POST /networks/create", since="1.44")
def ipv6_pools_that_make_no_sense(engine: Engine) -> None:
    subnet = "fd00:c0f0:2::/64"
    for pool, complaint in (
        ({"Subnet": "fd00:c0f0:2::1/64"}, f"invalid subnet fd00:c0f0:2::1/64: it should be {subnet}"),
        ({"Subnet": subnet, "Gateway": "10.0.0.1"}, "invalid gateway 10.0.0.1: parent subnet is an IPv6 block"),
        ({"Subnet": subnet, "IPRange": "10.0.0.0/24"}, "invalid ip-range 10.0.0.0/24: parent subnet is an IPv6 block"),
    ):
        body = {"Name": engine.name(), "EnableIPv6": True, "IPAM": {"Config": [pool]}}
        refused(engine.client.post("/networks/create", body=body), 400, complaint)


@check(CREATE, since="1.44")
def ipv6_addresses_that_make_no_sense(engine: Engine) -> None:
    name = ipv6_network(engine, {"Subnet": "fd00:c0f0:3::/64"})
    for asked, complaint in (
        ({"IPv6Address": "fd00:c0f0:9::1"}, "no configured subnet or ip-range contain the IP address fd00:c0f0:9::1"),
        ({"IPv6Address": "10.0.0.1"}, "invalid IPv6 address: 10.0.0.1"),
        ({"LinkLocalIPs": ["x"]}, "invalid link-local IP address: x"),
    ):
        settings = {"EndpointsConfig": {name: {"IPAMConfig": asked}}}
        body = {"Image": engine.image, "HostConfig": {"NetworkMode": name}, "NetworkingConfig": settings}
        refused(engine.post_create(body), 400, complaint)


@check("POST /networks/prune", since="1.25")
def prune_of_nothing(engine: Engine) -> None:
    answer = status(engine.prune("networks", {"label": [engine.name()]}), 200).json()
    one_of(answer["NetworksDeleted"], (None, []), "NetworksDeleted")


# what a container gets


@check(CREATE)
def bridge_from_inside(engine: Engine) -> None:
    container = engine.run("sh", "-c", "ip -4 -o addr show eth0; ip route; cat /sys/class/net/eth0/address; sleep 100")
    engine.client.eventually(lambda: engine.logs(container).body.count(b":") > 5)
    endpoint = engine.inspect(container)["NetworkSettings"]["Networks"]["bridge"]
    seen = engine.exec_output(container, "sh", "-c", "ip -4 -o addr show eth0; ip route; cat /sys/class/net/eth0/address")[0]
    contains(seen, f"inet {endpoint['IPAddress']}/{endpoint['IPPrefixLen']}", "addresses")
    contains(seen, f"default via {endpoint['Gateway']}", "routes")
    contains(seen, endpoint["MacAddress"], "hardware address")


@check(CREATE)
def none_has_only_a_loopback(engine: Engine) -> None:
    equal(
        engine.inside("ls /sys/class/net; ip -o link show up | wc -l", {"NetworkMode": "none"}),
        "lo\n1",
        "interfaces, of which up",
    )


@check(CREATE)
def host_network_shares_the_namespace(engine: Engine) -> None:
    one, other = (engine.inside("readlink /proc/self/ns/net", {"NetworkMode": "host"}) for _ in range(2))
    equal(one, other, "network namespaces of two containers")
    expect(one != engine.inside("readlink /proc/self/ns/net"), "and another one without")


@check(CREATE)
def network_of_another_container(engine: Engine) -> None:
    other = engine.run()
    container = engine.run(host={"NetworkMode": f"container:{other}"})
    script = ("readlink", "/proc/self/ns/net")
    equal(engine.exec_output(container, *script)[0], engine.exec_output(other, *script)[0], "network namespace")
    equal(engine.inspect(container)["HostConfig"]["NetworkMode"], f"container:{other}", "NetworkMode")


@check(CREATE)
def containers_reach_each_other(engine: Engine) -> None:
    server = engine.run("sh", "-c", "while :; do echo hello | nc -l -p 80; done")
    address = engine.inspect(server)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    seen = engine.inside(
        f"for i in $(seq 100); do nc -w 2 {address} 80 </dev/null && break; sleep 0.2; done", {"NetworkMode": "bridge"}
    )
    equal(seen, "hello", "answer")


@check(CREATE)
def exposed_ports_are_shown(engine: Engine) -> None:
    container = engine.run(ExposedPorts={"80/tcp": {}, "81/udp": {}})
    equal(engine.inspect(container)["NetworkSettings"]["Ports"], {"80/tcp": None, "81/udp": None}, "Ports")


def read_from(address: str, port: int) -> bytes:
    try:
        with socket.create_connection((address, port), 2) as connection:
            return connection.recv(100)
    except OSError:
        return b""


@check(CREATE)
def published_port(engine: Engine) -> None:
    bindings = {"PortBindings": {"80/tcp": [{"HostPort": ""}]}}
    container = engine.run("sh", "-c", "while :; do echo hello | nc -l -p 80; done", ExposedPorts={"80/tcp": {}}, host=bindings)
    published = engine.inspect(container)["NetworkSettings"]["Ports"]["80/tcp"]
    port = int(published[0]["HostPort"])
    equal({binding["HostPort"] for binding in published}, {str(port)}, "the same port for all addresses")
    contains([binding["HostIp"] for binding in published], "0.0.0.0", "HostIp")
    equal(engine.client.eventually(lambda: read_from(engine.setup.publish_address, port)), b"hello\n", "answer")


@check(CREATE)
def published_port_is_free_after_stop(engine: Engine) -> None:
    bindings = {"PortBindings": {"80/tcp": [{"HostPort": ""}]}}
    container = engine.run("sh", "-c", "while :; do echo hello | nc -l -p 80; done", ExposedPorts={"80/tcp": {}}, host=bindings)
    port = int(engine.inspect(container)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])
    engine.client.eventually(lambda: read_from(engine.setup.publish_address, port))
    engine.stop(container)
    equal(read_from(engine.setup.publish_address, port), b"", "answer after the stop")
    equal(engine.inspect(container)["NetworkSettings"]["Ports"], {}, "Ports")


def unclaimed_datagrams(engine: Engine, container: str) -> int:
    """How many datagrams reached the container's network and found nobody listening."""
    return int(engine.exec_output(container, "awk", "/^Udp: [0-9]/ {print $3}", "/proc/net/snmp")[0])


@check(CREATE)
def published_udp_port(engine: Engine) -> None:
    bindings = {"PortBindings": {"80/udp": [{"HostPort": ""}]}}
    container = engine.run(ExposedPorts={"80/udp": {}}, host=bindings)
    port = int(engine.inspect(container)["NetworkSettings"]["Ports"]["80/udp"][0]["HostPort"])
    before = unclaimed_datagrams(engine, container)

    def arrives() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"datagram", (engine.setup.publish_address, port))
        time.sleep(0.05)
        return unclaimed_datagrams(engine, container) > before

    engine.client.eventually(arrives)


@check(CREATE)
def publish_all_ports(engine: Engine) -> None:
    container = engine.run(ExposedPorts={"80/tcp": {}}, host={"PublishAllPorts": True})
    expect(int(engine.inspect(container)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]) > 1024, "an ephemeral port")


@check(CREATE)
def port_of_a_range(engine: Engine) -> None:
    bindings = {"PortBindings": {"80/tcp": [{"HostPort": "28100-28400"}]}}
    ports = set()
    for _ in range(2):
        container = engine.run(ExposedPorts={"80/tcp": {}}, host=bindings)
        ports.add(int(engine.inspect(container)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]))
    expect(len(ports) == 2 and all(28100 <= port <= 28400 for port in ports), f"two ports of the range, got {ports}")


@check(CREATE)
def hosts_file(engine: Engine) -> None:
    container = engine.run(Hostname="myhost", host={"ExtraHosts": ["other:192.0.2.7"]})
    address = engine.inspect(container)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    hosts = [line.split() for line in engine.exec_output(container, "cat", "/etc/hosts")[0].splitlines()]
    for line in (["127.0.0.1", "localhost"], ["192.0.2.7", "other"], [address, "myhost"]):
        contains(hosts, line, "/etc/hosts")


@check(CREATE)
def host_gateway(engine: Engine) -> None:
    container = engine.run(host={"ExtraHosts": ["gate:host-gateway"]})
    gateway = engine.inspect(container)["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
    contains(engine.exec_output(container, "cat", "/etc/hosts")[0], f"{gateway}\tgate", "/etc/hosts")


@check(CREATE)
def dns_options(engine: Engine) -> None:
    host = {"NetworkMode": "bridge", "Dns": ["192.0.2.53"], "DnsSearch": ["example.test"], "DnsOptions": ["ndots:3"]}
    seen = [line.split() for line in engine.inside("cat /etc/resolv.conf", host).splitlines()]
    for line in (["nameserver", "192.0.2.53"], ["search", "example.test"], ["options", "ndots:3"]):
        contains(seen, line, "/etc/resolv.conf")


@check(CREATE)
def addresses_differ(engine: Engine) -> None:
    first = engine.run()
    address = engine.inspect(first)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    second = engine.run()
    other = engine.inspect(second)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    expect(address != other, "two running containers have different addresses")


@check(CREATE, until="1.51")
def mac_address(engine: Engine) -> None:
    container = engine.run(MacAddress="02:42:ac:11:99:01")
    equal(engine.exec_output(container, "cat", "/sys/class/net/eth0/address")[0].strip(), "02:42:ac:11:99:01", "address")
