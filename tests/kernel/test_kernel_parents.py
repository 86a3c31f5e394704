"""macvlan and ipvlan with real packets, on a veth whose other end is a neighbour's; skipped where the kernel lacks the kind."""

from pathlib import Path

import pytest

from compat_engine.errors import Internal
from compat_engine.network.model import Network, Pool
from compat_engine.network.networks import Networks
from tests.kernel.test_kernel_network import join, opened, pytestmark
from tests.support.hosts import NEIGHBOUR, Namespace, ask, server

__all__ = ["pytestmark"]
SUBNET = Pool("198.51.100.0/24", ip_range="198.51.100.128/25", gateway=NEIGHBOUR)


def needs(where: Namespace, kind: str, *options: str) -> None:
    """Skip on a kernel that has no such interface."""
    if not has(where, kind, *options):
        pytest.skip(f"no {kind} in this kernel")


def has(where: Namespace, kind: str, *options: str) -> bool:
    on = () if kind == "dummy" else ("link", "wire")
    where.run("ip", "link", "add", "probe", *on, "type", kind, *options, check=False)
    found = "probe" in where.run("ip", "link")
    where.run("ip", "link", "delete", "probe", check=False)
    return found


def links(host: Namespace, container: Namespace) -> list[tuple[Namespace, str]]:
    return [(host, "wire"), (container, "eth0")]


async def create(networks: Networks, driver: str, parent: str = "wire", **options: str) -> Network:
    draft = Network("", "own", driver, "", pools=(SUBNET,), options={"parent": parent, **options})
    return await networks.create(draft)


@pytest.mark.parametrize(("mode", "siblings"), [("bridge", True), ("private", False), ("vepa", False)])
async def test_macvlan(
    host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path, mode: str, siblings: bool
) -> None:
    needs(host, "macvlan")
    async with opened(tmp_path) as networks:
        network = await create(networks, "macvlan", macvlan_mode=mode)
        a, b = [await join(networks, servers, name, "own") for name in "ab"]
        listener = server("n", "nsenter", "-t", str(neighbour.pid), "-n")
        try:
            assert ask(servers["a"], NEIGHBOUR, 80) == f"n {a}"  # no translation
            assert ask(neighbour, b, 80) == f"b {NEIGHBOUR}"
            assert (ask(servers["a"], b, 80) == f"b {a}") is siblings
        finally:
            listener.end()
        await networks.disconnect("a", network, servers["a"].pid)
        assert "eth0" not in servers["a"].run("ip", "link")
        assert ask(neighbour, b, 80) == f"b {NEIGHBOUR}"


async def test_macvlan_passthru_is_for_one(host: Namespace, servers: dict[str, Namespace], tmp_path: Path) -> None:
    needs(host, "macvlan")
    async with opened(tmp_path) as networks:
        await create(networks, "macvlan", macvlan_mode="passthru")
        await join(networks, servers, "a", "own")
        with pytest.raises(Internal, match="failed to create the macvlan port: "):
            await join(networks, servers, "b", "own")


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
async def test_ipvlan(host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path, mode: str) -> None:
    needs(host, "ipvlan")
    async with opened(tmp_path) as networks:
        await create(networks, "ipvlan", ipvlan_mode=mode)
        a, b = [await join(networks, servers, name, "own") for name in "ab"]
        assert ask(servers["a"], b, 80) == f"b {a}"
        macs = [
            where.run("ip", "-o", "link", "show", name).split("link/ether ")[1][:17] for where, name in links(host, servers["a"])
        ]
        assert macs[0] == macs[1]
        route = servers["a"].run("ip", "route", "show", "default")
        assert route.split()[:3] == (["default", "via", NEIGHBOUR] if mode == "l2" else ["default", "dev", "eth0"])
        if mode == "l2":  # the l3 modes answer no ARP
            assert ask(neighbour, b, 80) == f"b {NEIGHBOUR}"


async def test_a_vlan_is_made_and_removed(
    host: Namespace, neighbour: Namespace, servers: dict[str, Namespace], tmp_path: Path
) -> None:
    needs(host, "vlan", "id", "7")
    neighbour.run("ip", "link", "add", "wire.10", "link", "wire", "type", "vlan", "id", "10")
    neighbour.run("ip", "address", "add", f"{NEIGHBOUR}/24", "dev", "wire.10")
    neighbour.run("ip", "address", "flush", "dev", "wire")
    neighbour.run("ip", "link", "set", "wire.10", "up")
    async with opened(tmp_path) as networks:
        network = await create(networks, "macvlan", parent="wire.10")
        a = await join(networks, servers, "a", "own")
        assert ask(neighbour, a, 80) == f"a {NEIGHBOUR}"
        await networks.release("a")
        await networks.remove(network)
        assert "wire.10" not in host.run("ip", "link")


async def test_without_a_parent_they_have_each_other(host: Namespace, servers: dict[str, Namespace], tmp_path: Path) -> None:
    needs(host, "dummy")
    async with opened(tmp_path) as networks:
        network = await networks.create(Network("", "own", "macvlan", "", pools=(SUBNET,)))
        a, b = [await join(networks, servers, name, "own") for name in "ab"]
        assert ask(servers["a"], b, 80) == f"b {a}"
        assert servers["a"].run("ip", "route", "show", "default") == ""
        await networks.release("a")
        await networks.release("b")
        await networks.remove(network)
        assert "dm-" not in host.run("ip", "link")


@pytest.mark.parametrize(("driver", "kind"), [("ipvlan", "ipvlan"), ("macvlan", "vlan"), ("macvlan", "dummy")])
async def test_what_the_kernel_lacks_is_said(
    host: Namespace, servers: dict[str, Namespace], tmp_path: Path, driver: str, kind: str
) -> None:
    if has(host, kind, *(("id", "7") if kind == "vlan" else ())):
        pytest.skip(f"this kernel has {kind}")
    async with opened(tmp_path) as networks:
        with pytest.raises(Internal, match=r"operation not supported \(this kernel has no "):
            await create(networks, driver, parent={"vlan": "wire.10", "dummy": ""}.get(kind, "wire"))
            await join(networks, servers, "a", "own")
