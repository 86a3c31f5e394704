"""What this daemon has in the kernel: bridges, the table, the ports open in it, the veths. Kept equal to what the records say.

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
from compat_engine.network.plan import BridgePlan, EndpointPlan, LoopbackPlan, VethPlan

log = logging.getLogger(__name__)
SWEEP_DELAY = 3.0  # seconds; a dying namespace takes its veth along within tens of milliseconds


class Dataplane:
    def __init__(self, edge: Edge, table: str, forwarding: bool) -> None:
        self._edge, self._table, self._forwarding = edge, table, forwarding
        self._bridges: dict[str, BridgePlan] = {}  # by network id
        self._open: dict[str, Endpoint] = {}  # endpoints whose ports are in the ruleset
        self._interfaces: set[str] = set()  # veths that are meant to be there
        self._sweeper: asyncio.Task[None] | None = None
        self._repair: asyncio.Task[None] | None = None

    async def restore(self, bridges: Mapping[str, BridgePlan], endpoints: Iterable[Endpoint]) -> None:
        """At start. Raises Internal when the host cannot do it."""
        await self._forward("IPv4", self._edge.forward)
        for id, plan in bridges.items():
            await self._make_bridge(id, plan)
        for endpoint in endpoints:
            self._interfaces.add(endpoint.host_interface)
            if endpoint.ports:
                self._open[endpoint.key] = endpoint
        await self._sweep_bridges()
        await self._sweep_veths()
        if self._bridges or await self._has_table():
            await self._rebuild()
        await self._edge.watch(self._table, self._lost)
        for chain in firewall.dropping_chains(await self._edge.nft_list("chains"), self._table):
            log.warning("nftables chain %s drops forwarded packets by default: containers may not reach the network", chain)

    async def close(self) -> None:
        for task in (self._sweeper, self._repair):
            if task:
                task.cancel()
        await self._edge.close()

    async def teardown(self) -> None:
        self._interfaces.clear()
        await self._sweep_veths()
        await self._edge.nft(firewall.remove_table(self._table))
        for plan in self._bridges.values():
            await self._edge.delete_link(plan.name)

    async def add_network(self, id: str, plan: BridgePlan) -> None:
        await self._make_bridge(id, plan)
        await self._rebuild()

    async def remove_network(self, id: str) -> None:
        if plan := self._bridges.pop(id, None):
            await self._rebuild()
            await self._edge.delete_link(plan.name)

    async def connect(self, endpoint: Endpoint, plan: EndpointPlan, pid: int) -> None:
        """Into the namespace of `pid`, then open the ports."""
        match plan:
            case VethPlan():
                self._interfaces.add(plan.host_name)
                await self._edge.connect(replace(plan, alias=self._table), pid)
            case LoopbackPlan():
                await self._edge.loopback(pid)
        if endpoint.ports:
            self._open[endpoint.key] = endpoint
            await self._apply(firewall.add_ports(self._table, _published([endpoint])))
            await self._forget_flows([endpoint])

    async def unplug(self, endpoint: Endpoint) -> None:
        """Out of a namespace that lives on."""
        if endpoint.host_interface:
            await self._edge.delete_link(endpoint.host_interface)

    async def release(self, endpoints: Sequence[Endpoint]) -> None:
        """Close their ports. The veths die with their namespaces; should one live on, a sweep takes them away."""
        closing = [endpoint for endpoint in endpoints if self._open.pop(endpoint.key, None)]
        self._interfaces.difference_update(endpoint.host_interface for endpoint in endpoints)
        if closing:
            await self._apply(firewall.remove_ports(self._table, _published(closing)))
            await self._forget_flows(closing)
        self._sweep_soon()

    async def _forget_flows(self, endpoints: Sequence[Endpoint]) -> None:
        ports = {binding.host_port for endpoint in endpoints for binding in endpoint.ports if binding.proto == "udp"}
        try:
            if ports:
                await self._edge.forget_udp(ports)
        except Internal as error:
            log.warning("%s: a UDP client that never pauses may go on talking to where it did before", error)

    async def _has_table(self) -> bool:
        return any(item.get("table", {}).get("name") == self._table for item in await self._edge.nft_list("tables inet"))

    def _marked(self, id: str, plan: BridgePlan) -> BridgePlan:
        return replace(plan, alias=f"{self._table} {id}")

    async def _make_bridge(self, id: str, plan: BridgePlan) -> None:
        self._bridges[id] = self._marked(id, plan)
        if plan.subnet6:
            await self._forward("IPv6", self._edge.forward6)
        await self._edge.add_bridge(self._bridges[id])

    async def _forward(self, family: str, switch_on: Callable[[], Awaitable[None]]) -> None:
        try:
            if self._forwarding:
                await switch_on()
        except Internal as error:
            log.warning("%s: by %s containers cannot reach beyond this host, nor be reached", error, family)

    async def _sweep_bridges(self) -> None:
        names = {plan.name for plan in self._bridges.values()}
        for link in (await self._edge.links()).values():
            if link.kind == "bridge" and link.alias.startswith(f"{self._table} ") and link.name not in names:
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

    def _lost(self) -> None:
        """Somebody flushed the ruleset, say: ports and masquerading are back before a person notices."""
        self._repair = asyncio.get_running_loop().create_task(self._write_again(self._repair))

    async def _write_again(self, before: asyncio.Task[None] | None) -> None:
        if before:
            await before
        log.warning("something was deleted from nftables table %s by others; writing it anew", self._table)
        try:
            await self._rebuild()
        except Internal as error:
            log.error("%s: published ports may not be reachable", error)

    async def _rebuild(self) -> None:
        await self._edge.nft(firewall.ruleset(self._table, [*self._bridges.values()], _published(self._open.values())))


def _published(endpoints: Iterable[Endpoint]) -> list[firewall.Published]:
    """What is translated: nothing from one family into the other, which is for relay.py."""
    bindings = ((endpoint, binding) for endpoint in endpoints for binding in endpoint.ports)
    found = ((binding, endpoint.ipv6 if ":" in binding.host_ip else endpoint.ip) for endpoint, binding in bindings)
    return [(binding, address) for binding, address in found if address]
