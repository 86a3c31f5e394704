"""All networks of this daemon and the endpoints in them.

Addresses and ports are claimed in memory at once, without waiting, so that no two starts get the same; the endpoint's record
follows before the container may use it. After a crash the claims are derived from the records again. An endpoint lives from
`reserve`, before the container's namespace exists, to `release`, after its exit; its veth dies with the namespace.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from time import time_ns

from compat_engine.config import Config
from compat_engine.errors import Conflict, EngineError, Forbidden, Internal, InvalidParameter, NotFound
from compat_engine.ids import new_id
from compat_engine.network import firewall
from compat_engine.network.default import place_default_bridge
from compat_engine.network.drivers import driver_of
from compat_engine.network.drivers.bridge import HOST_BINDING, INTERFACE_PREFIX
from compat_engine.network.edge import Edge, LinuxEdge
from compat_engine.network.ipam import (
    DEFAULT_POOLS,
    Leases,
    Subnet,
    check_pools,
    choose_subnet,
    default_gateway,
    mac_of,
    refuse_overlap,
)
from compat_engine.network.model import BRIDGE, HOST, NONE, Endpoint, Network, Pool, PortRequest
from compat_engine.network.plan import BridgePlan, LoopbackPlan, VethPlan
from compat_engine.network.ports import Ports
from compat_engine.store.records import Delete, Put, Records
from compat_engine.store.tree import Tree

log = logging.getLogger(__name__)
NETWORKS, ENDPOINTS = "networks", "endpoints"
SWEEP_DELAY = 3.0  # seconds; a dying namespace takes its veth along within tens of milliseconds


class Networks:
    """Open with `await Networks.open(...)`, end with `close()`: bridges, rules and running containers stay. `teardown()` removes
    them from the host."""

    def __init__(self, config: Config, records: Records, edge: Edge) -> None:
        self._config, self._records, self._edge = config, records, edge
        self._networks: dict[str, Network] = {}
        self._endpoints: dict[str, Endpoint] = {}  # by Endpoint.key
        self._leases: dict[str, Leases] = {}  # by network id
        self._ports = Ports()
        self._connected: set[str] = set()  # keys of endpoints whose ports are in the ruleset
        self._changing = asyncio.Lock()  # create and remove of networks, one at a time
        self._sweeper: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, config: Config, records: Records, tree: Tree, edge: Edge | None = None) -> "Networks":
        """Load the records, make what they describe (default bridge, networks, ruleset), remove what a crash left behind.

        Endpoints in the records count as alive until `keep` says otherwise. Raises Internal when the host cannot do it.
        """
        networks = cls(config, records, edge or LinuxEdge())
        try:
            await networks._load()
            await networks._reconcile()
        except BaseException:
            await networks.close()
            raise
        return networks

    async def close(self) -> None:
        if self._sweeper:
            self._sweeper.cancel()
        self._ports.close()
        await self._edge.close()

    async def teardown(self) -> None:
        """Remove bridges and table from the host; the records stay. For the uninstaller and for tests."""
        await self._edge.nft(firewall.remove_table(self._config.table))
        for plan in self._bridges():
            await self._edge.delete_link(plan.name)

    # --- networks

    def list(self) -> list[Network]:
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
        """Make a network. The draft's id, created, subnet and gateway are filled in.

        Raises InvalidParameter, Conflict (name taken), Forbidden (predefined, overlap), NotFound (driver), NotImplementedHere.
        """
        _check_name(draft.name)
        check_pools(draft.ipam_driver, draft.pools)
        driver = driver_of(draft.driver)
        async with self._changing:
            if any(network.name == draft.name for network in self._networks.values()):
                raise Conflict(f"network with name {draft.name} already exists")
            network = replace(draft, id=new_id(), created=_now())
            driver.validate(network, self.list())
            if driver.addresses and not network.config_only:
                network = self._place(network, await self._routes())
            await self._records.commit(Put(NETWORKS, network.id, network.dump()))
            self._add(network)
            try:
                await self._realise(network)
            except BaseException:
                await self._forget(network)
                raise
        return network

    async def remove(self, network: Network) -> None:
        """Raises Forbidden when it is predefined or has endpoints."""
        if network.predefined:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        async with self._changing:
            if network.id not in self._networks:
                raise NotFound(f"network {network.name} not found")
            if self.members(network.id):
                raise Forbidden(f"error while removing network: network {network.name} id {network.id} has active endpoints")
            await self._forget(network)

    # --- endpoints

    def endpoints(self, container_id: str) -> dict[str, Endpoint]:
        """Network name -> endpoint, in the order of their reservation."""
        return {endpoint.network: endpoint for endpoint in self._endpoints.values() if endpoint.container == container_id}

    def members(self, network_id: str) -> Sequence[Endpoint]:
        return [endpoint for endpoint in self._endpoints.values() if endpoint.network_id == network_id]

    async def reserve(
        self,
        container_id: str,
        network_word: str,
        *,
        name: str,
        ip: str = "",
        mac: str = "",
        ports: Sequence[PortRequest] = (),
        dns_names: Sequence[str] = (),
    ) -> Endpoint:
        """Address, MAC and host ports for a container about to start; nothing in the kernel yet but the ports' sockets.

        name: the container's. ip, mac: asked for, "" to choose. The container's first endpoint in a network with a gateway
        provides its default route. Raises NotFound (network), Forbidden (address taken, already connected), Internal (no address
        left, port taken), InvalidParameter. Undo with `release` (all networks) or `disconnect` (one).
        """
        network = self.find(network_word)
        endpoint = self._claim(network, container_id, name, ip, mac, dns_names)
        try:
            endpoint = self._publish(network, endpoint, ports)
            await self._records.commit(Put(ENDPOINTS, endpoint.key, endpoint.dump()))
        except BaseException:
            self._unclaim(self._endpoints[endpoint.key])
            raise
        return endpoint

    async def connect(self, endpoint: Endpoint, pid: int) -> None:
        """Put the endpoint into the network namespace of `pid`, then open its published ports. Raises Internal."""
        network = self._networks[endpoint.network_id]
        plan = driver_of(network.driver).endpoint(network, endpoint)
        match plan:
            case VethPlan():
                await self._edge.connect(plan, pid)
            case LoopbackPlan():
                await self._edge.loopback(pid)
        if endpoint.ports:
            self._connected.add(endpoint.key)
            await self._apply(firewall.add_ports(self._config.table, _published([endpoint])))

    async def loopback(self, pid: int) -> None:
        """lo up, for a container in no network at all."""
        await self._edge.loopback(pid)

    async def release(self, container_id: str) -> None:
        """After the exit (or a failed start): addresses and ports are free again, in every network."""
        await self._release([*self.endpoints(container_id).values()])

    async def disconnect(self, container_id: str, network: Network) -> None:
        """Take one endpoint out of a running container. Raises NotFound when it is not connected there."""
        endpoint = self._endpoints.get(f"{container_id}/{network.id}")
        if not endpoint:
            raise NotFound(f"container {container_id} is not connected to network {network.name}")
        if endpoint.host_interface:
            await self._edge.delete_link(endpoint.host_interface)
        await self._release([endpoint])

    async def keep(self, running: Collection[str]) -> None:
        """After recovery: release the endpoints of every container that is not in `running`."""
        await self._release([endpoint for endpoint in self._endpoints.values() if endpoint.container not in running])

    # --- making networks

    def _place(self, network: Network, routes: Sequence[Subnet]) -> Network:
        """The network with its addresses decided."""
        others = [space for other in self._networks.values() if (space := other.address_space)]
        if not network.pools:
            subnet = choose_subnet([*others, *routes], self._config.default_address_pools or DEFAULT_POOLS)
            gateway = str(default_gateway(subnet, None, ()) or "")
            return replace(network, subnet=str(subnet), gateway=gateway, pools=(Pool(str(subnet), gateway=gateway),))
        pool = network.pools[0]
        subnet = ip_network(pool.subnet)
        refuse_overlap(subnet, others)
        reserved = [ip_address(address) for address in pool.auxiliary.values()]
        chosen = pool.gateway or str(default_gateway(subnet, _range(pool), reserved) or "")
        return replace(network, subnet=str(subnet), gateway=chosen, asked_subnet=True)

    async def _routes(self) -> Sequence[Subnet]:
        return [ip_network(route) for route in await self._edge.routes()]

    async def _realise(self, network: Network) -> None:
        if plan := self._bridge(network):
            await self._edge.add_bridge(plan)
            await self._rebuild()

    async def _forget(self, network: Network) -> None:
        """Record first: what is left in the kernel after a crash in between, the next start removes."""
        plan = self._bridge(network)
        self._networks.pop(network.id)
        try:
            await self._records.commit(Delete(NETWORKS, network.id))
        except BaseException:
            self._networks[network.id] = network
            raise
        self._leases.pop(network.id, None)
        if plan:
            await self._rebuild()
            await self._edge.delete_link(plan.name)

    def _add(self, network: Network) -> None:
        self._networks[network.id] = network
        space = network.address_space
        if not space:
            return
        pool = network.pools[0] if network.pools else Pool()
        words = [*pool.auxiliary.values(), *([network.gateway] if network.gateway else [])]
        self._leases[network.id] = Leases(space, _range(pool), [ip_address(word) for word in words])

    def _bridge(self, network: Network) -> BridgePlan | None:
        plan = None if network.config_only else driver_of(network.driver).bridge(network)
        return replace(plan, alias=f"{self._config.table} {network.id}") if plan else None

    def _bridges(self) -> Sequence[BridgePlan]:
        return [plan for network in self._networks.values() if (plan := self._bridge(network))]

    # --- making endpoints

    def _claim(self, network: Network, container: str, name: str, ip: str, mac: str, dns_names: Sequence[str]) -> Endpoint:
        if network.config_only:
            raise Forbidden(f"cannot create endpoint on configuration network {network.name}")
        if f"{container}/{network.id}" in self._endpoints:
            raise Forbidden(f"endpoint with name {name} already exists in network {network.name}")
        id = new_id()
        endpoint = Endpoint(id, container, name, network.name, network.id, dns_names=tuple(dns_names))
        if leases := self._leases.get(network.id):
            endpoint = self._address(network, leases, endpoint, ip, mac)
        self._endpoints[endpoint.key] = endpoint
        return endpoint

    def _address(self, network: Network, leases: Leases, endpoint: Endpoint, ip: str, mac: str) -> Endpoint:
        try:
            address = ip_address(ip) if ip else leases.take()
            if ip:
                leases.claim(address)
        except LookupError:
            if ip:
                raise Forbidden("Address already in use") from None
            raise Internal(
                f"no available IPv4 addresses on this network's address pools: {network.name} ({network.id})"
            ) from None
        others = self.endpoints(endpoint.container).values()
        prefix = network.options.get(INTERFACE_PREFIX, "eth")
        gateway = "" if network.internal else network.gateway
        return replace(
            endpoint,
            ip=str(address),
            prefix_len=leases.subnet.prefixlen,
            gateway=gateway,
            mac=mac or mac_of(address),
            interface=_free_name(prefix, {other.interface for other in others}),
            host_interface=f"veth{endpoint.id[:11]}",
            default_route=bool(gateway) and not any(other.default_route for other in others),
        )

    def _publish(self, network: Network, endpoint: Endpoint, ports: Sequence[PortRequest]) -> Endpoint:
        if not ports or not endpoint.ip or network.internal:
            return endpoint
        binding = network.options.get(HOST_BINDING, "")
        try:
            bindings = self._ports.publish(ports, "" if binding == "0.0.0.0" else binding)
        except EngineError as error:
            what = "driver failed programming external connectivity on endpoint"
            raise type(error)(f"{what} {endpoint.container_name} ({endpoint.id}): {error}") from error
        self._endpoints[endpoint.key] = replace(endpoint, ports=bindings)
        return self._endpoints[endpoint.key]

    def _unclaim(self, endpoint: Endpoint) -> None:
        self._endpoints.pop(endpoint.key, None)
        self._ports.release(endpoint.ports)
        if endpoint.ip and (leases := self._leases.get(endpoint.network_id)):
            leases.free(ip_address(endpoint.ip))

    async def _release(self, endpoints: Sequence[Endpoint]) -> None:
        if not endpoints:
            return
        closing = [endpoint for endpoint in endpoints if endpoint.key in self._connected]
        self._connected.difference_update(endpoint.key for endpoint in closing)
        if closing:
            await self._apply(firewall.remove_ports(self._config.table, _published(closing)))
        await self._records.commit(*(Delete(ENDPOINTS, endpoint.key) for endpoint in endpoints))
        for endpoint in endpoints:
            self._unclaim(endpoint)
        self._sweep_soon()

    # --- the host

    async def _load(self) -> None:
        for document in (await self._records.load(NETWORKS)).values():
            self._add(Network.load(document))
        missing = [name for name in (HOST, NONE) if not any(network.name == name for network in self._networks.values())]
        for name in missing:
            network = Network(new_id(), name, "null" if name == NONE else HOST, _now())
            await self._records.commit(Put(NETWORKS, network.id, network.dump()))
            self._add(network)
        await self._load_default_bridge()
        for document in (await self._records.load(ENDPOINTS)).values():
            endpoint = Endpoint.load(document)
            self._endpoints[endpoint.key] = endpoint
            if endpoint.ip and (leases := self._leases.get(endpoint.network_id)):
                leases.restore(ip_address(endpoint.ip))

    async def _load_default_bridge(self) -> None:
        known = next((network for network in self._networks.values() if network.name == BRIDGE), None)
        if self._config.bridge == "none":
            if known:
                self._networks.pop(known.id)  # the record stays, and with it the network's id
            return
        others = [space for other in self._networks.values() if other is not known and (space := other.address_space)]
        record = known or Network(new_id(), BRIDGE, "bridge", _now())
        network = await place_default_bridge(self._config, self._edge, record, others)
        if network != known:
            await self._records.commit(Put(NETWORKS, network.id, network.dump()))
        self._add(network)

    async def _reconcile(self) -> None:
        await self._forward()
        wanted = self._bridges()
        for plan in wanted:
            await self._edge.add_bridge(plan)
        names = {plan.name for plan in wanted}
        for link in (await self._edge.links()).values():
            if link.kind == "bridge" and link.alias.startswith(f"{self._config.table} ") and link.name not in names:
                await self._edge.delete_link(link.name)
        await self._sweep_veths()
        endpoints = [endpoint for endpoint in self._endpoints.values() if endpoint.ports]
        self._connected = {endpoint.key for endpoint in endpoints}
        await self._rebuild()
        for endpoint in endpoints:
            self._ports.restore(endpoint.ports)
        for chain in firewall.dropping_chains(await self._edge.nft_list("chains"), self._config.table):
            log.warning("nftables chain %s drops forwarded packets by default: containers may not reach the network", chain)

    async def _forward(self) -> None:
        try:
            await self._edge.forward()
        except Internal as error:
            log.warning("%s: containers cannot reach beyond this host, nor be reached", error)

    async def _sweep_veths(self) -> None:
        links = await self._edge.links()
        own = {links[plan.name].index for plan in self._bridges() if plan.name in links}
        known = {endpoint.host_interface for endpoint in self._endpoints.values()}
        for link in links.values():
            if link.kind == "veth" and link.master in own and link.name.startswith("veth") and link.name not in known:
                await self._edge.delete_link(link.name)

    def _sweep_soon(self) -> None:
        """A namespace that outlives its container (another shares it) would keep an address that is free again."""
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep_later())

    async def _sweep_later(self) -> None:
        await asyncio.sleep(SWEEP_DELAY)
        try:
            await self._sweep_veths()
        except Internal as error:
            log.warning("sweep of interfaces: %s", error)

    async def _apply(self, commands: str) -> None:
        """A change of map elements. When the table is not as we left it (someone flushed it), write it anew."""
        try:
            if commands:
                await self._edge.nft(commands)
        except Internal as error:
            log.warning("%s; writing table %s anew", error, self._config.table)
            await self._rebuild()

    async def _rebuild(self) -> None:
        open_ = [self._endpoints[key] for key in self._connected if key in self._endpoints]
        await self._edge.nft(firewall.ruleset(self._config.table, self._bridges(), _published(open_)))


def _published(endpoints: Iterable[Endpoint]) -> list[firewall.Published]:
    return [(binding, endpoint.ip) for endpoint in endpoints for binding in endpoint.ports]


def _range(pool: Pool) -> Subnet | None:
    return ip_network(pool.ip_range) if pool.ip_range else None


def _free_name(prefix: str, taken: set[str]) -> str:
    number = 0
    while f"{prefix}{number}" in taken:
        number += 1
    return f"{prefix}{number}"


def _check_name(name: str) -> None:
    if not name.strip():
        raise InvalidParameter(f"invalid name: {name}")
    if name in (BRIDGE, HOST, NONE, "default"):
        raise Forbidden(f"operation is not permitted on predefined {name} network ")


def _now() -> str:
    nanoseconds = time_ns()
    whole = datetime.fromtimestamp(nanoseconds // 10**9, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09d}Z"
