"""Driver "bridge": one Linux bridge a network, a veth pair a container. Options are Docker's labels."""

import re
from collections.abc import Sequence

from compat_engine.errors import Forbidden, InvalidParameter, NotImplementedHere
from compat_engine.ids import short
from compat_engine.network.ipam import parse_address
from compat_engine.network.model import Endpoint, Network
from compat_engine.network.plan import DEFAULT_MTU, BridgePlan, VethPlan, stable_mac

PREFIX = "com.docker.network.bridge."
NAME, MASQUERADE, ICC = PREFIX + "name", PREFIX + "enable_ip_masquerade", PREFIX + "enable_icc"
HOST_BINDING, DEFAULT_BRIDGE = PREFIX + "host_binding_ipv4", PREFIX + "default_bridge"
MTU, INTERFACE_PREFIX = "com.docker.network.driver.mtu", "com.docker.network.container_iface_prefix"
INTERFACE_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,15}")  # IFNAMSIZ less the NUL; nothing that nft(8) would read otherwise
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


class Bridge:
    addresses = True

    def validate(self, network: Network, others: Sequence[Network]) -> None:
        for option in (MASQUERADE, ICC):
            boolean(network, option, True)
        mtu(network)
        host_binding(network)
        if network.enable_ipv6 or any(":" in pool.subnet for pool in network.pools):
            raise NotImplementedHere("IPv6 networks are not available in this engine")
        for mode in (PREFIX + "gateway_mode_ipv4", PREFIX + "gateway_mode_ipv6"):
            if network.options.get(mode, "nat") != "nat":
                raise NotImplementedHere(f"{mode}={network.options[mode]} is not available in this engine")
        if len(network.pools) > 1:
            raise Forbidden("bridge driver doesn't support multiple subnets")
        name = bridge_name(network)
        if not INTERFACE_NAME.fullmatch(name):
            raise InvalidParameter(f"invalid bridge name {name!r}: at most 15 of A-Z a-z 0-9 . _ - @ +")
        prefix = network.options.get(INTERFACE_PREFIX, "eth")
        if not INTERFACE_NAME.fullmatch(f"{prefix}000"):
            raise InvalidParameter(f"invalid interface prefix {prefix!r}: at most 12 of A-Z a-z 0-9 . _ - @ +")
        for other in others:
            if other.driver == "bridge" and bridge_name(other) == name:
                raise Forbidden(
                    f"cannot create network {network.id} ({name}): conflicts with network {other.id} ({name}): "
                    "networks have same bridge name"
                )

    def bridge(self, network: Network) -> BridgePlan:
        space = network.address_space
        return BridgePlan(
            name=bridge_name(network),
            address=f"{network.gateway}/{space.prefixlen}" if network.gateway and space else "",
            subnet=network.subnet,
            mac=stable_mac(network.id),
            mtu=mtu(network),
            masquerade=boolean(network, MASQUERADE, True) and not network.internal,
            icc=boolean(network, ICC, True),
            internal=network.internal,
        )

    def endpoint(self, network: Network, endpoint: Endpoint) -> VethPlan:
        return VethPlan(
            host_name=endpoint.host_interface,
            bridge=bridge_name(network),
            name=endpoint.interface,
            mac=endpoint.mac,
            address=f"{endpoint.ip}/{endpoint.prefix_len}",
            gateway=endpoint.gateway if endpoint.default_route else "",
            mtu=mtu(network),
            isolated=not boolean(network, ICC, True),
        )


def bridge_name(network: Network) -> str:
    return network.options.get(NAME) or f"br-{short(network.id)}"


def boolean(network: Network, option: str, default: bool) -> bool:
    """As Go's strconv.ParseBool. Raises InvalidParameter."""
    value = network.options.get(option)
    if value is None:
        return default
    if value not in _TRUE + _FALSE:
        raise InvalidParameter(f'failed to parse {option} value: {value} (strconv.ParseBool: parsing "{value}": invalid syntax)')
    return value in _TRUE


def mtu(network: Network) -> int:
    value = network.options.get(MTU, str(DEFAULT_MTU))
    if not value.removeprefix("-").isdecimal():
        raise InvalidParameter(f'failed to parse {MTU} value: {value} (strconv.Atoi: parsing "{value}": invalid syntax)')
    if int(value) < 0:
        raise InvalidParameter(f"invalid MTU number: {value}")
    return int(value) or DEFAULT_MTU


def host_binding(network: Network) -> str:
    """The host address of ports published without one; "" is every address. Raises InvalidParameter."""
    value = network.options.get(HOST_BINDING, "0.0.0.0")
    if not parse_address(value):
        raise InvalidParameter(f"failed to parse {HOST_BINDING} value: {value} (nil ip)")
    return "" if value == "0.0.0.0" else value
