"""The contract of `network.drivers.Driver`: what a network and its endpoints go through is the same whatever the driver.

A kernel that is not there stands in; tests/kernel sends packets.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compat_engine.config import Config
from compat_engine.errors import EngineError, Forbidden, NotFound
from compat_engine.network.claims import EndpointRequest
from compat_engine.network.drivers import DRIVERS, driver_of
from compat_engine.network.fake import FakeEdge
from compat_engine.network.model import PREDEFINED, Network, Pool, PortRequest
from compat_engine.network.netlink import Link
from compat_engine.network.networks import Networks
from compat_engine.network.plan import DerivedPlan, VethPlan
from compat_engine.store.records import Delete, Records
from compat_engine.store.tree import Tree

CONFIG = Config(bridge="cetst0", bip="10.231.1.1/24")
SUBNET = Pool("10.232.0.0/24", gateway="10.232.0.9")
PREFIXES = {"bridge": "br-", "macvlan": "dm-", "ipvlan": "di-"}  # of what stands for a network on the host
PID = 42
makeable = pytest.mark.parametrize("driver", PREFIXES)
with_parents = pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])


@dataclass
class Bench:
    networks: Networks
    edge: FakeEdge

    async def create(self, driver: str, name: str = "own", **changes: object) -> Network:
        return await self.networks.create(Network("", name, driver, "", **{"pools": (SUBNET,), **changes}))  # type: ignore[arg-type]

    def inside(self) -> list[VethPlan | DerivedPlan]:
        return self.edge.namespaces.get(PID, [])

    def on_host(self, driver: str) -> list[str]:
        return [name for name in self.edge.host_links if name.startswith((PREFIXES[driver], "wire."))]


@asynccontextmanager
async def opened(path: Path, edge: FakeEdge, forgetting: str = "") -> AsyncIterator[Bench]:
    records = Records(path / "state.db")
    try:
        if forgetting:
            await records.commit(Delete("networks", forgetting))
        networks = await Networks.open(CONFIG, records, Tree(path, path), edge)
        try:
            yield Bench(networks, edge)
        finally:
            await networks.close()
    finally:
        records.close()


def host() -> FakeEdge:
    return FakeEdge(host_links={"wire": Link(7, "wire", up=True)})


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(tmp_path, host()) as made:
        yield made


def test_every_driver_is_covered() -> None:
    assert set(DRIVERS) == {*PREFIXES, "host", "null"}


@makeable
async def test_from_create_to_remove(bench: Bench, driver: str) -> None:
    before = dict(bench.edge.host_links)
    network = await bench.create(driver)
    assert len(bench.on_host(driver)) == 1
    endpoint = await bench.networks.reserve("c", "own", name="c", asked=EndpointRequest(ip="10.232.0.5"))
    await bench.networks.connect(endpoint, PID)
    (interface,) = bench.inside()
    assert (interface.name, interface.addresses[0]) == ("eth0", "10.232.0.5/24")
    with pytest.raises(Forbidden, match="has active endpoints"):
        await bench.networks.remove(network)
    await bench.networks.disconnect("c", network, PID)
    assert bench.inside() == []
    again = await bench.networks.reserve("d", "own", name="d", asked=EndpointRequest(ip="10.232.0.5"))
    await bench.networks.release("d")
    assert again.id != endpoint.id
    await bench.networks.remove(network)
    assert bench.edge.host_links == before


@makeable
async def test_a_plan_depends_on_its_records_alone(bench: Bench, driver: str) -> None:
    network = await bench.create(driver)
    endpoint = await bench.networks.reserve("c", "own", name="c")
    made = driver_of(driver)
    stored = type(endpoint).load(endpoint.dump())
    assert made.endpoint(Network.load(network.dump()), stored) == made.endpoint(network, endpoint)
    assert made.host(Network.load(network.dump())) == made.host(network)


@makeable
async def test_an_internal_network_has_no_way_out(bench: Bench, driver: str) -> None:
    await bench.create(driver, internal=True)
    endpoint = await bench.networks.reserve("c", "own", name="c")
    await bench.networks.connect(endpoint, PID)
    assert bench.inside()[0].gateways == ()
    assert not endpoint.default_route


@makeable
async def test_ports_are_published_where_the_driver_can(bench: Bench, driver: str) -> None:
    await bench.create(driver)
    asked = EndpointRequest(ports=[PortRequest(80, "tcp", "127.0.0.1", "")])
    endpoint = await bench.networks.reserve("c", "own", name="c", asked=asked)
    assert bool(endpoint.ports) == driver_of(driver).publishes


@makeable
@pytest.mark.parametrize("step", ["links", "add_bridge", "add_dummy"])
async def test_a_network_that_cannot_be_made_leaves_nothing(bench: Bench, driver: str, step: str) -> None:
    before = dict(bench.edge.host_links)
    bench.edge.refuse = step
    try:
        network = await bench.create(driver)
    except EngineError:
        bench.edge.refuse = ""
        with pytest.raises(NotFound):
            bench.networks.find("own")
    else:
        bench.edge.refuse = ""
        await bench.networks.remove(network)
    assert bench.edge.host_links == before


@makeable
async def test_networks_outlive_the_daemon(tmp_path: Path, driver: str) -> None:
    edge = host()
    async with opened(tmp_path, edge) as bench:
        network = await bench.create(driver)
        made = bench.on_host(driver)
    edge.host_links = host().host_links  # after a reboot
    async with opened(tmp_path, edge) as bench:
        assert bench.on_host(driver) == made
    async with opened(tmp_path, edge, forgetting=network.id) as bench:
        assert bench.on_host(driver) == []


@pytest.mark.parametrize(("driver", "name"), [("bridge", "bridge"), ("host", "host"), ("null", "none")])
async def test_predefined_networks_have_the_drivers_of_their_own(bench: Bench, driver: str, name: str) -> None:
    assert name in PREDEFINED
    assert bench.networks.find(name).driver == driver
    if driver != "bridge":
        with pytest.raises(Forbidden, match=f'only one instance of "{driver}" network is allowed'):
            await bench.create(driver)


@with_parents
async def test_a_parent_of_the_hosts_stays(bench: Bench, driver: str) -> None:
    network = await bench.create(driver, options={"parent": "wire"})
    endpoint = await bench.networks.reserve("c", "own", name="c")
    await bench.networks.connect(endpoint, PID)
    assert (bench.inside()[0].gateways, endpoint.default_route) == (("10.232.0.9",), True)
    await bench.networks.release("c")
    await bench.networks.remove(network)
    assert "wire" in bench.edge.host_links


@with_parents
async def test_a_vlan_is_made_and_removed(bench: Bench, driver: str) -> None:
    network = await bench.create(driver, options={"parent": "wire.10"})
    assert bench.edge.host_links["wire.10"].kind == "vlan"
    await bench.networks.remove(network)
    assert "wire.10" not in bench.edge.host_links


@with_parents
@pytest.mark.parametrize(
    ("parent", "message"),
    [
        ("lo", "loopback interface is not a valid {driver} parent link"),
        ("nowhere", "invalid subinterface vlan name nowhere, example formatting is eth0.10"),
        ("nowhere.10", "-o parent interface was not found on the host: nowhere"),
        ("wire.x", "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)"),
        ("wire.4095", "vlan id must be between 1-4094, received: 4095"),
        ("wire.1.2", "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received wire.1.2"),
    ],
)
async def test_no_parent(bench: Bench, driver: str, parent: str, message: str) -> None:
    with pytest.raises(EngineError) as raised:
        await bench.create(driver, options={"parent": parent})
    assert str(raised.value) == message.format(driver=driver)


@with_parents
async def test_one_network_a_parent(bench: Bench, driver: str) -> None:
    first = await bench.create(driver, options={"parent": "wire"})
    with pytest.raises(EngineError) as raised:
        await bench.create(driver, "second", options={"parent": "wire"}, pools=(Pool("10.233.0.0/24"),))
    assert str(raised.value) == f"network {PREFIXES[driver]}{first.id[:12]} is already using parent interface wire"


@pytest.mark.parametrize(
    ("driver", "option", "message"),
    [
        ("macvlan", "macvlan_mode", "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default"),
        ("ipvlan", "ipvlan_mode", "requested ipvlan mode 'x' is not valid, 'l2' mode is the ipvlan driver default"),
        ("ipvlan", "ipvlan_flag", "requested ipvlan flag 'x' is not valid, 'bridge' is the ipvlan driver default"),
    ],
)
async def test_no_mode(bench: Bench, driver: str, option: str, message: str) -> None:
    with pytest.raises(EngineError) as raised:
        await bench.create(driver, options={option: "x"})
    assert str(raised.value) == message


async def test_in_the_l3_modes_the_interface_is_the_gateway(bench: Bench) -> None:
    await bench.create("ipvlan", options={"parent": "wire", "ipvlan_mode": "l3"})
    endpoint = await bench.networks.reserve("c", "own", name="c")
    await bench.networks.connect(endpoint, PID)
    assert bench.inside()[0].gateways == ("0.0.0.0",)
    with pytest.raises(EngineError, match="ipvlan interfaces do not support custom mac address assignment"):
        await bench.networks.reserve("d", "own", name="d", asked=EndpointRequest(mac="02:42:00:00:00:01"))


@makeable
async def test_several_subnets_of_a_family(tmp_path: Path, driver: str) -> None:
    """An address comes from the subnet it is asked of, else from the first that has one, with that subnet's gateway."""
    pools = (
        Pool("10.232.0.0/30"),
        Pool("10.234.0.0/24", gateway="10.234.0.9", auxiliary={"a": "10.234.0.1"}),
        Pool("fd00:9::/64"),
    )
    changes: dict[str, Any] = {"options": {"parent": "wire"}, "pools": pools, "enable_ipv6": True}
    edge = host()
    async with opened(tmp_path, edge) as bench:
        if driver == "bridge":
            with pytest.raises(Forbidden, match="bridge driver doesn't support multiple subnets"):
                await bench.create(driver, **changes)
            return
        with pytest.raises(Forbidden, match="Pool overlaps"):
            await bench.create(driver, **{**changes, "pools": (*pools, Pool("10.234.0.0/25"))})
        network = await bench.create(driver, **changes)
        assert network.pools == pools
        with pytest.raises(Forbidden, match="Pool overlaps"):
            await bench.create(driver, "second", pools=(Pool("10.234.0.128/25"),))
        asked = await bench.networks.reserve("a", "own", name="a", asked=EndpointRequest(ip="10.234.0.7"))
        found = [await bench.networks.reserve(name, "own", name=name) for name in "bc"]
        assert [(one.ip, one.prefix_len, one.gateway) for one in (asked, *found)] == [
            ("10.234.0.7", 24, "10.234.0.9"),
            ("10.232.0.2", 30, "10.232.0.1"),
            ("10.234.0.2", 24, "10.234.0.9"),
        ]
        assert {one.ipv6_gateway for one in (asked, *found)} == {"fd00:9::1"}
        await bench.networks.release("b")
    async with opened(tmp_path, edge) as bench:
        assert bench.networks.find("own") == network
        assert (await bench.networks.reserve("d", "own", name="d")).ip == "10.232.0.2"
        with pytest.raises(Forbidden, match="Address already in use"):
            await bench.networks.reserve("e", "own", name="e", asked=EndpointRequest(ip="10.234.0.7"))
