"""What the kernel shall have, as values: printed, compared and tested without a kernel."""

import hashlib
from dataclasses import dataclass
from ipaddress import IPv6Interface

DEFAULT_MTU = 1500
NAT, UNPROTECTED, ROUTED, ISOLATED = "nat", "nat-unprotected", "routed", "isolated"  # modes of a bridge network


@dataclass(frozen=True, slots=True)
class BridgePlan:
    """A bridge on the host. addresses are in CIDR form; a subnet is "" where the network lacks that family.

    mode and mode6 say how containers are reached from outside. source and source6: the host's address that masqueraded packets
    get, "" for that of the interface they leave by. trusted: interfaces from which every port of every container is reached.
    alias marks the bridge as this daemon's.
    """

    name: str
    addresses: tuple[str, ...]
    subnet: str
    mac: str
    subnet6: str = ""
    alias: str = ""
    mtu: int = DEFAULT_MTU
    masquerade: bool = True
    icc: bool = True
    internal: bool = False
    mode: str = NAT
    mode6: str = NAT
    source: str = ""
    source6: str = ""
    trusted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ParentPlan:
    """An interface of the host that containers' own are derived from.

    Where there is none of that name one is made, and marked with alias: with `dummy` one that leads nowhere, else the VLAN its
    name tells of (eth0.10).
    """

    name: str
    dummy: bool = False
    alias: str = ""


HostPlan = BridgePlan | ParentPlan


@dataclass(frozen=True, slots=True)
class VethPlan:
    """A container's interface: host_name, a port of `bridge`, and its other end `name` in the container.

    gateways, at most one of each family, give the container its default routes. Without an IPv6 address the interface is closed
    to that family. isolated: no traffic with other isolated ports of the bridge. alias marks the host's end as this daemon's.
    """

    host_name: str
    bridge: str
    name: str
    mac: str
    addresses: tuple[str, ...]  # CIDR
    gateways: tuple[str, ...] = ()
    mtu: int = DEFAULT_MTU
    isolated: bool = False
    alias: str = ""
    sysctls: tuple[str, ...] = ()  # "ipv4/conf/eth0/NAME=VALUE", below /proc/sys/net


@dataclass(frozen=True, slots=True)
class DerivedPlan:
    """A container's interface on top of one of the host's: kind macvlan or ipvlan, mode and flags in the kernel's numbers.

    mac "" leaves it to the kernel: an ipvlan interface has its parent's. A gateway of 0.0.0.0 or :: is the interface itself.
    """

    kind: str
    parent: str
    mode: int
    name: str
    addresses: tuple[str, ...]  # CIDR
    gateways: tuple[str, ...] = ()
    mac: str = ""
    flags: int = 0
    sysctls: tuple[str, ...] = ()  # as VethPlan's


@dataclass(frozen=True, slots=True)
class LoopbackPlan:
    """A network namespace with nothing but its own lo."""


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """The host's own network: nothing to do."""


EndpointPlan = VethPlan | DerivedPlan | LoopbackPlan | SharedPlan


def stable_mac(seed: str) -> str:
    """A locally administered address that stays the same for the same seed."""
    return "02:42:" + hashlib.sha256(seed.encode()).digest()[:4].hex(":")


def link_local(mac: str) -> str:
    """The IPv6 address, in CIDR form, by which an interface of that MAC is known on its own link (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(IPv6Interface((b"\xfe\x80" + bytes(6) + identifier, 64)))
