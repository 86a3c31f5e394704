"""Rules and published ports with real packets: what comes back after a flush, gateway modes, the host's own input rules."""

import asyncio
import os
import socket
import sys
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from compat_engine.config import Config
from compat_engine.errors import Internal, InvalidParameter
from compat_engine.network.claims import EndpointRequest
from compat_engine.network.model import Network, PortRequest, Reach
from compat_engine.network.networks import Networks
from tests.support.hosts import HOST, HOST6, NEIGHBOUR, NEIGHBOUR6, Namespace, ask, opened_networks, server, silent, started

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
BRIDGE = "10.231.10.1"
CONFIG = Config(bridge="cetst1", bip=f"{BRIDGE}/24", default_address_pools=(("10.233.0.0/16", 24),))
TABLE = "compat-cetst1"


def opened(path: Path, config: Config = CONFIG) -> AbstractAsyncContextManager[Networks]:
    return opened_networks(path, config)


async def join(networks: Networks, servers: dict[str, Namespace], name: str, network: str, *ports: PortRequest) -> str:
    servers[name] = server(name)
    endpoint = await networks.reserve(name, network, name=name, asked=EndpointRequest(ports=ports))
    await networks.connect(endpoint, servers[name].pid)
    return endpoint.ip


def family(host: Namespace) -> str:
    """Of the table, as nft names it."""
    return next(line.split()[1] for line in host.run("nft", "list", "tables").splitlines() if line.endswith(TABLE))


async def reached(client: Namespace, address: str, port: int, answer: str) -> bool:
    """Whether the answer comes within some seconds, without the loop standing still."""
    for _ in range(200):
        if (await asyncio.to_thread(ask, client, address, port)) == answer:
            return True
    return False


@pytest.mark.parametrize("damage", ["flush ruleset", "delete table {family} {table}", "flush table {family} {table}"])
async def test_rules_come_back(
    damage: str, host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path
) -> None:
    async with opened(tmp_path) as networks:
        await join(networks, servers, "a", "bridge", PortRequest(80, "tcp", "", "8080"))
        host.run("nft", damage.format(family=family(host), table=TABLE))
        assert await reached(neighbour, HOST, 8080, f"a {NEIGHBOUR}")


async def test_the_user_chain_is_the_administrators(
    host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    published = PortRequest(80, "tcp", "", "8080")
    async with opened(tmp_path) as networks:
        await join(networks, servers, "a", "bridge", published)
        user = [family(host), TABLE, "user"]
        host.run("nft", "add", "rule", *user, "ip", "saddr", NEIGHBOUR, "drop")
        assert silent(neighbour, HOST, 8080)
        host.run("nft", "delete", "chain", family(host), TABLE, "forward")
        while "written anew" not in caplog.text and "writing it anew" not in caplog.text:
            await asyncio.sleep(0.01)
    async with opened(tmp_path) as networks:
        assert silent(neighbour, HOST, 8080)
        caplog.clear()
        host.run("nft", "flush", "chain", *user)
        await networks.create(Network("", "other", "bridge", ""))  # the daemon's own change is no loss
        assert await reached(neighbour, HOST, 8080, f"a {NEIGHBOUR}")
        assert "anew" not in caplog.text


async def test_without_rules_of_ours(
    host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path
) -> None:
    async with opened(tmp_path):
        assert TABLE in host.run("nft", "list", "tables")
    async with opened(tmp_path, replace(CONFIG, iptables=False)) as networks:
        await join(networks, servers, "a", "bridge", PortRequest(80, "tcp", "", "8080"), PortRequest(81, "udp", "", "8081"))
        assert host.run("nft", "list", "ruleset") == ""
        for client, address in ((host, "127.0.0.1"), (host, "::1"), (neighbour, HOST)):
            assert await reached(client, address, 8080, f"a {BRIDGE}"), address
        for client, address in ((host, "127.0.0.1"), (neighbour, HOST)):
            assert await asyncio.to_thread(ask, client, address, 8081, "udp") == f"a {BRIDGE}"
        host.run("ip", "address", "add", "127.0.0.5/32", "dev", "lo")
        servers["local"] = server("local", "nsenter", "-t", str(host.pid), "-n")
        servers["a"].run("ip", "route", "add", "127.0.0.5", "via", BRIDGE, check=False)
        assert silent(servers["a"], "127.0.0.5", 80)


MODE4, MODE6 = "com.docker.network.bridge.gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv6"


async def moded(networks: Networks, name: str, mode: str, **changes: object) -> Network:
    draft = Network("", name, "bridge", "", enable_ipv6=True, options={MODE4: mode, MODE6: mode})
    return await networks.create(replace(draft, **changes))  # type: ignore[arg-type]


def route_to(neighbour: Namespace, network: Network) -> None:
    neighbour.run("ip", "route", "add", network.subnet, "via", HOST)
    neighbour.run("ip", "route", "add", network.subnet6, "via", HOST6)


async def test_a_routed_network_is_reached_at_its_published_ports_alone(
    host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path
) -> None:
    async with opened(tmp_path) as networks:
        network = await moded(networks, "routed", "routed")
        route_to(neighbour, network)
        await join(networks, servers, "a", "routed", PortRequest(80, "tcp", "", "8080"))
        await join(networks, servers, "b", "routed")
        await join(networks, servers, "other", "bridge")
        (published,) = networks.endpoints("a").values()
        assert [(one.host_ip, one.host_port) for one in published.ports] == [("0.0.0.0", 0), ("::", 0)]
        for address, source in ((published.ip, NEIGHBOUR), (published.ipv6, NEIGHBOUR6)):
            assert ask(neighbour, address, 80) == f"a {source}"
        assert ask(servers["other"], published.ip, 80).startswith("a ")
        assert silent(neighbour, HOST, 8080)
        assert silent(neighbour, published.ip, 81)
        assert silent(neighbour, networks.endpoints("b")["routed"].ip, 80)
        servers["outside"] = server("outside", "nsenter", "-t", str(neighbour.pid), "-n")
        assert ask(servers["a"], NEIGHBOUR, 80) == f"outside {published.ip}"  # not masqueraded
        await networks.release("a")
        assert silent(neighbour, published.ip, 80)


async def test_an_unprotected_network_is_reached_at_every_port(
    host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path
) -> None:
    async with opened(tmp_path) as networks:
        network = await moded(networks, "open", "nat-unprotected")
        route_to(neighbour, network)
        await join(networks, servers, "a", "open", PortRequest(80, "tcp", "", "8080"))
        endpoint = networks.endpoints("a")["open"]
        for address, source in ((endpoint.ip, NEIGHBOUR), (endpoint.ipv6, NEIGHBOUR6)):
            assert ask(neighbour, address, 80) == f"a {source}"
        assert ask(neighbour, endpoint.ip, 81, "udp") == f"a {NEIGHBOUR}"
        assert ask(neighbour, HOST, 8080) == f"a {NEIGHBOUR}"
        servers["outside"] = server("outside", "nsenter", "-t", str(neighbour.pid), "-n")
        assert ask(servers["a"], NEIGHBOUR, 80) == f"outside {HOST}"


async def test_an_isolated_network_is_out_of_the_hosts_reach(
    host: Namespace, servers: dict[str, Namespace], tmp_path: Path
) -> None:
    async with opened(tmp_path) as networks:
        with pytest.raises(Internal, match="gateway mode 'isolated' can only be used for an internal network"):
            await moded(networks, "alone", "isolated")
        network = await moded(networks, "alone", "isolated", internal=True)
        assert not network.gateway and not network.gateway6
        for name in ("a", "b"):
            await join(networks, servers, name, "alone")
        b = networks.endpoints("b")["alone"]
        for address in (b.ip, b.ipv6):
            assert ask(servers["a"], address, 80).startswith("b ")
            assert silent(host, address, 80)
        assert host.run("ip", "-o", "address", "show", "dev", f"br-{network.id[:12]}") == ""


async def test_a_gateway_mode_nobody_knows(host: Namespace, tmp_path: Path) -> None:
    async with opened(tmp_path) as networks:
        with pytest.raises(InvalidParameter, match=r"gateway_mode_ipv4 value: x \(unknown gateway mode x\)"):
            await moded(networks, "odd", "x")


@pytest.mark.parametrize("everywhere", [True, False])
async def test_ports_published_via_input_heed_the_hosts_rules(
    everywhere: bool, host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path
) -> None:
    """As the daemon's default or by an option of one network; rules come and go while the port is open."""
    ports = [PortRequest(80, "tcp", "", "8080"), PortRequest(81, "udp", "", "8081")]
    options = {} if everywhere else {"compat-engine.publish-via": "input"}
    async with opened(tmp_path, replace(CONFIG, publish_via="input" if everywhere else "nat")) as networks:
        network = await networks.create(Network("", "guarded", "bridge", "", options=options))
        await join(networks, servers, "a", "guarded", *ports)
        await join(networks, servers, "other", "bridge")
        heard = f"a {network.gateway}"
        for address in (HOST, HOST6):
            assert await reached(neighbour, address, 8080, heard)
        assert await asyncio.to_thread(ask, neighbour, HOST, 8081, "udp") == heard
        host.run("nft", "add table inet ufw; add chain inet ufw input { type filter hook input priority 0; policy accept; }")
        host.run("nft", "add rule inet ufw input th dport { 8080, 8081 } iifname wire drop")
        for address in (HOST, HOST6):
            assert silent(neighbour, address, 8080)
        assert await asyncio.to_thread(ask, neighbour, HOST, 8081, "udp", 0.5) == "nothing"
        assert await reached(host, "127.0.0.1", 8080, heard)
        assert await reached(servers["other"], HOST, 8080, heard)
        host.run("nft", "flush chain inet ufw input")
        assert await reached(neighbour, HOST, 8080, heard)
    async with opened(tmp_path):  # the containers ran on
        assert await reached(neighbour, HOST, 8080, heard)


SCTP_SERVER = """
import socket
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132); listener.bind(("", 80)); listener.listen()
print("ready", flush=True)
while True:
    connection, peer = listener.accept()
    with connection: connection.sendall(peer[0].encode())
"""
SCTP_CLIENT = """
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132); client.settimeout(30); client.connect((sys.argv[1], 8080))
print(client.recv(100).decode())
"""


def _has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_sctp(), reason="no SCTP in this kernel")
async def test_an_sctp_port(host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path) -> None:
    servers["a"] = started("unshare", "--net", sys.executable, "-c", SCTP_SERVER)
    assert servers["a"].process.stdout
    assert servers["a"].process.stdout.readline() == "ready\n"
    async with opened(tmp_path) as networks:
        asked = EndpointRequest(ports=[PortRequest(80, "sctp", "", "8080")])
        endpoint = await networks.reserve("a", "bridge", name="a", asked=asked)
        await networks.connect(endpoint, servers["a"].pid)
        command = (sys.executable, "-I", "-S", "-c", SCTP_CLIENT, HOST)
        assert await asyncio.to_thread(neighbour.run, *command) == NEIGHBOUR
        with pytest.raises(Internal, match="port is already allocated"):
            await networks.reserve("b", "bridge", name="b", asked=asked)


async def test_sctp_is_not_published_via_input(host: Namespace, servers: dict[str, Namespace], tmp_path: Path) -> None:
    async with opened(tmp_path, replace(CONFIG, publish_via="input")) as networks:
        with pytest.raises(InvalidParameter, match="an SCTP port cannot be published via input"):
            await join(networks, servers, "a", "bridge", PortRequest(80, "sctp", "", "8080"))


async def test_the_table_of_a_version_before_goes(host: Namespace, tmp_path: Path) -> None:
    host.run("nft", f"add table ip {TABLE}; add chain ip {TABLE} forward {{ type filter hook forward priority 0; policy drop; }}")
    host.run("nft", "add table ip others")
    async with opened(tmp_path):
        assert set(host.run("nft", "list", "tables").splitlines()) == {f"table inet {TABLE}", "table ip others"}


async def test_without_icc_a_link_opens_what_it_leads_to(host: Namespace, servers: dict[str, Namespace], tmp_path: Path) -> None:
    async with opened(tmp_path, replace(CONFIG, icc=False)) as networks:
        a, b = [await join(networks, servers, name, "bridge") for name in "ab"]
        assert silent(servers["a"], b, 80)
        await networks.link("a", [Reach(b, "tcp", 80)])
        assert ask(servers["a"], b, 80) == f"b {a}"
        assert ask(servers["a"], b, 81, "udp", 0.5) == "nothing"
        assert silent(servers["b"], a, 80)
        host.run("nft", "flush ruleset")
        assert await reached(servers["a"], b, 80, f"b {a}")
    async with opened(tmp_path, replace(CONFIG, icc=False)) as networks:
        assert ask(servers["a"], b, 80) == f"b {a}"
        await networks.link("a", [])
        assert silent(servers["a"], b, 80)
        await networks.link("a", [Reach(b, "tcp", 80)])
        await networks.release("a")
        assert "80" not in host.run("nft", "list", "set", "inet", TABLE, "linked")


async def test_an_interface_that_is_trusted_and_a_source_of_ones_own(
    host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path
) -> None:
    source, source6 = HOST.rpartition(".")[0] + ".77", HOST6 + "77"
    host.run("ip", "address", "add", f"{source}/24", "dev", "wire")
    host.run("ip", "address", "add", f"{source6}/64", "dev", "wire", "nodad")
    options = {"com.docker.network.host_ipv4": source, "com.docker.network.host_ipv6": source6}
    trusting = {"com.docker.network.bridge.trusted_host_interfaces": "other:wire"}
    async with opened(tmp_path) as networks:
        plain = await networks.create(Network("", "plain", "bridge", "", enable_ipv6=True, options=options))
        trusted = await networks.create(Network("", "trusted", "bridge", "", enable_ipv6=True, options=trusting))
        for network in (plain, trusted):
            route_to(neighbour, network)
        a, b = [await join(networks, servers, name, network) for name, network in (("a", "plain"), ("b", "trusted"))]
        assert silent(neighbour, a, 80)
        assert ask(neighbour, b, 80) == f"b {NEIGHBOUR}"
        servers["outside"] = server("outside", "nsenter", "-t", str(neighbour.pid), "-n")
        assert ask(servers["a"], NEIGHBOUR, 80) == f"outside {source}"
        assert ask(servers["a"], NEIGHBOUR6, 80) == f"outside {source6}"
        assert ask(servers["b"], NEIGHBOUR, 80) == f"outside {HOST}"
        with pytest.raises(InvalidParameter, match=r"failed to parse com.docker.network.host_ipv4 value: x \(nil ip\)"):
            await networks.create(Network("", "odd", "bridge", "", options={"com.docker.network.host_ipv4": "x"}))
