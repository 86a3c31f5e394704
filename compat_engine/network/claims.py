"""Who has which address, port and interface name. Claimed in memory without waiting, so that no two starts get the same."""

import socket
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

from compat_engine.errors import EngineError, Forbidden, Internal, InvalidParameter
from compat_engine.ids import new_id
from compat_engine.network.drivers.bridge import INTERFACE_PREFIX, host_binding
from compat_engine.network.ipam import Leases, Subnet, is_mac, mac_of, parse_address
from compat_engine.network.model import Binding, Endpoint, Network, Pool, PortRequest
from compat_engine.network.ports import Ports


class Claims:
    def __init__(self) -> None:
        self._endpoints: dict[str, Endpoint] = {}  # by Endpoint.key
        self._leases: dict[str, Leases] = {}  # by network id
        self._ports = Ports()

    def close(self) -> None:
        self._ports.close()

    def add_network(self, network: Network) -> None:
        space = network.address_space
        if space:
            pool = network.pools[0] if network.pools else Pool()
            words = [*pool.auxiliary.values(), *([network.gateway] if network.gateway else [])]
            self._leases[network.id] = Leases(space, ip_range_of(pool), [ip_address(word) for word in words])

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
        """Known from the records: its address is taken, its ports are held again."""
        self._endpoints[endpoint.key] = endpoint
        if endpoint.ip and (leases := self._leases.get(endpoint.network_id)):
            leases.restore(ip_address(endpoint.ip))
        self._ports.restore(endpoint.ports)

    def claim(self, network: Network, draft: Endpoint, ip: str, mac: str, ports: Sequence[PortRequest]) -> Endpoint:
        """The endpoint with all that it gets; nothing is claimed when this raises Forbidden, Internal or InvalidParameter."""
        if draft.key in self._endpoints:
            raise Forbidden(f"endpoint with name {draft.container_name} already exists in network {network.name}")
        endpoint = replace(draft, id=new_id())
        if leases := self._leases.get(network.id):
            endpoint = self._addressed(network, leases, endpoint, ip, mac)
            try:
                endpoint = self._published(network, endpoint, ports)
            except BaseException:
                leases.free(ip_address(endpoint.ip))
                raise
        self._endpoints[endpoint.key] = endpoint
        return endpoint

    def sockets(self, endpoint: Endpoint) -> list[tuple[Binding, socket.socket]]:
        return self._ports.sockets(endpoint.ports)

    def replace(self, endpoint: Endpoint) -> None:
        """The same endpoint in another role; address and ports as before."""
        self._endpoints[endpoint.key] = endpoint

    def release(self, endpoint: Endpoint) -> None:
        held = self._endpoints.get(endpoint.key)
        if not held or held.id != endpoint.id:
            return  # released before; what it had may be another's by now
        del self._endpoints[endpoint.key]
        self._ports.release(endpoint.ports)
        if endpoint.ip and (leases := self._leases.get(endpoint.network_id)):
            leases.free(ip_address(endpoint.ip))

    def _addressed(self, network: Network, leases: Leases, endpoint: Endpoint, ip: str, mac: str) -> Endpoint:
        if mac and not is_mac(mac):
            raise InvalidParameter(f"invalid MAC address {mac}")
        wanted = parse_address(ip)
        if ip and not wanted:
            raise InvalidParameter(f"invalid IPv4 address: {ip}")
        try:
            address = leases.claim(wanted) if wanted else leases.take()
        except LookupError:
            raise _unavailable(network, ip) from None
        others = self.of_container(endpoint.container)
        gateway = "" if network.internal else network.gateway
        return replace(
            endpoint,
            ip=str(address),
            prefix_len=leases.subnet.prefixlen,
            gateway=gateway,
            mac=mac.replace("-", ":").lower() or mac_of(address),
            interface=_free_name(network.options.get(INTERFACE_PREFIX, "eth"), {other.interface for other in others}),
            host_interface=f"veth{endpoint.id[:11]}",
            default_route=bool(gateway) and not any(other.default_route for other in others),
        )

    def _published(self, network: Network, endpoint: Endpoint, ports: Sequence[PortRequest]) -> Endpoint:
        if not ports or network.internal:
            return endpoint
        try:
            return replace(endpoint, ports=self._ports.publish(ports, host_binding(network)))
        except EngineError as error:
            what = f"driver failed programming external connectivity on endpoint {endpoint.container_name} ({endpoint.id})"
            raise type(error)(f"{what}: {error}") from error


def ip_range_of(pool: Pool) -> Subnet | None:
    return ip_network(pool.ip_range) if pool.ip_range else None


def _unavailable(network: Network, ip: str) -> EngineError:
    if ip:
        return Forbidden("Address already in use")
    return Internal(f"no available IPv4 addresses on this network's address pools: {network.name} ({network.id})")


def _free_name(prefix: str, taken: set[str]) -> str:
    number = 0
    while f"{prefix}{number}" in taken:
        number += 1
    return f"{prefix}{number}"
