"""IPv6 with real packets: who reaches whom, published ports by every address, what a daemon that ended has left in force."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from compat_engine.config import Config
from compat_engine.network.claims import EndpointRequest
from compat_engine.network.model import Endpoint, Network, Pool, PortRequest
from compat_engine.network.networks import Networks
from tests.support.hosts import HOST, HOST6, NEIGHBOUR6, Namespace, ask, namespace, opened_networks, server, silent, wired_host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
POOLS = (("10.236.0.0/16", 24), ("fd00:ce:236::/48", 64))
CONFIG = Config(bridge="cetst2", bip="10.235.9.1/24", default_address_pools=POOLS)


@pytest.fixture
def neighbour() -> Iterator[Namespace]:
    """It answers as "n"."""
    made = namespace("sleep", "1000")
    inside = server("n", "nsenter", "-t", str(made.pid), "-n")
    yield made
    inside.end()
    made.end()


@pytest.fixture
def host(neighbour: Namespace) -> Iterator[Namespace]:
    """Ready when the two ends of the wire have found each other, which takes IPv6 a second."""
    with wired_host(neighbour) as made:
        assert any(ask(made, NEIGHBOUR6, 80) == f"n {HOST6}" for _ in range(30))
        yield made


def opened(path: Path, config: Config = CONFIG) -> AbstractAsyncContextManager[Networks]:
    return opened_networks(path, config)


async def join(
    networks: Networks, servers: dict[str, Namespace], name: str, network: str, asked: EndpointRequest | None = None
) -> Endpoint:
    servers[name] = server(name)
    endpoint = await networks.reserve(name, network, name=name, asked=asked or EndpointRequest())
    await networks.connect(endpoint, servers[name].pid)
    return endpoint


async def heard(where: Namespace, address: str, port: int, kind: str = "tcp") -> str:
    """While the loop, and with it the relays, go on."""
    return await asyncio.to_thread(ask, where, address, port, kind)


def six(name: str, **more: object) -> Network:
    return replace(Network("", name, "bridge", "", enable_ipv6=True), **more)  # type: ignore[arg-type]


async def test_who_reaches_whom(host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path) -> None:
    async with opened(tmp_path) as networks:
        for network in (six("one"), six("two", enable_ipv4=False), six("inner", internal=True)):
            await networks.create(network)
        a, b = [await join(networks, servers, name, "one") for name in "ab"]
        c = await join(networks, servers, "c", "two")
        inner = await join(networks, servers, "i", "inner")

        assert await heard(servers["b"], a.ipv6, 80) == f"a {b.ipv6}"
        assert await heard(host, a.ipv6, 80) == f"a {a.ipv6_gateway}"
        assert await heard(host, c.ipv6, 80) == f"c {c.ipv6_gateway}"
        assert await heard(servers["c"], NEIGHBOUR6, 80) == f"n {HOST6}"
        assert (await heard(servers["b"], NEIGHBOUR6, 81, "udp")) == f"n {HOST6}"
        assert (c.ip, c.gateway, c.prefix_len) == ("", "", 0)

        neighbour.run("ip", "route", "add", "fd00:ce:236::/48", "via", HOST6)
        apart = (
            (servers["c"], a.ipv6),
            (servers["a"], c.ipv6),
            (servers["i"], NEIGHBOUR6),
            (servers["i"], a.ipv6),
            (servers["a"], inner.ipv6),
            (neighbour, a.ipv6),
        )
        assert all(await asyncio.gather(*(asyncio.to_thread(silent, client, address, 80) for client, address in apart)))


async def test_published_ports(host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path) -> None:
    ports = (PortRequest(80, "tcp", "", "8080"), PortRequest(81, "udp", "", "8081"), PortRequest(80, "tcp", "::1", "8082"))
    async with opened(tmp_path) as networks:
        await networks.create(six("one"))
        await networks.create(six("two", enable_ipv4=False))
        a = await join(networks, servers, "a", "one", EndpointRequest(ports=ports))
        only = (
            PortRequest(80, "tcp", "", "9090"),
            PortRequest(80, "tcp", "127.0.0.1", "9091"),
            PortRequest(80, "tcp", HOST6, "9092"),
        )
        c = await join(networks, servers, "c", "two", EndpointRequest(ports=only))
        old = await join(networks, servers, "o", "bridge", EndpointRequest(ports=[PortRequest(81, "udp", "", "7071")]))

        assert [(port.host_ip, port.host_port) for port in c.ports] == [("::", 9090), (HOST6, 9092)]
        assert await heard(neighbour, HOST6, 8080) == f"a {NEIGHBOUR6}"
        assert await heard(neighbour, HOST6, 8081, "udp") == f"a {NEIGHBOUR6}"
        assert await heard(neighbour, HOST6, 9092) == f"c {NEIGHBOUR6}"
        assert await asyncio.to_thread(silent, neighbour, HOST6, 8082)
        for address in ("::1", HOST6, a.ipv6_gateway, HOST, "127.0.0.1"):
            assert (await heard(host, address, 8080)).startswith("a "), address
            assert (await heard(host, address, 8081, "udp")).startswith("a "), address
        assert await heard(host, "::1", 8082) == f"a {a.ipv6_gateway}"
        assert await heard(host, "::1", 9090) == f"c {c.ipv6_gateway}"
        for name in "ac":  # itself, and a neighbour of another network, by way of the host
            assert (await heard(servers[name], HOST6, 8080)).startswith("a ")
            assert (await heard(servers[name], HOST6, 9090)).startswith("c ")
        # Two clients of a container without IPv6, by relay.
        for client, address in ((neighbour, HOST6), (host, "::1")):
            assert await heard(client, address, 7071, "udp") == f"o {old.gateway}"
        await networks.release("a")
        assert await asyncio.to_thread(silent, neighbour, HOST6, 8080)


async def test_what_a_container_has(host: Namespace, servers: dict[str, Namespace], tmp_path: Path) -> None:
    async with opened(tmp_path) as networks:
        await networks.create(six("one", pools=(Pool("fd00:ce:777::/64", gateway="fd00:ce:777::5"),)))
        asked = EndpointRequest(ip6="fd00:ce:777::99", link_local=("fe80::77", "169.254.7.7"))
        await join(networks, servers, "a", "one", asked)
        await join(networks, servers, "o", "bridge")
        addresses = servers["a"].run("ip", "-o", "address", "show", "dev", "eth0")
        for address in ("fd00:ce:777::99/64", "fe80::77/64", "169.254.7.7/16", "fe80::42:"):
            assert address in addresses
        assert "tentative" not in addresses
        assert "default via fd00:ce:777::5 dev eth0" in servers["a"].run("ip", "-6", "route")
        assert servers["a"].run("sysctl", "-n", "net.ipv6.conf.eth0.accept_ra") == "0"
        assert servers["o"].run("sysctl", "-n", "net.ipv6.conf.eth0.disable_ipv6") == "1"


async def test_what_outlives_the_daemon(
    host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path
) -> None:
    config = replace(CONFIG, ipv6=True, fixed_cidr_v6="fd00:ce:235::/64")
    async with opened(tmp_path, config) as networks:
        asked = EndpointRequest(ports=[PortRequest(80, "tcp", "", "8080")])
        a = await join(networks, servers, "a", "bridge", asked)
        assert (a.ipv6, a.ipv6_gateway) == ("fd00:ce:235::2", "fd00:ce:235::1")
    assert ask(neighbour, HOST6, 8080) == f"a {NEIGHBOUR6}"
    async with opened(tmp_path, config) as networks:
        assert (await networks.reserve("b", "bridge", name="b")).ipv6 == "fd00:ce:235::3"
        assert await heard(host, "::1", 8080) == f"a {a.ipv6_gateway}"
        assert await heard(neighbour, HOST6, 8080) == f"a {NEIGHBOUR6}"
        await networks.teardown()
    assert "cetst2" not in host.run("ip", "link")
