"""Who has which address, port and interface name. Claimed in memory without waiting, so that no two starts get the same."""

import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from compat_engine.errors import EngineError, Forbidden, Internal, InvalidParameter
from compat_engine.ids import new_id
from compat_engine.network.drivers import driver_of
from compat_engine.network.drivers.bridge import INTERFACE_NAME, INTERFACE_PREFIX, PUBLISH_VIA, host_binding
from compat_engine.network.drivers.gateway import families
from compat_engine.network.endpointopts import IFNAME, interface_sysctls
from compat_engine.network.ipam import Address, Leases, Subnet, ip_range_of, is_mac, parse_address
from compat_engine.network.model import Binding, Endpoint, Network, PortRequest
from compat_engine.network.plan import ROUTED
from compat_engine.network.ports import Ports


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """What somebody wants of an endpoint; "" leaves the choice to the engine. link_local: addresses besides.

    gw_priority: the container's default route is the endpoint's whose is highest.
    """

    ip: str = ""
    ip6: str = ""
    mac: str = ""
    ports: Sequence[PortRequest] = ()
    link_local: Sequence[str] = ()
    gw_priority: int = 0
    options: Mapping[str, str] = field(default_factory=dict)  # endpointopts.py


class Claims:
    """publish_via: as Config.publish_via, for networks that do not say."""

    def __init__(self, publish_via: str = "nat") -> None:
        self._publish_via = publish_via
        self._endpoints: dict[str, Endpoint] = {}  # by Endpoint.key
        self._leases: dict[str, tuple[Leases, ...]] = {}  # by network id; one for each subnet
        self._ports = Ports()

    def close(self) -> None:
        self._ports.close()

    def add_network(self, network: Network) -> None:
        self._leases[network.id] = tuple(_leases(network, space) for space in network.spaces)

    def remove_network(self, network: Network) -> None:
        self._leases.pop(network.id, None)

    def all(self) -> list[Endpoint]:
        return [*self._endpoints.values()]

    def get(self, container: str, network_id: str) -> Endpoint | None:
        return self._endpoints.get(f"{container}/{network_id}")

    def of_container(self, container: str) -> list[Endpoint]:
        return [endpoint for endpoint in self._endpoints.values() if endpoint.container == container]

    def of_network(self, network_id: str) -> list[Endpoint]:
        return [endpoint for endpoint in self._endpoints.values() if endpoint.network_id == network_id]

    def restore(self, endpoint: Endpoint) -> None:
        """Known from the records: its addresses are taken, its ports are held again."""
        self._endpoints[endpoint.key] = endpoint
        for leases, address in self._leased(endpoint):
            leases.restore(address)
        self._ports.restore(endpoint.ports)

    def claim(self, network: Network, draft: Endpoint, asked: EndpointRequest) -> Endpoint:
        """The endpoint with all that it gets; nothing is claimed when this raises Forbidden, Internal or InvalidParameter."""
        if draft.key in self._endpoints:
            raise Forbidden(f"endpoint with name {draft.container_name} already exists in network {network.name}")
        endpoint = replace(draft, id=new_id())
        if self._leases.get(network.id):
            endpoint = self._addressed(network, endpoint, asked)
            try:
                endpoint = self._plugged(network, endpoint, asked)
                endpoint = self.published(network, endpoint, asked.ports)
            except BaseException:
                self._free(endpoint)
                raise
        self._endpoints[endpoint.key] = endpoint
        return endpoint

    def sockets(self, endpoint: Endpoint) -> list[tuple[Binding, socket.socket]]:
        return self._ports.sockets(endpoint.ports)

    def unpublished(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint without its ports, which are free from here on."""
        self._ports.release(endpoint.ports)
        return replace(endpoint, ports=(), relayed=False)

    def replace(self, endpoint: Endpoint) -> None:
        """The same endpoint in another role; address as before."""
        self._endpoints[endpoint.key] = endpoint

    def release(self, endpoint: Endpoint) -> None:
        held = self._endpoints.get(endpoint.key)
        if not held or held.id != endpoint.id:
            return  # released before; what it had may be another's by now
        del self._endpoints[endpoint.key]
        self._ports.release(endpoint.ports)
        self._free(endpoint)

    def _leased(self, endpoint: Endpoint) -> Iterator[tuple[Leases, Address]]:
        for leases in self._leases.get(endpoint.network_id, ()):
            text = endpoint.ip if leases.subnet.version == 4 else endpoint.ipv6
            if text and ip_address(text) in leases.subnet:
                yield leases, ip_address(text)

    def _free(self, endpoint: Endpoint) -> None:
        for leases, address in self._leased(endpoint):
            leases.free(address)

    def _addressed(self, network: Network, endpoint: Endpoint, asked: EndpointRequest) -> Endpoint:
        """With an address of each family the network has."""
        if asked.mac and not is_mac(asked.mac):
            raise InvalidParameter(f"invalid MAC address {asked.mac}")
        for text in asked.link_local:
            _check_link_local(text)
        try:
            for version in (4, 6):
                if subnets := [leases for leases in self._leases[network.id] if leases.subnet.version == version]:
                    endpoint = _lease(network, subnets, endpoint, asked)
        except BaseException:
            self._free(endpoint)
            raise
        return endpoint

    def _plugged(self, network: Network, endpoint: Endpoint, asked: EndpointRequest) -> Endpoint:
        """With what follows from its addresses, its driver and the container's other endpoints."""
        others = self.of_container(endpoint.container)
        taken = {other.interface for other in others}
        interface = _asked_name(asked, taken) or _free_name(network.options.get(INTERFACE_PREFIX, "eth"), taken)
        endpoint = replace(
            endpoint,
            mac=asked.mac.replace("-", ":").lower(),
            link_local=tuple(asked.link_local),
            gw_priority=asked.gw_priority,
            interface=interface,
            sysctls=interface_sysctls(asked.options, interface),
        )
        endpoint = driver_of(network.driver).plug(network, endpoint)
        before = [other for other in others if other.rank < endpoint.rank]
        return replace(
            endpoint,
            default_route=bool(endpoint.gateway) and not any(other.default_route for other in before),
            default_route6=bool(endpoint.ipv6_gateway) and not any(other.default_route6 for other in before),
        )

    def published(self, network: Network, endpoint: Endpoint, ports: Sequence[PortRequest]) -> Endpoint:
        """With these ports, where the network can have them. Raises Internal, InvalidParameter."""
        if not ports or not publishes(network):
            return endpoint
        routed = families(network, ROUTED)
        relayed = network.options.get(PUBLISH_VIA, self._publish_via) == "input"
        try:
            if relayed and any(port.proto == "sctp" for port in ports):
                raise InvalidParameter("an SCTP port cannot be published via input: the relay carries TCP and UDP")
            bindings = self._ports.publish(ports, host_binding(network), _served(endpoint, routed), routed)
            return replace(endpoint, ports=bindings, relayed=relayed)
        except EngineError as error:
            what = f"driver failed programming external connectivity on endpoint {endpoint.container_name} ({endpoint.id})"
            raise type(error)(f"{what}: {error}") from error


def publishes(network: Network) -> bool:
    return not network.internal and driver_of(network.driver).publishes


def _leases(network: Network, space: Subnet) -> Leases:
    pool, gateway = network.pool_of(space), network.gateway_of(space)
    words = [*pool.auxiliary.values(), *([gateway] if gateway else [])]
    return Leases(space, ip_range_of(pool), [ip_address(word) for word in words])


def _lease(network: Network, subnets: Sequence[Leases], endpoint: Endpoint, asked: EndpointRequest) -> Endpoint:
    """With an address of one family, from the first of its subnets that has one, or has the one asked for."""
    version = subnets[0].subnet.version
    text = asked.ip if version == 4 else asked.ip6
    wanted = parse_address(text)
    if text and (not wanted or wanted.version != version):
        raise InvalidParameter(f"invalid IPv{version} address: {text}")
    subnet, address = _first_free(network, subnets, wanted)
    gateway = "" if network.internal else network.gateway_of(subnet)
    if version == 4:
        return replace(endpoint, ip=address, prefix_len=subnet.prefixlen, gateway=gateway)
    return replace(endpoint, ipv6=address, ipv6_prefix_len=subnet.prefixlen, ipv6_gateway=gateway)


def _first_free(network: Network, subnets: Sequence[Leases], wanted: Address | None) -> tuple[Subnet, str]:
    """Raises Forbidden, Internal."""
    for leases in subnets:
        try:
            return leases.subnet, str(leases.claim(wanted) if wanted else leases.take())
        except LookupError:
            continue
    if wanted:
        raise Forbidden("Address already in use")
    family = f"IPv{subnets[0].subnet.version}"
    raise Internal(f"no available {family} addresses on this network's address pools: {network.name} ({network.id})")


def _served(endpoint: Endpoint, routed: Collection[int]) -> set[int]:
    """Families with somebody to hear what comes to a published port: relay.py carries IPv6 to a container without it."""
    ipv6 = endpoint.ipv6 or 4 not in routed
    return {version for version, served in ((4, endpoint.ip), (6, ipv6)) if served}


def _check_link_local(text: str) -> None:
    address = parse_address(text)
    if not address or not address.is_link_local:
        raise InvalidParameter(f"invalid link local IP address: {text}")


def _asked_name(asked: EndpointRequest, taken: Collection[str]) -> str:
    """Of the interface; "" when none was asked for. Raises InvalidParameter."""
    name = asked.options.get(IFNAME, "")
    if name and not INTERFACE_NAME.fullmatch(name):
        raise InvalidParameter(f"invalid interface name {name!r}: at most 15 of A-Z a-z 0-9 . _ - @ +")
    if name in (*taken, "lo"):
        raise InvalidParameter(f"invalid interface name {name!r}: the container has one of that name")
    return name


def _free_name(prefix: str, taken: set[str]) -> str:
    number = 0
    while f"{prefix}{number}" in taken:
        number += 1
    return f"{prefix}{number}"
