"""Driver "macvlan": each container has a MAC of its own on the parent's wire. ip-link(8)."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

from compat_engine.network.drivers.bridge import default_gateways, interface_addresses
from compat_engine.network.drivers.parent import check_parent, number_of, parent_of, without_way_out
from compat_engine.network.ipam import mac_of
from compat_engine.network.model import Endpoint, Network
from compat_engine.network.plan import DerivedPlan, ParentPlan

_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_PREFIX = "dm"


class Macvlan:
    addresses = several_subnets = True
    publishes = False

    def validate(self, network: Network, others: Sequence[Network]) -> None:
        _mode(network)
        check_parent(network, others, _PREFIX)

    def host(self, network: Network) -> ParentPlan:
        return parent_of(network, _PREFIX)

    def plug(self, network: Network, endpoint: Endpoint) -> Endpoint:
        mac = endpoint.mac or mac_of(ip_address(endpoint.ip or endpoint.ipv6))
        return replace(without_way_out(network, endpoint), mac=mac)

    def endpoint(self, network: Network, endpoint: Endpoint) -> DerivedPlan:
        return DerivedPlan(
            kind="macvlan",
            parent=self.host(network).name,
            mode=_mode(network),
            name=endpoint.interface,
            addresses=interface_addresses(endpoint),
            gateways=default_gateways(endpoint),
            sysctls=endpoint.sysctls,
            mac=endpoint.mac,
        )


def _mode(network: Network) -> int:
    return number_of(network, "macvlan_mode", _MODES, "macvlan mode", "bridge")
