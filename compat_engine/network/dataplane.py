"""What this daemon has in the kernel: bridges, parents, the table, the ports open in it, the veths. Kept as the records say.

Everything here survives the daemon. `restore` makes good whatever a crash, or somebody's hand, has changed meanwhile.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from compat_engine.errors import Internal
from compat_engine.network import firewall
from compat_engine.network.edge import Edge
from compat_engine.network.model import Endpoint
from compat_engine.network.parents import make_parent
from compat_engine.network.plan import BridgePlan, DerivedPlan, EndpointPlan, HostPlan, LoopbackPlan, ParentPlan, VethPlan

log = logging.getLogger(__name__)
REPAIR_PAUSE = 1.0  # seconds; an engine with the same table would write back its own, and the two would do nothing else
SWEEP_DELAY = 3.0  # seconds; a dying namespace takes its veth along within tens of milliseconds


class Dataplane:
    def __init__(self, edge: Edge, table: str, forwarding: bool) -> None:
        self._edge, self._table, self._forwarding = edge, table, forwarding
        self._bridges: dict[str, BridgePlan] = {}  # by network id
        self._parents: dict[str, ParentPlan] = {}  # the same
        self._open: dict[str, Endpoint] = {}  # endpoints whose ports are in the ruleset
        self._interfaces: set[str] = set()  # veths that are meant to be there
        self._sweeper: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._repairs: asyncio.Task[None] | None = None

    async def restore(self, networks: Mapping[str, HostPlan], endpoints: Iterable[Endpoint]) -> None:
        """At start. Raises Internal when the host cannot do it."""
        await self._forward("IPv4", self._edge.forward)
        for id, plan in networks.items():
            await self._restore_network(id, plan)
        for endpoint in endpoints:
            self._interfaces.add(endpoint.host_interface)
            if endpoint.ports or endpoint.links:
                self._open[endpoint.key] = endpoint
        await self._sweep_networks()
        await self._sweep_veths()
        chains = await self._edge.nft_list("chains")
        ours = firewall.families(chains, self._table)
        if "ip" in ours:
            await self._edge.nft(f"delete table ip {self._table}\n")  # written by versions that knew IPv4 alone
        if self._bridges or "inet" in ours:
            await self._rebuild()
        self._repairs = asyncio.get_running_loop().create_task(self._repair())
        await self._edge.watch(self._table, self._lost.set)
        for chain in firewall.dropping_chains(chains, self._table):
            log.warning("nftables chain %s drops forwarded packets by default: containers may not reach the network", chain)

    async def close(self) -> None:
        for task in (self._sweeper, self._repairs):
            if task:
                task.cancel()
        await self._edge.close()

    async def teardown(self) -> None:
        self._interfaces.clear()
        await self._sweep_veths()
        await self._edge.nft(firewall.remove_table(self._table))
        for plan in self._bridges.values():
            await self._edge.retire_link(plan.name, plan.alias)
        for parent in self._parents.values():
            await self._drop_parent(parent)

    async def add_network(self, id: str, plan: HostPlan) -> None:
        await self._make(id, plan)
        if isinstance(plan, BridgePlan):
            await self._rebuild()

    async def remove_network(self, id: str) -> None:
        if plan := self._bridges.pop(id, None):
            await asyncio.gather(self._rebuild(), self._edge.retire_link(plan.name, plan.alias))
        if parent := self._parents.pop(id, None):
            await self._drop_parent(parent)

    async def connect(self, endpoint: Endpoint, plan: EndpointPlan, pid: int) -> None:
        """Into the namespace of `pid`, then open the ports."""
        match plan:
            case VethPlan():
                self._interfaces.add(plan.host_name)
                await self._edge.connect(replace(plan, alias=self._table), pid)
            case DerivedPlan():
                await self._edge.derive(plan, pid)
            case LoopbackPlan():
                await self._edge.loopback(pid)
        await self.open_ports(endpoint)

    async def open_ports(self, endpoint: Endpoint) -> None:
        """The published ones, and those of others that it may reach."""
        if endpoint.ports or endpoint.links:
            self._open[endpoint.key] = endpoint
            added = firewall.add_ports(self._table, _published([endpoint])) + firewall.add_links(self._table, _links([endpoint]))
            await self._apply(added)
            await self._forget_flows([endpoint])

    async def relink(self, before: Endpoint, endpoint: Endpoint) -> None:
        """The same endpoint, which may reach something else now."""
        self._open[endpoint.key] = endpoint
        gone = firewall.remove_links(self._table, _links([before]))
        await self._apply(gone + firewall.add_links(self._table, _links([endpoint])))

    async def close_ports(self, endpoints: Sequence[Endpoint]) -> None:
        closing = [opened for endpoint in endpoints if (opened := self._open.pop(endpoint.key, None))]
        if closing:
            gone = firewall.remove_ports(self._table, _published(closing)) + firewall.remove_links(self._table, _links(closing))
            await self._apply(gone)
            await self._forget_flows(closing)

    async def unplug(self, endpoint: Endpoint, pid: int) -> None:
        """Out of the namespace of `pid`, which lives on."""
        if endpoint.host_interface:
            await self._edge.delete_link(endpoint.host_interface)
        elif endpoint.interface:
            await self._edge.delete_inside(endpoint.interface, pid)

    async def release(self, endpoints: Sequence[Endpoint]) -> None:
        """Close their ports. The veths die with their namespaces; should one live on, a sweep takes them away."""
        self._interfaces.difference_update(endpoint.host_interface for endpoint in endpoints)
        await self.close_ports(endpoints)
        self._sweep_soon()

    async def _forget_flows(self, endpoints: Sequence[Endpoint]) -> None:
        bindings = [binding for endpoint in endpoints for binding in endpoint.ports]
        ports = {binding.host_port for binding in bindings if binding.proto == "udp" and binding.host_port}
        try:
            if ports:
                await self._edge.forget_udp(ports)
        except Internal as error:
            log.warning("%s: a UDP client that never pauses may go on talking to where it did before", error)

    async def _make(self, id: str, plan: HostPlan) -> None:
        alias = f"{self._table} {id}"
        match plan:
            case BridgePlan():
                self._bridges[id] = replace(plan, alias=alias)
                if plan.subnet6:
                    await self._forward("IPv6", self._edge.forward6)
                await self._edge.add_bridge(self._bridges[id])
            case ParentPlan():
                self._parents[id] = replace(plan, alias=alias)
                await make_parent(self._edge, self._parents[id])

    async def _restore_network(self, id: str, plan: HostPlan) -> None:
        """A parent that is gone, a USB adapter's say, keeps its own network from working, not the daemon."""
        try:
            await self._make(id, plan)
        except Internal as error:
            if isinstance(plan, BridgePlan):
                raise
            log.warning("network %s: %s", id, error)

    async def _drop_parent(self, plan: ParentPlan) -> None:
        """If it was made for this network."""
        link = (await self._edge.links()).get(plan.name)
        if link and link.alias == plan.alias:
            await self._edge.delete_link(plan.name)

    async def _forward(self, family: str, switch_on: Callable[[], Awaitable[None]]) -> None:
        try:
            if self._forwarding:
                await switch_on()
        except Internal as error:
            log.warning("%s: by %s containers cannot reach beyond this host, nor be reached", error, family)

    async def _sweep_networks(self) -> None:
        """Bridges and parents of networks that are no more. What is on top of another interface may go with that one."""
        names = {bridge.name for bridge in self._bridges.values()} | {parent.name for parent in self._parents.values()}
        for link in (await self._edge.links()).values():
            made = link.kind in ("bridge", "dummy", "vlan") and link.alias.startswith(f"{self._table} ")
            if made and link.name not in names:
                await self._edge.delete_link(link.name)

    async def _sweep_veths(self) -> None:
        links = await self._edge.links()
        own = {links[plan.name].index for plan in self._bridges.values() if plan.name in links}
        for link in links.values():
            ours = link.kind == "veth" and link.alias == self._table and link.master in own
            if ours and link.name not in self._interfaces:
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
            log.warning("%s; writing table %s anew", error, self._table)
            await self._rebuild()

    async def _repair(self) -> None:
        """When somebody has flushed the ruleset, say: ports and masquerading are back before a person notices."""
        while await self._lost.wait():
            self._lost.clear()
            log.warning("something was deleted from nftables table %s by others; writing it anew", self._table)
            try:
                await self._rebuild()
            except Internal as error:
                log.error("%s: published ports may not be reachable", error)
            await asyncio.sleep(REPAIR_PAUSE)

    async def _rebuild(self) -> None:
        opened = self._open.values()
        await self._edge.nft(firewall.ruleset(self._table, [*self._bridges.values()], _published(opened), _links(opened)))


def _published(endpoints: Iterable[Endpoint]) -> list[firewall.Published]:
    """What is translated or let through: nothing from one family into the other, which is for relay.py."""
    bindings = ((end, one) for end in endpoints for one in end.ports if not (end.relayed and one.host_port))
    found = ((binding, endpoint.ipv6 if ":" in binding.host_ip else endpoint.ip) for endpoint, binding in bindings)
    return [(binding, address) for binding, address in found if address]


def _links(endpoints: Iterable[Endpoint]) -> list[firewall.Link]:
    return [(endpoint.ip, reach) for endpoint in endpoints for reach in endpoint.links]
