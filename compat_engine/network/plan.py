"""What the kernel shall have, as values: printed, compared and tested without a kernel."""

import hashlib
from dataclasses import dataclass

DEFAULT_MTU = 1500


@dataclass(frozen=True, slots=True)
class BridgePlan:
    """A bridge on the host. address is in CIDR form, "" for none; alias marks the bridge as this daemon's."""

    name: str
    address: str
    subnet: str
    mac: str
    alias: str = ""
    mtu: int = DEFAULT_MTU
    masquerade: bool = True
    icc: bool = True
    internal: bool = False


@dataclass(frozen=True, slots=True)
class VethPlan:
    """A container's interface: host_name, a port of `bridge`, and its other end `name` in the container.

    gateway "" leaves the container without a default route. isolated: no traffic with other isolated ports of the bridge.
    alias marks the host's end as this daemon's.
    """

    host_name: str
    bridge: str
    name: str
    mac: str
    address: str  # CIDR
    gateway: str = ""
    mtu: int = DEFAULT_MTU
    isolated: bool = False
    alias: str = ""


@dataclass(frozen=True, slots=True)
class LoopbackPlan:
    """A network namespace with nothing but its own lo."""


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """The host's own network: nothing to do."""


EndpointPlan = VethPlan | LoopbackPlan | SharedPlan


def stable_mac(seed: str) -> str:
    """A locally administered address that stays the same for the same seed."""
    return "02:42:" + hashlib.sha256(seed.encode()).digest()[:4].hex(":")
