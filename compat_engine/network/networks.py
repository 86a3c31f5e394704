"""All networks of this daemon and the endpoints in them: names, records, and the order in which things happen.

An endpoint lives from `reserve`, before the container's namespace exists, to `release`, after its exit. What it gets is claimed
in memory at once (claims.py); its record follows before the container may use it, so that after a crash the claims can be derived
from the records; then the kernel learns of it (dataplane.py).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from socket import AF_INET, AF_INET6
from time import time_ns

from compat_engine.config import Config
from compat_engine.errors import Conflict, EngineError, Forbidden, InvalidParameter, NotFound
from compat_engine.ids import new_id
from compat_engine.network.claims import Claims, EndpointRequest, publishes
from compat_engine.network.dataplane import Dataplane
from compat_engine.network.default import place_default_bridge
from compat_engine.network.dns.resolvers import Asked, Resolvers
from compat_engine.network.drivers import driver_of
from compat_engine.network.drivers.bridge import ICC, boolean
from compat_engine.network.edge import Edge, LinuxEdge
from compat_engine.network.ipam import Subnet, check_pools, unique_local_pool
from compat_engine.network.model import BRIDGE, HOST, NONE, PREDEFINED, Endpoint, Network, PortRequest, Reach
from compat_engine.network.placement import Pools, placed
from compat_engine.network.plan import HostPlan
from compat_engine.network.relay import Relays
from compat_engine.network.unfiltered import UnfilteredEdge
from compat_engine.store.records import Delete, Put, Records
from compat_engine.store.tree import Tree

log = logging.getLogger(__name__)
_NOTHING_SPECIAL = EndpointRequest()
NETWORKS, ENDPOINTS = "networks", "endpoints"


class Networks:
    """Open with `await Networks.open(...)`, end with `close()`: bridges, rules and running containers stay. `teardown()` takes
    bridges and rules off the host."""

    def __init__(self, config: Config, records: Records, run_records: Records, edge: Edge) -> None:
        self._config, self._edge = config, edge
        self._records, self._run_records = records, run_records  # networks; endpoints, which end with the boot at the latest
        self._networks: dict[str, Network] = {}
        self._pools = Pools.of(config.default_address_pools, unique_local_pool(str(config.data_root)))
        self._claims = Claims(config.publish_via)
        self._relays = Relays((AF_INET6,) if config.iptables else (AF_INET, AF_INET6))
        self._resolvers = Resolvers(edge)
        self._dataplane = Dataplane(edge, config.table, config.ip_forward)
        self._leaving: set[str] = set()  # ids of endpoints being released
        self._changing = asyncio.Lock()  # create and remove of networks, one at a time

    @classmethod
    async def open(cls, config: Config, records: Records, tree: Tree, edge: Edge | None = None) -> "Networks":
        """Load the records, make what they describe (default bridge, networks, ruleset), remove what a crash left behind.

        Endpoints in the records count as alive until `keep` says otherwise. Raises Internal when the host cannot do it.
        """
        tree.run_database.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        networks = cls(config, records, Records(tree.run_database, volatile=True), edge or _edge(config))
        try:
            await networks._load()
            plans = {network.id: plan for network in networks._networks.values() if (plan := _on_host(network))}
            await networks._dataplane.restore(plans, networks._claims.all())
            for endpoint in networks._claims.all():
                await networks._relays.open(endpoint, networks._claims.sockets(endpoint))
                networks._resolvers.join(endpoint)
        except BaseException:
            await networks.close()
            raise
        return networks

    async def close(self) -> None:
        self._resolvers.close()
        self._relays.close_all()
        self._claims.close()
        await self._dataplane.close()
        self._run_records.close()

    async def teardown(self) -> None:
        """Remove bridges and table from the host; the records stay. For the uninstaller and for tests."""
        await self._dataplane.teardown()

    # --- networks

    def list(self) -> Sequence[Network]:
        return [*self._networks.values()]

    def find(self, word: str) -> Network:
        """By full id, name, or unique prefix of an id, in this order. Raises NotFound, InvalidParameter when ambiguous."""
        if found := self._networks.get(word):
            return found
        if named := [network for network in self._networks.values() if network.name == word]:
            return named[0]
        matches = [network for id, network in self._networks.items() if word and id.startswith(word)]
        if len(matches) > 1:
            raise InvalidParameter(f"network {word} is ambiguous ({len(matches)} matches found based on ID prefix)")
        if not matches:
            raise NotFound(f"network {word} not found")
        return matches[0]

    async def create(self, draft: Network) -> Network:
        """Make a network. The draft's id, created, subnets and gateways are filled in.

        Raises InvalidParameter, Conflict (name taken), Forbidden (predefined, overlap), NotFound (driver), NotImplementedHere.
        """
        _check_name(draft.name)
        check_pools(draft.ipam_driver, draft.pools, draft.enable_ipv6)
        driver = driver_of(draft.driver)
        async with self._changing:
            if any(network.name == draft.name for network in self._networks.values()):
                raise Conflict(f"network with name {draft.name} already exists")
            options = {**self._config.default_network_opts.get(draft.driver, {}), **draft.options}
            network = replace(draft, id=new_id(), created=_now(), options=options)
            driver.validate(network, self.list())
            if driver.addresses:
                routes = [ip_network(route) for route in await self._edge.routes()]
                network = placed(network, self._pools, self._spaces(), routes)
            try:
                await self._put(network)
                if plan := _on_host(network):
                    await self._dataplane.add_network(network.id, plan)
            except BaseException:
                await _quietly(f"undo of network {network.name}", self._forget(network))
                raise
        return network

    async def remove(self, network: Network) -> None:
        """Raises Forbidden when it is predefined or has endpoints, NotFound when it went meanwhile."""
        if network.name in PREDEFINED:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        async with self._changing:
            if network.id not in self._networks:
                raise NotFound(f"network {network.name} not found")
            if self.members(network.id):
                where = f"network {network.name} id {network.id}"
                raise Forbidden(f"error while removing network: {where} has active endpoints")
            await self._forget(network)

    # --- endpoints

    def endpoints(self, container_id: str) -> dict[str, Endpoint]:
        """Network name -> endpoint, in the order of their reservation."""
        return {endpoint.network: endpoint for endpoint in self._claims.of_container(container_id)}

    def members(self, network_id: str) -> Sequence[Endpoint]:
        return self._claims.of_network(network_id)

    async def reserve(
        self,
        container_id: str,
        network_word: str,
        *,
        name: str,
        asked: EndpointRequest = _NOTHING_SPECIAL,
        dns_names: Sequence[str] = (),
    ) -> Endpoint:
        """Addresses, MAC and host ports for a container about to start; nothing in the kernel yet but the ports' sockets.

        name: the container's. Of its endpoints in networks with a gateway the one of the lowest rank provides its default route,
        one for each family. Raises NotFound (network), Forbidden (address taken, already connected), Internal (no address left,
        port taken), InvalidParameter. Undo with `release` (all networks) or `disconnect` (one).
        """
        network = self.find(network_word)
        if network.config_only:
            raise Forbidden(f"cannot create endpoint on configuration network {network.name}")
        draft = Endpoint("", container_id, name, network.name, network.id, dns_names=tuple(dns_names))
        endpoint = self._claims.claim(network, draft, asked)
        try:
            await self._run_records.commit(Put(ENDPOINTS, endpoint.key, endpoint.dump()))
        except BaseException:
            await _quietly(f"undo of endpoint {endpoint.id}", self._release([endpoint]))
            raise
        return endpoint

    async def connect(self, endpoint: Endpoint, pid: int) -> None:
        """Put the endpoint into the network namespace of `pid`, open its published ports, announce its names. Raises Internal."""
        network = self._networks[endpoint.network_id]
        await self._dataplane.connect(endpoint, driver_of(network.driver).endpoint(network, endpoint), pid)
        await self._take_over(endpoint)
        await self._relays.open(endpoint, self._claims.sockets(endpoint))
        self._resolvers.join(endpoint)

    async def resolve(self, container_id: str, pid: int, asked: Asked) -> None:
        """Serve DNS at 127.0.0.11 in the network namespace of `pid` until its endpoints are released; or heed what is asked now.

        Raises Internal.
        """
        await self._resolvers.serve(container_id, pid, asked)

    async def rename(self, container_id: str, name: str, dns_names: Mapping[str, Sequence[str]]) -> None:
        """A container's new name, and the names each network (by id) knows it by from now on."""
        for endpoint in self._claims.of_container(container_id):
            renamed = replace(endpoint, container_name=name, dns_names=tuple(dns_names[endpoint.network_id]))
            await self._replace(renamed)

    async def loopback(self, pid: int) -> None:
        """lo up, for a container in no network at all."""
        await self._edge.loopback(pid)

    async def release(self, container_id: str) -> None:
        """After the exit (or a failed start): addresses and ports are free again, in every network."""
        await self._release(self._claims.of_container(container_id))

    async def disconnect(self, container_id: str, network: Network, pid: int) -> None:
        """Take one endpoint out of the running container `pid`; others provide the default routes then. Raises NotFound."""
        endpoint = self._claims.get(container_id, network.id)
        if not endpoint:
            raise NotFound(f"container {container_id} is not connected to network {network.name}")
        await self._dataplane.unplug(endpoint, pid)
        await self._release([endpoint])
        if endpoint.default_route and (heir := self._first(container_id, lambda other: bool(other.gateway))):
            await self._edge.default_route(heir.gateway, heir.interface, pid)
            await self._replace(replace(heir, default_route=True))
        if endpoint.default_route6 and (heir := self._first(container_id, lambda other: bool(other.ipv6_gateway))):
            await self._edge.default_route(heir.ipv6_gateway, heir.interface, pid)
            await self._replace(replace(heir, default_route6=True))

    async def republish(self, container_id: str, ports: Sequence[PortRequest]) -> None:
        """After connect or disconnect: the first network that can, in the order of default routes, carries the published ports.

        Raises Internal when one of them is taken.
        """
        carrier = self._first(container_id, lambda endpoint: publishes(self._networks[endpoint.network_id]))
        for other in self._claims.of_container(container_id):
            if other.ports and other != carrier:
                self._relays.close(other)
                await self._dataplane.close_ports([other])
                await self._replace(self._claims.unpublished(other))
        if carrier and ports and not carrier.ports:
            carrier = self._claims.published(self._networks[carrier.network_id], carrier, ports)
            await self._replace(carrier)
            await self._dataplane.open_ports(carrier)
            await self._relays.open(carrier, self._claims.sockets(carrier))

    async def link(self, container_id: str, reachable: Sequence[Reach]) -> None:
        """All that a container on the default bridge may reach of others there, where they do not reach each other anyway."""
        network = self._named(BRIDGE)
        endpoint = network and self._claims.get(container_id, network.id)
        if not network or not endpoint or boolean(network, ICC, True) or endpoint.links == tuple(reachable):
            return
        linked = replace(endpoint, links=tuple(reachable))
        await self._replace(linked)
        await self._dataplane.relink(endpoint, linked)

    async def keep(self, running: Collection[str]) -> None:
        """After recovery: release the endpoints of every container that is not in `running`."""
        await self._release([endpoint for endpoint in self._claims.all() if endpoint.container not in running])

    def _first(self, container_id: str, having: Callable[[Endpoint], bool]) -> Endpoint | None:
        able = [endpoint for endpoint in self._claims.of_container(container_id) if having(endpoint)]
        return min(able, key=lambda endpoint: endpoint.rank, default=None)

    async def _take_over(self, endpoint: Endpoint) -> None:
        """The default routes it has are no longer those of others."""
        for other in self._claims.of_container(endpoint.container):
            ipv4, ipv6 = other.default_route and endpoint.default_route, other.default_route6 and endpoint.default_route6
            if other.id != endpoint.id and (ipv4 or ipv6):
                kept, kept6 = other.default_route and not ipv4, other.default_route6 and not ipv6
                await self._replace(replace(other, default_route=kept, default_route6=kept6))

    async def _replace(self, endpoint: Endpoint) -> None:
        """The same endpoint in another role, or with other names."""
        await self._run_records.commit(Put(ENDPOINTS, endpoint.key, endpoint.dump()))
        self._claims.replace(endpoint)
        self._resolvers.join(endpoint)

    async def _release(self, endpoints: Sequence[Endpoint]) -> None:
        """Once for each, whoever else asks for it meanwhile.

        The claims go last, when nothing refers to address and ports any more. But they do go: what a failure leaves in the rules
        the next change rewrites, and what it leaves in the records the next start drops.
        """
        leaving = [endpoint for endpoint in endpoints if endpoint.id not in self._leaving]
        if not leaving:
            return
        self._leaving.update(endpoint.id for endpoint in leaving)
        for endpoint in leaving:
            self._resolvers.leave(endpoint)
        try:
            await self._dataplane.release(leaving)
            await self._run_records.commit(*(Delete(ENDPOINTS, endpoint.key) for endpoint in leaving))
        finally:
            for endpoint in leaving:
                self._relays.close(endpoint)
                self._claims.release(endpoint)
                self._leaving.discard(endpoint.id)

    # --- making networks

    def _spaces(self, but: str = "") -> Sequence[Subnet]:
        """The subnets of all networks."""
        return [space for network in self._networks.values() if network.id != but for space in network.spaces]

    async def _put(self, network: Network) -> None:
        self._add(network)  # first, as its name and subnet are taken from here on
        await self._records.commit(Put(NETWORKS, network.id, network.dump()))

    def _add(self, network: Network) -> None:
        self._networks[network.id] = network
        self._claims.add_network(network)

    async def _forget(self, network: Network) -> None:
        """Record first: what is left in the kernel after a crash in between, the next start removes."""
        self._networks.pop(network.id)  # no reservation from here on
        try:
            await self._records.commit(Delete(NETWORKS, network.id))
        except BaseException:
            self._networks[network.id] = network
            raise
        self._claims.remove_network(network)
        await self._dataplane.remove_network(network.id)

    # --- at start

    async def _load(self) -> None:
        for document in (await self._records.load(NETWORKS)).values():
            self._add(Network.load(document))
        for name, driver in ((HOST, "host"), (NONE, "null")):
            if not self._named(name):
                await self._put(Network(new_id(), name, driver, _now()))
        await self._load_default_bridge()
        for document in (await self._run_records.load(ENDPOINTS)).values():
            self._claims.restore(Endpoint.load(document))

    async def _load_default_bridge(self) -> None:
        known = self._named(BRIDGE)
        if self._config.bridge == "none":
            if known:
                self._networks.pop(known.id)  # the record stays, and with it the network's id
            return
        record = known or Network(new_id(), BRIDGE, "bridge", _now())
        network = await place_default_bridge(self._config, self._edge, record, self._spaces(but=record.id), self._pools)
        if network != known:
            await self._put(network)

    def _named(self, name: str) -> Network | None:
        return next((network for network in self._networks.values() if network.name == name), None)


def _edge(config: Config) -> Edge:
    return LinuxEdge() if config.iptables else UnfilteredEdge(config.table)


def _on_host(network: Network) -> HostPlan | None:
    return driver_of(network.driver).host(network)


async def _quietly(what: str, undo: Awaitable[None]) -> None:
    """An undo that fails must not hide why there was something to undo."""
    try:
        await undo
    except EngineError as error:
        log.warning("%s: %s", what, error)


def _check_name(name: str) -> None:
    if not name.strip():
        raise InvalidParameter(f"invalid name: {name}")
    if name in (*PREDEFINED, "default"):
        raise Forbidden(f"operation is not permitted on predefined {name} network ")


def _now() -> str:
    nanoseconds = time_ns()
    whole = datetime.fromtimestamp(nanoseconds // 10**9, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09d}Z"
