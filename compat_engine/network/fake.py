"""An `Edge` without a kernel, so that everything above it is tested as it is, without root."""

import os
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

from compat_engine.errors import Internal
from compat_engine.network.netlink import Link
from compat_engine.network.plan import BridgePlan, DerivedPlan, VethPlan


@dataclass(slots=True)
class FakeEdge:
    """Remembers what it was told. `refuse` makes the named method fail, as the kernel would."""

    host_routes: list[str] = field(default_factory=list)
    host_links: dict[str, Link] = field(default_factory=dict)
    host_addresses: dict[str, list[str]] = field(default_factory=dict)
    namespaces: dict[int, list[VethPlan | DerivedPlan]] = field(default_factory=dict)  # pid -> its interfaces; lo is up in each
    commands: list[str] = field(default_factory=list)  # nft transactions
    resolvers: dict[int, tuple[int, int]] = field(default_factory=dict)  # pid -> its UDP and TCP port on 127.0.0.1
    refuse: str = ""
    closed: bool = False
    lost: Callable[[], None] = field(default=lambda: None)  # what `watch` was given

    async def links(self) -> dict[str, Link]:
        self._perhaps_refuse("links")
        return dict(self.host_links)

    async def addresses(self, name: str) -> list[str]:
        return list(self.host_addresses.get(name, ()))

    async def routes(self, but: str = "") -> list[str]:
        return list(self.host_routes)

    async def add_bridge(self, plan: BridgePlan) -> None:
        self._perhaps_refuse("add_bridge")
        present = self.host_links.get(plan.name)
        new = Link(len(self.host_links) + 2, plan.name, kind="bridge", alias=plan.alias, up=True)
        self.host_links[plan.name] = replace(present, up=True) if present else new
        self.host_addresses[plan.name] = [*plan.addresses]

    async def delete_link(self, name: str) -> None:
        self._perhaps_refuse("delete_link")
        self.host_links.pop(name, None)
        self.host_addresses.pop(name, None)
        for interfaces in self.namespaces.values():
            interfaces[:] = [plan for plan in interfaces if not isinstance(plan, VethPlan) or plan.host_name != name]

    async def retire_link(self, name: str, alias: str) -> None:
        if (link := self.host_links.get(name)) and link.alias == alias:
            await self.delete_link(name)

    async def connect(self, plan: VethPlan, pid: int) -> None:
        self._perhaps_refuse("connect")
        if plan.bridge not in self.host_links:
            raise Internal(f"failed to connect interface {plan.host_name} to bridge {plan.bridge}: no interface {plan.bridge}")
        master = self.host_links[plan.bridge].index
        self.host_links[plan.host_name] = Link(len(self.host_links) + 2, plan.host_name, master, "veth", plan.alias, up=True)
        self._put_inside(pid, plan)

    def _put_inside(self, pid: int, plan: VethPlan | DerivedPlan) -> None:
        """Its default routes take the place of those that are there."""
        families = {":" in gateway for gateway in plan.gateways}
        others = [
            replace(other, gateways=tuple(gateway for gateway in other.gateways if (":" in gateway) not in families))
            for other in self.namespaces.get(pid, ())
        ]
        self.namespaces[pid] = [*others, plan]

    async def add_dummy(self, name: str, alias: str) -> None:
        self._perhaps_refuse("add_dummy")
        self.host_links[name] = Link(len(self.host_links) + 2, name, kind="dummy", alias=alias, up=True)

    async def add_vlan(self, name: str, base: str, vlan: int, alias: str) -> None:
        self._perhaps_refuse("add_vlan")
        self.host_links[name] = Link(len(self.host_links) + 2, name, kind="vlan", alias=alias, up=True)

    async def derive(self, plan: DerivedPlan, pid: int) -> None:
        self._perhaps_refuse("derive")
        if plan.parent not in self.host_links:
            raise Internal(f"failed to create the {plan.kind} port: no interface {plan.parent}")
        self._put_inside(pid, plan)

    async def delete_inside(self, name: str, pid: int) -> None:
        self._perhaps_refuse("delete_inside")
        self.namespaces[pid] = [plan for plan in self.namespaces.get(pid, ()) if plan.name != name]

    async def default_route(self, gateway: str, interface: str, pid: int) -> None:
        for index, plan in enumerate(interfaces := self.namespaces[pid]):
            others = tuple(other for other in plan.gateways if (":" in other) != (":" in gateway))
            interfaces[index] = replace(plan, gateways=(*others, gateway) if plan.name == interface else others)

    async def loopback(self, pid: int) -> None:
        self._perhaps_refuse("loopback")
        self.namespaces.setdefault(pid, [])

    async def resolver_sockets(self, pid: int) -> tuple[int, socket.socket, socket.socket]:
        """Real ones, in the namespace of the test, at ports of the kernel's choice."""
        self._perhaps_refuse("resolver_sockets")
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        tcp = socket.create_server(("127.0.0.1", 0))
        self.resolvers[pid] = (udp.getsockname()[1], tcp.getsockname()[1])
        return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC), udp, tcp

    async def socket_in(self, namespace: int, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        sock = socket.socket(family, kind)
        sock.setblocking(False)
        return sock

    async def nft(self, commands: str) -> None:
        self._perhaps_refuse("nft")
        self.commands.append(commands)

    async def nft_list(self, what: str) -> list[dict[str, Any]]:
        return []

    async def watch(self, table: str, lost: Callable[[], None]) -> None:
        self.lost = lost

    async def forget_udp(self, ports: Collection[int]) -> None:
        self._perhaps_refuse("forget_udp")

    async def forward(self) -> None:
        self._perhaps_refuse("forward")

    async def forward6(self) -> None:
        self._perhaps_refuse("forward6")

    async def close(self) -> None:
        self.closed = True

    def end(self, pid: int) -> None:
        """The process ended, its namespace died, and with it the other ends of its veths."""
        for plan in self.namespaces.pop(pid, ()):
            if isinstance(plan, VethPlan):
                self.host_links.pop(plan.host_name, None)

    def _perhaps_refuse(self, method: str) -> None:
        if self.refuse == method:
            raise Internal(f"failed to {method}: Operation not permitted")
