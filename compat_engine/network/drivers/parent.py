"""What macvlan and ipvlan share: a parent on the host (-o parent=eth0 or eth0.10), or none for a network by itself."""

from collections.abc import Sequence
from dataclasses import replace

from compat_engine.errors import Internal, NotImplementedHere
from compat_engine.ids import short
from compat_engine.network.model import Endpoint, Network
from compat_engine.network.plan import ParentPlan

PARENT = "parent"


def parent_of(network: Network, prefix: str) -> ParentPlan:
    """prefix: of the name of the dummy interface that takes the place of a parent."""
    name = network.options.get(PARENT, "")
    return ParentPlan(name) if name else ParentPlan(f"{prefix}-{short(network.id)}", dummy=True)


def check_parent(network: Network, others: Sequence[Network], prefix: str) -> None:
    """Raises Internal when the parent is lo, or another network's of the same driver: frames would go to the first alone.

    And NotImplementedHere for networks without addresses.
    """
    if network.ipam_driver == "null":
        raise NotImplementedHere(
            f"containers without addresses (IPAM driver null) are not available on {network.driver} networks"
        )
    name = network.options.get(PARENT, "")
    if name == "lo":
        raise Internal(f"loopback interface is not a valid {network.driver} parent link")
    for other in others:
        if name and other.driver == network.driver and other.options.get(PARENT) == name:
            raise Internal(f"network {prefix}-{short(other.id)} is already using parent interface {name}")


def number_of(network: Network, option: str, values: dict[str, int], what: str, default: str) -> int:
    """The kernel's number for the option's word. Raises Internal: dockerd answers 500."""
    word = network.options.get(option) or default
    if word not in values:
        driver = network.driver
        raise Internal(f"requested {what} '{word}' is not valid, '{default}' {_noun(what)}is the {driver} driver default")
    return values[word]


def without_way_out(network: Network, endpoint: Endpoint) -> Endpoint:
    """An internal network's containers, and those of one without a parent, get no default route."""
    if network.internal or not network.options.get(PARENT):
        return replace(endpoint, gateway="", ipv6_gateway="")
    return endpoint


def _noun(what: str) -> str:
    return "mode " if what.endswith("mode") else ""
