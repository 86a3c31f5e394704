"""/networks over the real engine and real networks, on a kernel that is not there."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from compat_engine.config import Config
from compat_engine.engine.endpoints import connect, reserve
from compat_engine.engine.networks import network_settings, ports_summary
from compat_engine.engine.registry import Container
from compat_engine.errors import NotFound
from compat_engine.network.fake import FakeEdge
from compat_engine.network.networks import Networks
from compat_engine.wire.container import HostConfig
from compat_engine.wire.network import EndpointSettings
from tests.api.conftest import Api

PID = 42


@pytest.fixture
async def net(api: Api) -> AsyncIterator[Api]:
    config = Config(bridge="cetst0", bip="10.231.1.1/24")
    api.engine.networks = await Networks.open(config, api.engine.records, api.engine.tree, FakeEdge())
    yield api
    await api.engine.networks.close()


async def placed(net: Api, network: str = "bridge", running: bool = True, **host: Any) -> Container:
    """A container on a network, as create and start leave it."""
    container = await net.container(ExposedPorts={"80/tcp": {}, "7000/tcp": {}})
    mode = HostConfig.parse({"NetworkMode": network, **host})
    record = replace(container.record, host_config=mode, endpoints={network: EndpointSettings()})
    await net.engine.containers.update(container, record=record)
    if running:
        await connect(net.engine, container, await reserve(net.engine, container), PID)
        state = container.state.to("running", pid=PID, started_at="2026-01-01T00:00:00Z")
        await net.engine.containers.update(container, state=state)
    return container


async def test_create_inspect_list_remove(net: Api) -> None:
    pool = {"Subnet": "10.77.0.0/24", "Gateway": "10.77.0.254", "AuxiliaryAddresses": {"a": "10.77.0.9"}}
    created = await net.call("POST", "/networks/create", {"Name": "own", "IPAM": {"Config": [pool]}, "Labels": {"x": "y"}})
    assert (created.status, created.json["Warning"]) == (201, "")
    shown = (await net.call("GET", "/v1.51/networks/own")).json
    assert shown["Id"] == created.json["Id"]
    assert shown["IPAM"] == {"Driver": "default", "Options": None, "Config": [pool]}
    assert (shown["Containers"], shown["Labels"], shown["EnableIPv4"]) == ({}, {"x": "y"}, True)
    assert "EnableIPv4" not in (await net.call("GET", "/v1.45/networks/own")).json
    names = [network["Name"] for network in (await net.call("GET", '/networks?filters={"type":["custom"],"label":["x=y"]}')).json]
    assert names == ["own"]
    assert (await net.call("POST", "/networks/create", {"Name": "own"})).status == 409
    assert (await net.call("DELETE", "/networks/own")).status == 204
    gone = await net.call("GET", "/networks/own")
    assert (gone.status, gone.message) == (404, "network own not found")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "invalid name: "),
        ({"Name": "bridge"}, 403, "operation is not permitted on predefined bridge network "),
        ({"Name": "x", "Driver": "foo"}, 404, 'plugin "foo" not found'),
        ({"Name": "x", "Driver": "host"}, 403, 'only one instance of "host" network is allowed'),
        (
            {"Name": "x", "Driver": "overlay"},
            403,
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
            "and try again.",
        ),
        ({"Name": "x", "EnableIPv4": False}, 400, "IPv4 or IPv6 must be enabled"),
        ({"Name": "x", "IPAM": {"Driver": "null"}}, 400, "ipv4 pool is empty"),
        (
            {
                "Name": "x",
                "IPAM": {"Config": [{"Subnet": "10.9.0.0/24", "Gateway": "10.9.0.7", "AuxiliaryAddresses": {"a": "10.9.0.7"}}]},
            },
            500,
            "failed to allocate secondary ip address (a:10.9.0.7): Address already in use",
        ),
        (
            {"Name": "x", "IPAM": {"Config": [{"Subnet": "10.9.0.0/24"}, {"Subnet": "10.9.0.0/25"}]}},
            403,
            "Pool overlaps with other one on this address space",
        ),
        ({"Name": "x", "Scope": "swarm"}, 403, "cannot create a swarm scoped network when swarm is not active"),
        ({"Name": "x", "ConfigFrom": {"Network": "z"}}, 404, 'configuration network "z" does not exist'),
        (
            {"Name": "x", "Options": {"com.docker.network.driver.mtu": "y"}},
            400,
            'failed to parse com.docker.network.driver.mtu value: y (strconv.Atoi: parsing "y": invalid syntax)',
        ),
    ],
)
async def test_what_create_refuses(net: Api, body: dict[str, Any], status: int, message: str) -> None:
    answer = await net.call("POST", "/networks/create", body)
    assert (answer.status, answer.message) == (status, message)


async def test_connect_and_disconnect_while_it_runs(net: Api) -> None:
    container = await placed(net)
    await net.call("POST", "/networks/create", {"Name": "own"})
    body = {"Container": "c", "EndpointConfig": {"Aliases": ["alias"]}}
    assert (await net.call("POST", "/networks/own/connect", body)).status == 200
    again = await net.call("POST", "/networks/own/connect", body)
    assert (again.status, again.message) == (403, "endpoint with name c already exists in network own")
    endpoint = network_settings(net.engine, container)["Networks"]["own"]
    assert (endpoint["IPAddress"], endpoint["Aliases"]) == ("172.17.0.2", ["alias"])
    assert endpoint["DNSNames"] == ["c", "alias", container.id[:12]]
    member = (await net.call("GET", "/networks/own")).json["Containers"][container.id]
    assert (member["Name"], member["IPv4Address"]) == ("c", "172.17.0.2/16")
    in_use = await net.call("DELETE", "/networks/own")
    assert in_use.status == 403
    assert "has active endpoints" in in_use.message
    assert (await net.call("POST", "/networks/own/disconnect", {"Container": "c"})).status == 200
    missing = await net.call("POST", "/networks/own/disconnect", {"Container": "c"})
    assert (missing.status, missing.message) == (500, f"container {container.id} is not connected to network own")
    assert (await net.call("POST", "/networks/prune")).json == {"NetworksDeleted": ["own"]}


async def test_connect_while_it_is_stopped_is_remembered(net: Api) -> None:
    container = await placed(net, running=False)
    await net.call("POST", "/networks/create", {"Name": "own"})
    assert (await net.call("POST", "/networks/own/connect", {"Container": "c"})).status == 200
    assert list(container.record.endpoints) == ["bridge", "own"]
    assert not net.engine.networks.endpoints(container.id)
    bad = await net.call(
        "POST", "/networks/own/connect", {"Container": "c", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "1.2.3.4"}}}
    )
    assert bad.status == 400
    assert "only when connecting to networks with user configured subnets" in bad.message


@pytest.mark.parametrize(
    ("mode", "network", "message"),
    [
        (
            "host",
            "own",
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ),
        ("bridge", "host", "container cannot be disconnected from host network or connected to host network"),
        ("bridge", "none", "container cannot be connected to multiple networks with one of the networks in private (none) mode"),
    ],
)
async def test_networks_that_do_not_mix(net: Api, mode: str, network: str, message: str) -> None:
    await placed(net, mode, running=False)
    await net.call("POST", "/networks/create", {"Name": "own"})
    answer = await net.call("POST", f"/networks/{network}/connect", {"Container": "c"})
    assert (answer.status, answer.message) == (400, message)


async def test_ports_in_inspect_and_list(net: Api) -> None:
    container = await placed(net, PortBindings={"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]})
    (binding,) = net.engine.networks.endpoints(container.id)["bridge"].ports
    ports = network_settings(net.engine, container)["Ports"]
    assert ports == {"7000/tcp": None, "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(binding.host_port)}]}
    assert ports_summary(net.engine, container) == [
        {"PrivatePort": 7000, "Type": "tcp"},
        {"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": binding.host_port, "Type": "tcp"},
    ]
    await net.engine.networks.release(container.id)
    await net.engine.containers.update(container, state=container.state.to("exited", pid=0))
    settings = network_settings(net.engine, container)
    assert (settings["Ports"], settings["SandboxKey"], ports_summary(net.engine, container)) == ({}, "", [])
    assert settings["Networks"]["bridge"]["NetworkID"] == net.engine.networks.find("bridge").id


async def test_a_start_that_fails_half_way_leaves_no_endpoint(net: Api) -> None:
    container = await placed(net, running=False)
    endpoints = {"bridge": EndpointSettings(GwPriority=1), "gone": EndpointSettings()}
    await net.engine.containers.update(container, record=replace(container.record, endpoints=endpoints))
    with pytest.raises(NotFound, match="network gone not found"):
        await reserve(net.engine, container)
    assert not net.engine.networks.endpoints(container.id)


async def test_info_tells_of_configured_pools(net: Api) -> None:
    assert "DefaultAddressPools" not in (await net.call("GET", "/info")).json
    net.engine.config = replace(net.engine.config, default_address_pools=(("10.240.0.0/16", 24),))
    assert (await net.call("GET", "/info")).json["DefaultAddressPools"] == [{"Base": "10.240.0.0/16", "Size": 24}]
