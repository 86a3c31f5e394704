"""The kernel's side of networking: plans in, system calls out. All of it blocks, so it runs in a worker thread of its own.

One thread is also what makes it right: setns(2) moves only that thread, netlink's answers are never mixed, and two starts at once
cannot interleave their changes to the ruleset. But the kernel takes some forty milliseconds to let an interface go: a thread of
its own waits for that, so that no start has to. `Edge` is the seam that fake.py stands in for.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, Protocol, TypeVar

from compat_engine.errors import Internal
from compat_engine.kernel.netns import network_of
from compat_engine.network import netlink
from compat_engine.network.conntrack import forget_udp
from compat_engine.network.dns.sockets import open_resolver, open_socket
from compat_engine.network.netlink import Link, NetlinkSocket
from compat_engine.network.nft import Nft
from compat_engine.network.nftwatch import NftWatch
from compat_engine.network.plan import ISOLATED, BridgePlan, DerivedPlan, VethPlan

T = TypeVar("T")
Opened = TypeVar("Opened", bound=tuple[int | socket.socket, ...])
log = logging.getLogger(__name__)


class Edge(Protocol):
    """Every method may raise Internal with what was tried and the kernel's reason."""

    async def links(self) -> dict[str, Link]:
        """Interfaces of the host by name."""

    async def addresses(self, name: str) -> list[str]:
        """Addresses of one interface of the host, in CIDR form."""

    async def routes(self, but: str = "") -> list[str]:
        """Destinations of the host's routes, in CIDR form, less the default ones and those through interface `but`."""

    async def add_bridge(self, plan: BridgePlan) -> None:
        """Make it, or give the one of that name the plan's addresses; up, with route_localnet."""

    async def delete_link(self, name: str) -> None:
        """Gone on return; one that is not there is no error."""

    async def retire_link(self, name: str, alias: str) -> None:
        """If it bears that alias: nothing of that name and no route through it on return, the interface itself soon after."""

    async def connect(self, plan: VethPlan, pid: int) -> None:
        """The veth, and lo, addresses and routes in the network namespace of `pid`."""

    async def add_dummy(self, name: str, alias: str) -> None:
        """An interface that leads nowhere, up."""

    async def add_vlan(self, name: str, base: str, vlan: int, alias: str) -> None:
        """The interface of one VLAN (1 to 4094) on the host's interface `base`, up."""

    async def derive(self, plan: DerivedPlan, pid: int) -> None:
        """The interface, and lo, addresses and routes in the network namespace of `pid`."""

    async def delete_inside(self, name: str, pid: int) -> None:
        """An interface in the network namespace of `pid`; one that is not there is no error."""

    async def default_route(self, gateway: str, interface: str, pid: int) -> None:
        """The default route of the gateway's family in the network namespace of `pid`, instead of another."""

    async def loopback(self, pid: int) -> None:
        """lo up in the network namespace of `pid`."""

    async def resolver_sockets(self, pid: int) -> tuple[int, socket.socket, socket.socket]:
        """The network namespace of `pid`, and in it a UDP and a listening TCP socket that get what is sent to 127.0.0.11 port 53.

        All three are the caller's to close, and keep the namespace alive.
        """

    async def socket_in(self, namespace: int, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        """A socket in that network namespace, not bound and not blocking."""

    async def nft(self, commands: str) -> None:
        """One transaction."""

    async def nft_list(self, what: str) -> list[dict[str, Any]]:
        """`nft list WHAT` as objects."""

    async def watch(self, table: str, lost: Callable[[], None]) -> None:
        """From now on call `lost` whenever somebody else has taken something from that table."""

    async def forget_udp(self, ports: Collection[int]) -> None:
        """Tracked UDP flows to these ports of the host are to be judged anew."""

    async def forward(self) -> None:
        """IPv4 forwarding on."""

    async def forward6(self) -> None:
        """IPv6 forwarding on."""

    async def close(self) -> None: ...


class LinuxEdge:
    """The real one; needs CAP_NET_ADMIN and CAP_SYS_ADMIN. Make it outside a running loop or inside, it blocks for 2 ms."""

    route_localnet = "1"  # of bridges: a port published on 127.0.0.1 is translated

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._netlink, self._nft = self._worker.submit(lambda: (NetlinkSocket(), Nft())).result()
        self._remover = ThreadPoolExecutor(1, thread_name_prefix="network-remover")
        self._removals = self._remover.submit(NetlinkSocket).result()
        self._watch: NftWatch | None = None

    async def links(self) -> dict[str, Link]:
        return {link.name: link for link in await self._run("list interfaces", self._netlink.links)}

    async def addresses(self, name: str) -> list[str]:
        def find() -> list[str]:
            link = self._netlink.link(name)
            return [address for index, address in self._netlink.addresses() if link and index == link.index]

        return await self._run(f"list addresses of {name}", find)

    async def routes(self, but: str = "") -> list[str]:
        def find() -> list[str]:
            link = self._netlink.link(but) if but else None
            return [destination for index, destination in self._netlink.routes() if not link or index != link.index]

        return await self._run("list routes", find)

    async def add_bridge(self, plan: BridgePlan) -> None:
        await self._run(f"set up bridge {plan.name}", self._add_bridge, plan)

    async def delete_link(self, name: str) -> None:
        await self._run(f"delete interface {name}", _delete_link, self._removals, name, worker=self._remover)

    async def retire_link(self, name: str, alias: str) -> None:
        await self._run(f"delete interface {name}", self._retire_link, name, alias)

    async def connect(self, plan: VethPlan, pid: int) -> None:
        await self._run(f"connect interface {plan.host_name} to bridge {plan.bridge}", self._connect, plan, pid)

    async def add_dummy(self, name: str, alias: str) -> None:
        await self._run(f"create {name} dummy link", self._add_parent, "dummy", netlink.new_dummy(name, alias))

    async def add_vlan(self, name: str, base: str, vlan: int, alias: str) -> None:
        await self._run(f"create {name} vlan link", self._add_vlan, name, base, vlan, alias)

    async def derive(self, plan: DerivedPlan, pid: int) -> None:
        await self._run(f"create the {plan.kind} port", self._derive, plan, pid)

    async def delete_inside(self, name: str, pid: int) -> None:
        await self._run(f"delete interface {name}", self._delete_inside, name, pid)

    async def loopback(self, pid: int) -> None:
        await self._run("bring up lo", self._loopback, pid)

    async def default_route(self, gateway: str, interface: str, pid: int) -> None:
        await self._run(f"set default route via {gateway}", self._default_route, gateway, interface, pid)

    async def resolver_sockets(self, pid: int) -> tuple[int, socket.socket, socket.socket]:
        return await self._open("open the resolver", open_resolver, pid)

    async def socket_in(self, namespace: int, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        return (await self._open("open a socket", _one_socket, namespace, family, kind))[0]

    async def nft(self, commands: str) -> None:
        await self._run("change the nftables ruleset", self._nft.run, commands)

    async def nft_list(self, what: str) -> list[dict[str, Any]]:
        return await self._run(f"nft list {what}", self._nft.list, what)

    async def watch(self, table: str, lost: Callable[[], None]) -> None:
        watch = self._watch = await self._run("watch the nftables ruleset", NftWatch, table)

        def heard() -> None:
            if watch.lost(lambda: self._nft.port):
                lost()

        asyncio.get_running_loop().add_reader(watch.socket, heard)

    async def forget_udp(self, ports: Collection[int]) -> None:
        await self._run("forget tracked UDP flows", forget_udp, ports)

    async def forward(self) -> None:
        await self._run("enable IPv4 forwarding", _sysctl, "ipv4/ip_forward", "1")

    async def forward6(self) -> None:
        await self._run("enable IPv6 forwarding", _sysctl, "ipv6/conf/all/forwarding", "1")

    async def close(self) -> None:
        if self._watch:
            asyncio.get_running_loop().remove_reader(self._watch.socket)
            self._watch.close()
        await self._run("close netlink", self._netlink.close)
        await self._run("close nftables", self._nft.close)
        await self._run("close netlink", self._removals.close, worker=self._remover)
        self._worker.shutdown()
        self._remover.shutdown()

    async def _run(self, what: str, function: Callable[..., T], *args: object, worker: ThreadPoolExecutor | None = None) -> T:
        try:
            # Shielded: a start that is cancelled must find its half-made interface complete, and so deletable.
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(worker or self._worker, function, *args))
        except OSError as error:
            raise Internal(f"failed to {what}: {error.strerror or error}") from error

    async def _open(self, what: str, function: Callable[..., Opened], *args: object) -> Opened:
        """As `_run`; what is opened for a caller that has been cancelled meanwhile is closed."""
        opening = asyncio.ensure_future(self._run(what, function, *args))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_discard)
            raise

    def _add_bridge(self, plan: BridgePlan) -> None:
        link = self._netlink.link(plan.name)
        if not link:
            self._netlink.request(netlink.new_bridge(plan.name, plan.mac, plan.mtu, plan.alias))
            link = self._netlink.link(plan.name)
        if not link:
            raise OSError(errno.ENODEV, "the bridge vanished")
        present = [address for index, address in self._netlink.addresses() if index == link.index]
        self._netlink.request([*_corrections(link.index, present, plan.addresses), netlink.link_up(plan.name)])
        _sysctl(f"ipv4/conf/{plan.name}/route_localnet", self.route_localnet)
        # Without icc ports are isolated, and what a link allows goes through the host, which answers for all (RFC 3069), at once.
        _sysctl(f"ipv4/conf/{plan.name}/proxy_arp_pvlan", "0" if plan.icc else "1")
        if not plan.icc:
            _sysctl(f"ipv4/neigh/{plan.name}/proxy_delay", "0")
        if plan.subnet6:
            _sysctl(f"ipv6/conf/{plan.name}/accept_ra", "0")
            if plan.mode6 == ISOLATED:  # not even the link-local address that the kernel makes
                _sysctl(f"ipv6/conf/{plan.name}/disable_ipv6", "1")

    def _retire_link(self, name: str, alias: str) -> None:
        link = self._netlink.link(name)
        if link and link.alias == alias:
            gone = f"gone-{link.index}"
            self._netlink.request(netlink.retired(link.index, gone))
            self._remover.submit(_delete_link, self._removals, gone).add_done_callback(_report)

    def _connect(self, plan: VethPlan, pid: int) -> None:
        bridge = self._netlink.link(plan.bridge)
        if not bridge:
            raise OSError(errno.ENODEV, f"no interface {plan.bridge}")
        with _namespace(pid) as namespace:
            pair = netlink.new_veth(plan.host_name, bridge.index, plan.mtu, plan.name, plan.mac, namespace)
            self._netlink.request([*pair, netlink.port_up(plan.host_name, plan.alias, plan.isolated)])
            try:
                with network_of(namespace):
                    _set_up_sysctls(plan)
                    inside = NetlinkSocket()
                with inside:
                    _configure(inside, plan)
            except OSError:
                _delete_link(self._netlink, plan.host_name)
                raise

    def _add_parent(self, kind: str, messages: Sequence[netlink.Message]) -> None:
        with _unknown_kind(kind):
            self._netlink.request(messages)

    def _add_vlan(self, name: str, base: str, vlan: int, alias: str) -> None:
        link = self._netlink.link(base)
        if not link:
            raise OSError(errno.ENODEV, f"no interface {base}")
        self._add_parent("8021q", netlink.new_vlan(name, link.index, vlan, alias))

    def _derive(self, plan: DerivedPlan, pid: int) -> None:
        parent = self._netlink.link(plan.parent)
        if not parent:
            raise OSError(errno.ENODEV, f"no interface {plan.parent}")
        with _namespace(pid) as namespace:
            with _unknown_kind(plan.kind):
                self._netlink.request([netlink.new_derived(plan, parent.index, namespace)])
            with network_of(namespace):
                inside = NetlinkSocket()
            with inside:
                try:
                    with network_of(namespace):
                        _set_up_sysctls(plan)
                    _configure(inside, plan)
                except OSError:
                    inside.request([netlink.delete_link(plan.name)])
                    raise

    def _delete_inside(self, name: str, pid: int) -> None:
        with _namespace(pid) as namespace, _socket_in(namespace) as inside:
            if inside.link(name):
                inside.request([netlink.delete_link(name)])

    def _loopback(self, pid: int) -> None:
        with _namespace(pid) as namespace, _socket_in(namespace) as inside:
            inside.request(netlink.loopback_up())

    def _default_route(self, gateway: str, interface: str, pid: int) -> None:
        with _namespace(pid) as namespace, _socket_in(namespace) as inside:
            if link := inside.link(interface):
                inside.request([netlink.default_route(gateway, link.index)])


def _report(removal: "Future[None]") -> None:
    if error := removal.exception():
        log.warning("an interface that nothing uses any more stays until the next start: %s", error)


def _delete_link(through: NetlinkSocket, name: str) -> None:
    try:
        through.request([netlink.delete_link(name)])
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


@contextmanager
def _unknown_kind(kind: str) -> Iterator[None]:
    """Reasons as dockerd words them, and a hint where the kernel does not know that kind of interface."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or "").lower()
        hint = f" (this kernel has no {kind}, or its module is not loaded)" if error.errno == errno.EOPNOTSUPP else ""
        raise OSError(error.errno, reason + hint) from error


def _one_socket(namespace: int, family: socket.AddressFamily, kind: socket.SocketKind) -> tuple[socket.socket]:
    return (open_socket(namespace, family, kind),)


def _discard(opening: "asyncio.Future[Any]") -> None:
    if not opening.cancelled() and not opening.exception():
        for opened in opening.result():
            os.close(opened if isinstance(opened, int) else opened.detach())


@contextmanager
def _namespace(pid: int) -> Iterator[int]:
    """An fd, so that everything done with it means the same namespace even if the process ends meanwhile."""
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _socket_in(namespace: int) -> NetlinkSocket:
    with network_of(namespace):
        return NetlinkSocket()


def _configure(inside: NetlinkSocket, plan: VethPlan | DerivedPlan) -> None:
    link = inside.link(plan.name)
    if not link:
        raise OSError(errno.ENODEV, f"no interface {plan.name}")
    # The kernel refuses IPv6 addresses' routes while the interface is down.
    messages = [*netlink.loopback_up(), *netlink.interface_up(plan.name)]
    messages += [netlink.new_address(link.index, address) for address in plan.addresses]
    messages += [netlink.default_route(gateway, link.index) for gateway in plan.gateways]
    inside.request(messages)


def _set_up_sysctls(plan: VethPlan | DerivedPlan) -> None:
    """In the container's namespace: neighbours' advertisements must not add addresses and routes to ours, nor to none at all.

    Then what was asked for.
    """
    if any(":" in address for address in plan.addresses):
        _sysctl(f"ipv6/conf/{plan.name}/accept_ra", "0")
    elif netlink.HAS_IPV6:
        _sysctl(f"ipv6/conf/{plan.name}/disable_ipv6", "1")
    for name, _, value in (word.partition("=") for word in plan.sysctls):
        _sysctl(name, value)


def _corrections(index: int, present: Sequence[str], wanted: Sequence[str]) -> Iterator[netlink.Message]:
    """What leads from one set of addresses to the other. A family that has all that is wanted stays as it is: a bridge of
    somebody else's may have more; and so do the link-local addresses of the kernel's making."""
    for version in (4, 6):
        have = {address for address in map(ip_interface, present) if address.version == version}
        want = {address for address in map(ip_interface, wanted) if address.version == version}
        if want - have:
            yield from (netlink.del_address(index, str(address)) for address in have - want if not address.ip.is_link_local)
            yield from (netlink.new_address(index, str(address)) for address in want - have)


def _sysctl(name: str, value: str) -> None:
    path = Path("/proc/sys/net", name)
    if path.read_text().strip() != value:
        path.write_text(value)
