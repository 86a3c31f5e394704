"""Rules and published ports with real packets: what comes back after a flush, gateway modes, the host's own input rules."""

import asyncio
import os
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from compat_engine.config import Config
from compat_engine.network.claims import EndpointRequest
from compat_engine.network.model import Network, PortRequest
from compat_engine.network.networks import Networks
from tests.support.hosts import HOST, NEIGHBOUR, Namespace, ask, opened_networks, server, silent

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
