"""Driver "ipvlan": containers share the parent's MAC. l2 switches, l3 routes between parent and containers, l3s with conntrack.

See ip-link(8) and the kernel's Documentation/networking/ipvlan.rst.
"""

from collections.abc import Sequence
from dataclasses import replace

from compat_engine.errors import InvalidParameter
from compat_engine.network.drivers.bridge import default_gateways, interface_addresses
from compat_engine.network.drivers.parent import check_parent, number_of, parent_of, without_way_out
from compat_engine.network.model import Endpoint, Network
from compat_engine.network.plan import DerivedPlan, ParentPlan

_MODES = {"l2": 0, "l3": 1, "l3s": 2}
_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}
_PREFIX = "di"


class Ipvlan:
    addresses = several_subnets = True
    publishes = False

    def validate(self, network: Network, others: Sequence[Network]) -> None:
        _mode(network)
        _flags(network)
        check_parent(network, others, _PREFIX)

    def host(self, network: Network) -> ParentPlan:
        return parent_of(network, _PREFIX)

    def plug(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """In the l3 modes there is no neighbour to be a gateway: whatever is sent into the interface is routed."""
        if endpoint.mac:
            raise InvalidParameter("ipvlan interfaces do not support custom mac address assignment")
        endpoint = without_way_out(network, endpoint)
        if _mode(network) == _MODES["l2"]:
            return endpoint
        gateway, gateway6 = endpoint.gateway and "0.0.0.0", endpoint.ipv6_gateway and "::"
        return replace(endpoint, gateway=gateway, ipv6_gateway=gateway6)

    def endpoint(self, network: Network, endpoint: Endpoint) -> DerivedPlan:
        return DerivedPlan(
            kind="ipvlan",
            parent=self.host(network).name,
            mode=_mode(network),
            name=endpoint.interface,
            addresses=interface_addresses(endpoint),
            gateways=default_gateways(endpoint),
            sysctls=endpoint.sysctls,
            flags=_flags(network),
        )


def _mode(network: Network) -> int:
    return number_of(network, "ipvlan_mode", _MODES, "ipvlan mode", "l2")


def _flags(network: Network) -> int:
    return number_of(network, "ipvlan_flag", _FLAGS, "ipvlan flag", "bridge")
