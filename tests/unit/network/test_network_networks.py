"""Networks over a kernel that is not there: names, records, crashes, races."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from compat_engine.config import Config
from compat_engine.errors import Conflict, Forbidden, Internal, InvalidParameter, NotFound
from compat_engine.network.claims import EndpointRequest
from compat_engine.network.dataplane import REPAIR_PAUSE
from compat_engine.network.fake import FakeEdge
from compat_engine.network.model import Network, Pool, PortRequest
from compat_engine.network.netlink import Link
from compat_engine.network.networks import Networks
from compat_engine.store.records import Delete, Records
from compat_engine.store.tree import Tree

CONFIG = Config(bridge="cetst0", bip="10.231.1.1/24")


@asynccontextmanager
async def opened(path: Path, edge: FakeEdge, config: Config = CONFIG) -> AsyncIterator[Networks]:
    records = Records(path / "state.db")
    try:
        networks = await Networks.open(config, records, Tree(path, path), edge)
        try:
            yield networks
        finally:
            await networks.close()
    finally:
        records.close()


def draft(name: str, **changes: object) -> Network:
    return Network("", name, "bridge", "", **changes)  # type: ignore[arg-type]


async def test_predefined_networks_keep_their_ids(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeEdge()) as networks:
        before = {network.name: network.id for network in networks.list()}
    async with opened(tmp_path, FakeEdge()) as networks:
        assert {network.name: network.id for network in networks.list()} == before
        assert set(before) == {"bridge", "host", "none"}
        assert networks.find("bridge").gateway == "10.231.1.1"


async def test_without_a_default_bridge(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeEdge(), Config(bridge="none")) as networks:
        with pytest.raises(NotFound, match="network bridge not found"):
            networks.find("bridge")


async def test_endpoint_from_reserve_to_release(tmp_path: Path) -> None:
    edge = FakeEdge()
    async with opened(tmp_path, edge) as networks:
        asked = EndpointRequest(ports=[PortRequest(80, "tcp", "127.0.0.1", "")])
        endpoint = await networks.reserve("c1", "bridge", name="one", asked=asked)
        await networks.connect(endpoint, 42)
        plan = edge.namespaces[42][0]
        assert (plan.addresses, plan.gateways, plan.name) == (("10.231.1.2/24",), ("10.231.1.1",), "eth0")
        assert "add element inet compat-cetst0 published_on { 127.0.0.1 . tcp ." in edge.commands[-1]
        with pytest.raises(Forbidden, match="endpoint with name one already exists in network bridge"):
            await networks.reserve("c1", "bridge", name="one")
        edge.end(42)
        await asyncio.gather(networks.release("c1"), networks.release("c1"))
        assert edge.commands[-1].startswith("delete element")
        assert not networks.endpoints("c1")
        assert (await networks.reserve("c2", "bridge", name="two")).ip == "10.231.1.3"


async def test_fifty_at_once_get_fifty_addresses(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeEdge()) as networks:
        found = await asyncio.gather(
            *(networks.reserve(f"c{n}", "bridge", name=f"n{n}", asked=EndpointRequest(ports=[PortRequest(80)])) for n in range(50))
        )
        assert len({endpoint.ip for endpoint in found}) == 50
        assert len({endpoint.ports[0].host_port for endpoint in found}) == 50


async def test_a_crash_frees_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    edge = FakeEdge()
    async with opened(tmp_path, edge) as networks:
        await networks.create(draft("own"))
        alive = await networks.reserve("alive", "bridge", name="alive", asked=EndpointRequest(ports=[PortRequest(80, "tcp", "127.0.0.1", "")]))
        await networks.connect(alive, 42)
        dead = await networks.reserve("dead", "own", name="dead")
        await networks.connect(dead, 43)
    # Killed; and of "own" the record is gone but not yet the bridge, as in the middle of a remove.
    records = Records(tmp_path / "state.db")
    (document,) = [text for text in (await records.load("networks")).values() if '"own"' in text]
    await records.commit(Delete("networks", Network.load(document).id), Delete("endpoints", dead.key))
    records.close()
    edge.commands.clear()
    async with opened(tmp_path, edge) as networks:
        assert [link.name for link in (await edge.links()).values() if link.kind == "bridge"] == ["cetst0"]
        assert f" : {alive.ip} . 80" in edge.commands[-1]
        assert (await networks.reserve("new", "bridge", name="new")).ip != alive.ip
        await networks.keep({"new"})
        assert not networks.endpoints("alive")


async def test_stray_interfaces_of_our_bridges_are_swept_at_start(tmp_path: Path) -> None:
    edge = FakeEdge()
    async with opened(tmp_path, edge) as networks:
        endpoint = await networks.reserve("c", "bridge", name="c")
        await networks.connect(endpoint, 42)
        await networks.release("c")  # the namespace lives on
        assert endpoint.host_interface in await edge.links()
    async with opened(tmp_path, edge):
        assert endpoint.host_interface not in await edge.links()


async def test_a_flushed_table_is_written_anew(tmp_path: Path) -> None:
    class Flushed(FakeEdge):
        async def nft(self, commands: str) -> None:
            if commands.startswith("add element"):
                raise Internal("No such file or directory")
            await FakeEdge.nft(self, commands)

    edge = Flushed()
    async with opened(tmp_path, edge) as networks:
        endpoint = await networks.reserve("c", "bridge", name="c", asked=EndpointRequest(ports=[PortRequest(80, "tcp", "127.0.0.1", "")]))
        await networks.connect(endpoint, 42)
        assert "add chain inet compat-cetst0 user" in edge.commands[-1]
        assert f" : {endpoint.ip} . 80" in edge.commands[-1]


async def test_losses_are_made_good_at_once_but_not_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a second engine on the same bridge, which takes each of our repairs for a loss of its own."""
    pauses: list[float] = []
    over = asyncio.Event()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await over.wait()

    edge = FakeEdge()
    async with opened(tmp_path, edge):
        before = len(edge.commands)
        monkeypatch.setattr("compat_engine.network.dataplane.asyncio.sleep", pause)
        edge.lost()
        edge.lost()
        while not pauses:
            await _turn()
        edge.lost()
        for _ in range(10):
            await _turn()
        assert (len(edge.commands) - before, pauses) == (1, [REPAIR_PAUSE])
        over.set()
        while len(pauses) < 2:
            await _turn()
        assert len(edge.commands) - before == 2


async def _turn() -> None:
    """The loop's other work, once."""
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)


async def test_create_find_remove(tmp_path: Path) -> None:
    edge = FakeEdge(host_routes=["172.17.0.0/16"])
    async with opened(tmp_path, edge) as networks:
        own = await networks.create(draft("own"))
        assert own.subnet == "172.18.0.0/16"
        assert networks.find(own.id[:6]) == networks.find("own") == own
        with pytest.raises(Conflict, match="network with name own already exists"):
            await networks.create(draft("own"))
        for name in ("bridge", "default"):
            with pytest.raises(Forbidden, match=f"operation is not permitted on predefined {name} network "):
                await networks.create(draft(name))
        with pytest.raises(InvalidParameter, match="invalid name: "):
            await networks.create(draft(" "))
        with pytest.raises(Forbidden, match="bridge is a pre-defined network and cannot be removed"):
            await networks.remove(networks.find("bridge"))
        await networks.reserve("c", "own", name="c")
        with pytest.raises(Forbidden, match=f"error while removing network: network own id {own.id} has active endpoints"):
            await networks.remove(own)
        await networks.release("c")
        await networks.remove(own)
        with pytest.raises(NotFound, match="network own not found"):
            networks.find("own")
        assert len(await edge.links()) == 1


async def test_addresses_asked_for(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeEdge()) as networks:
        pool = Pool("10.77.0.0/29", "", "10.77.0.6", {"router": "10.77.0.1"})
        await networks.create(draft("own", pools=(pool,), internal=True))
        first = await networks.reserve("a", "own", name="a", asked=EndpointRequest("10.77.0.2", mac="02-11-22-33-44-AA"))
        assert (first.ip, first.mac, first.gateway) == ("10.77.0.2", "02:11:22:33:44:aa", "")
        for taken in ("10.77.0.1", "10.77.0.2", "10.77.0.6"):
            with pytest.raises(Forbidden, match="Address already in use"):
                await networks.reserve("b", "own", name="b", asked=EndpointRequest(taken))
        assert [(await networks.reserve(word, "own", name=word)).ip for word in "bcd"] == ["10.77.0.3", "10.77.0.4", "10.77.0.5"]
        with pytest.raises(Internal, match="no available IPv4 addresses on this network's address pools: own"):
            await networks.reserve("e", "own", name="e")


async def test_the_second_network_inherits_the_default_route(tmp_path: Path) -> None:
    edge = FakeEdge()
    async with opened(tmp_path, edge) as networks:
        own = await networks.create(draft("own"))
        for word in ("bridge", "own"):
            await networks.connect(await networks.reserve("c", word, name="c"), 42)
        assert [(plan.name, bool(plan.gateways)) for plan in edge.namespaces[42]] == [("eth0", True), ("eth1", False)]
        await networks.disconnect("c", networks.find("bridge"), 42)
        assert [(plan.name, plan.gateways) for plan in edge.namespaces[42]] == [("eth1", (own.gateway,))]


async def test_a_refusing_kernel_leaves_no_network(tmp_path: Path) -> None:
    edge = FakeEdge()
    async with opened(tmp_path, edge) as networks:
        edge.refuse = "add_bridge"
        with pytest.raises(Internal):
            await networks.create(draft("own"))
        with pytest.raises(NotFound):
            networks.find("own")


async def test_the_usual_address_gives_way_to_the_host(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeEdge(host_routes=["172.17.3.0/24"]), Config(bridge="cetst0")) as networks:
        assert networks.find("bridge").subnet == "172.18.0.0/16"


async def test_a_bridge_that_is_there_is_used_as_it_is(tmp_path: Path) -> None:
    edge = FakeEdge(host_links={"cetst0": Link(7, "cetst0", kind="bridge")}, host_addresses={"cetst0": ["10.9.0.3/16"]})
    async with opened(tmp_path, edge) as networks:
        assert (networks.find("bridge").subnet, networks.find("bridge").gateway) == ("10.9.0.0/16", "10.9.0.3")


async def test_the_default_route_goes_by_priority_then_by_name(tmp_path: Path) -> None:
    edge = FakeEdge()
    async with opened(tmp_path, edge) as networks:
        for name in ("a", "b", "z"):
            await networks.create(draft(name))

        async def join(name: str, priority: int = 0) -> None:
            endpoint = await networks.reserve("c", name, name="c", asked=EndpointRequest(gw_priority=priority))
            await networks.connect(endpoint, 42)

        def way_out() -> list[str]:
            routed = {gateway for plan in edge.namespaces[42] for gateway in plan.gateways}
            ours = [name for name, endpoint in networks.endpoints("c").items() if endpoint.default_route]
            assert routed == {networks.endpoints("c")[name].gateway for name in ours}
            return ours

        await join("b")
        await join("a")
        assert way_out() == ["a"]
        await join("z", 1)
        assert way_out() == ["z"]
        await networks.disconnect("c", networks.find("z"), 42)
        assert way_out() == ["a"]
        await networks.disconnect("c", networks.find("a"), 42)
        assert way_out() == ["b"]


async def test_link_local_addresses_are_link_local(tmp_path: Path) -> None:
    async with opened(tmp_path, FakeEdge()) as networks:
        with pytest.raises(InvalidParameter, match=r"invalid link local IP address: 1\.2\.3\.4"):
            await networks.reserve("c", "bridge", name="c", asked=EndpointRequest(link_local=["1.2.3.4"]))
        assert networks.members(networks.find("bridge").id) == []
