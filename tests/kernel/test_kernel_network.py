"""The data path with real packets: a network namespace plays the host, others its containers and a neighbour on its wire."""

import asyncio
import itertools
import os
import socket
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from compat_engine.config import Config
from compat_engine.errors import Internal
from compat_engine.network.claims import EndpointRequest
from compat_engine.network.model import Network, PortRequest
from compat_engine.network.networks import Networks
from tests.support.hosts import HOST, NEIGHBOUR, Namespace, ask, namespace, opened_networks, server, silent

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
BRIDGE = "10.231.9.1"
CONFIG = Config(bridge="cetst0", bip=f"{BRIDGE}/24", default_address_pools=(("10.232.0.0/16", 24),))


def opened(path: Path) -> AbstractAsyncContextManager[Networks]:
    return opened_networks(path, CONFIG)


async def join(networks: Networks, servers: dict[str, Namespace], name: str, network: str, *ports: PortRequest) -> str:
    servers[name] = server(name)
    endpoint = await networks.reserve(name, network, name=name, asked=EndpointRequest(ports=ports))
    await networks.connect(endpoint, servers[name].pid)
    return endpoint.ip


async def test_who_reaches_whom(host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path) -> None:
    async with opened(tmp_path) as networks:
        await networks.create(Network("", "other", "bridge", ""))
        published = (
            PortRequest(80, "tcp", "", "8080"),
            PortRequest(81, "udp", "", "8081"),
            PortRequest(80, "tcp", "127.0.0.1", "8082"),
        )
        a = await join(networks, servers, "a", "bridge", *published)
        await join(networks, servers, "b", "bridge")
        c = await join(networks, servers, "c", "other", PortRequest(80, "tcp", HOST, "9090"))
        inside_a, inside_b, inside_c = servers["a"], servers["b"], servers["c"]

        assert ask(host, a, 80) == f"a {BRIDGE}"
        assert ask(inside_b, a, 80) == "a 10.231.9.3"
        for address in ("127.0.0.1", "127.9.9.9", HOST, BRIDGE):
            assert ask(host, address, 8080).startswith("a "), address
        assert ask(host, "127.0.0.1", 8081, "udp") == f"a {BRIDGE}"
        assert ask(host, "127.0.0.1", 8082) == f"a {BRIDGE}"
        assert ask(neighbour, HOST, 8080) == f"a {NEIGHBOUR}"
        assert ask(neighbour, HOST, 8081, "udp") == f"a {NEIGHBOUR}"
        assert ask(neighbour, HOST, 9090) == f"c {NEIGHBOUR}"
        for inside in (inside_a, inside_b, inside_c):  # itself, its network, another network
            assert ask(inside, HOST, 8080).startswith("a ")
            assert ask(inside, HOST, 9090).startswith("c ")

        assert silent(inside_a, c, 80)
        assert silent(inside_c, a, 80)
        assert silent(host, HOST, 8082)
        assert silent(neighbour, HOST, 8082)
        neighbour.run("ip", "route", "add", "10.231.9.0/24", "via", HOST)
        assert silent(neighbour, a, 80)
        await networks.teardown()
    assert host.run("nft", "list", "tables") == ""
    assert "cetst0" not in host.run("ip", "link")


async def test_out_into_the_world(host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path) -> None:
    async with opened(tmp_path) as networks:
        await networks.create(Network("", "inner", "bridge", "", internal=True))
        await join(networks, servers, "a", "bridge")
        await join(networks, servers, "i", "inner")
        listener = server("n", "nsenter", "-t", str(neighbour.pid), "-n")
        try:
            assert ask(servers["a"], NEIGHBOUR, 80) == f"n {HOST}"
            assert silent(servers["i"], NEIGHBOUR, 80)
        finally:
            listener.end()


async def test_data_path_outlives_the_daemon(host: Namespace, servers: dict[str, Namespace], tmp_path: Path) -> None:
    async with opened(tmp_path) as networks:
        await join(networks, servers, "a", "bridge", PortRequest(80, "tcp", "", "8080"))
        host.run("nft", "add", "rule", "inet", "compat-cetst0", "user", "tcp", "dport", "99", "drop")
    assert ask(host, "127.0.0.1", 8080) == f"a {BRIDGE}"
    async with opened(tmp_path) as networks:
        assert ask(host, "127.0.0.1", 8080) == f"a {BRIDGE}"
        assert "tcp dport 99 drop" in host.run("nft", "list", "chain", "inet", "compat-cetst0", "user")
        with pytest.raises(Internal, match="port is already allocated"):
            await networks.reserve("b", "bridge", name="b", asked=EndpointRequest(ports=[PortRequest(80, "tcp", "", "8080")]))
        servers["a"].end()
        await networks.release("a")
        assert silent(host, "127.0.0.1", 8080)
        socket.create_server(("0.0.0.0", 8080)).close()


async def test_fifty_at_once(host: Namespace, tmp_path: Path) -> None:
    async with opened(tmp_path) as networks:
        members = [namespace("sleep", "1000") for _ in range(50)]
        try:

            async def start(number: int, member: Namespace) -> str:
                endpoint = await networks.reserve(
                    f"c{number}", "bridge", name=f"n{number}", asked=EndpointRequest(ports=[PortRequest(80)])
                )
                await networks.connect(endpoint, member.pid)
                return endpoint.ip

            addresses = await asyncio.gather(*itertools.starmap(start, enumerate(members)))
            assert len(set(addresses)) == 50
            assert host.run("ip", "-o", "link", "show", "master", "cetst0").count("\n") == 49
        finally:
            for member in members:
                member.end()


async def test_a_namespace_that_is_gone(host: Namespace, tmp_path: Path) -> None:
    gone = namespace("true")
    gone.end()
    async with opened(tmp_path) as networks:
        endpoint = await networks.reserve("c", "bridge", name="c")
        with pytest.raises(Internal, match="failed to connect interface"):
            await networks.connect(endpoint, gone.pid)
        assert "veth" not in host.run("ip", "-o", "link", "show", "master", "cetst0")


async def test_others_dropping_by_default_are_pointed_out(
    host: Namespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host.run(
        "nft", "add table inet foreign; add chain inet foreign forward { type filter hook forward priority 0; policy drop; }"
    )
    async with opened(tmp_path):
        assert "nftables chain inet foreign forward drops forwarded packets by default" in caplog.text


async def test_without_icc_only_the_host_is_reached(host: Namespace, servers: dict[str, Namespace], tmp_path: Path) -> None:
    async with opened(tmp_path) as networks:
        await networks.create(Network("", "shy", "bridge", "", options={"com.docker.network.bridge.enable_icc": "false"}))
        a = await join(networks, servers, "a", "shy")
        await join(networks, servers, "b", "shy")
        assert silent(servers["b"], a, 80)
        assert ask(host, a, 80).startswith("a ")


async def test_a_udp_client_that_never_pauses_reaches_the_new_container(
    host: Namespace, servers: dict[str, Namespace], tmp_path: Path
) -> None:
    async with opened(tmp_path) as networks:
        published = PortRequest(81, "udp", "", "8081")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(30)
            client.connect(("127.0.0.1", 8081))
            for name in ("a", "b"):
                servers[name] = server(name)
                endpoint = await networks.reserve(name, "bridge", name=name, asked=EndpointRequest(ports=[published]))
                client.send(b"x")  # a flow from before the port is open
                await networks.connect(endpoint, servers[name].pid)
                client.send(b"x")
                assert client.recv(100).decode().startswith(f"{name} ")
                servers[name].end()
                await networks.release(name)


async def test_a_sweep_takes_our_strays_and_leaves_others(host: Namespace, servers: dict[str, Namespace], tmp_path: Path) -> None:
    async with opened(tmp_path) as networks:
        await join(networks, servers, "a", "bridge")
        host.run("ip", "link", "add", "vethforeign", "master", "cetst0", "type", "veth", "peer", "name", "other")
        await networks.release("a")  # its namespace lives on
    async with opened(tmp_path):
        ports = host.run("ip", "-o", "link", "show", "master", "cetst0")
        assert "vethforeign" in ports
        assert ports.count("veth") == 1


async def test_ipv6_localhost(host: Namespace, servers: dict[str, Namespace], tmp_path: Path) -> None:
    def heard(port: int) -> str:
        return ask(host, "::1", port)

    loop = asyncio.get_running_loop()
    async with opened(tmp_path) as networks:
        await join(networks, servers, "a", "bridge", PortRequest(80, "tcp", "", "8080"), PortRequest(99, "tcp", "::1", "8099"))
        assert await loop.run_in_executor(None, heard, 8080) == f"a {BRIDGE}"
        assert await loop.run_in_executor(None, heard, 8099) == ""
    async with opened(tmp_path) as networks:
        assert await loop.run_in_executor(None, heard, 8080) == f"a {BRIDGE}"
        await networks.release("a")
        assert await loop.run_in_executor(None, heard, 8080) == "nothing"


async def test_an_interface_of_ones_own_name_and_sysctls(host: Namespace, servers: dict[str, Namespace], tmp_path: Path) -> None:
    sysctls = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.neigh.ifname.gc_stale_time=77"
    options = {"com.docker.network.endpoint.ifname": "lan.1", "com.docker.network.endpoint.sysctls": sysctls}
    async with opened(tmp_path) as networks:
        servers["a"] = server("a")
        endpoint = await networks.reserve("a", "bridge", name="a", asked=EndpointRequest(options=options))
        await networks.connect(endpoint, servers["a"].pid)
        assert endpoint.interface == "lan.1"
        assert f"{endpoint.ip}/24" in servers["a"].run("ip", "-o", "address", "show", "dev", "lan.1")
        assert servers["a"].run("cat", "/proc/sys/net/ipv4/conf/lan.1/log_martians") == "1"
        assert servers["a"].run("cat", "/proc/sys/net/ipv4/neigh/lan.1/gc_stale_time") == "77"
        unknown = {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.nonsense=1"}
        servers["b"] = server("b")
        endpoint = await networks.reserve("b", "bridge", name="b", asked=EndpointRequest(options=unknown))
        with pytest.raises(Internal, match="No such file"):
            await networks.connect(endpoint, servers["b"].pid)
        assert endpoint.host_interface not in host.run("ip", "-o", "link")


async def test_a_bridge_goes_with_its_network_unless_it_is_somebody_elses(host: Namespace, tmp_path: Path) -> None:
    host.run("ip", "link", "add", "theirs", "type", "bridge")
    async with opened(tmp_path) as networks:
        for name in ("ours", "theirs"):
            options = {"com.docker.network.bridge.name": name}
            await networks.remove(await networks.create(Network("", name, "bridge", "", options=options)))
            assert (name in host.run("ip", "-o", "link")) is (name == "theirs")
    assert "gone-" not in host.run("ip", "-o", "link")
