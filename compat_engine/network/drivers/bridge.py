"""Driver "bridge": one Linux bridge a network, a veth pair a container. Options are Docker's labels."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address

from compat_engine import units
from compat_engine.errors import Forbidden, Internal, InvalidParameter
from compat_engine.ids import short
from compat_engine.network.drivers.gateway import check_gateway_modes, families, gateway_mode
from compat_engine.network.ipam import mac_of, parse_address
from compat_engine.network.model import Endpoint, Network
from compat_engine.network.netlink import HAS_IPV6
from compat_engine.network.plan import DEFAULT_MTU, ISOLATED, BridgePlan, VethPlan, link_local, stable_mac

PREFIX = "com.docker.network.bridge."
NAME, MASQUERADE, ICC = PREFIX + "name", PREFIX + "enable_ip_masquerade", PREFIX + "enable_icc"
HOST_BINDING, DEFAULT_BRIDGE = PREFIX + "host_binding_ipv4", PREFIX + "default_bridge"
HOST_ADDRESSES = {4: "com.docker.network.host_ipv4", 6: "com.docker.network.host_ipv6"}  # of outgoing packets
TRUSTED = PREFIX + "trusted_host_interfaces"  # separated by colons
INHIBIT_IPV4 = PREFIX + "inhibit_ipv4"  # the bridge itself gets no IPv4 address
PUBLISH_VIA = "compat-engine.publish-via"
MTU, INTERFACE_PREFIX = "com.docker.network.driver.mtu", "com.docker.network.container_iface_prefix"
INTERFACE_NAME = re.compile(r"[A-Za-z0-9._@+-]{1,15}")  # IFNAMSIZ less the NUL; nothing that nft(8) would read otherwise


class Bridge:
    addresses = publishes = True
    several_subnets = False

    def validate(self, network: Network, others: Sequence[Network]) -> None:
        if network.ipam_driver == "null":
            raise InvalidParameter(f"ipv{4 if network.enable_ipv4 else 6} pool is empty")
        for option in (MASQUERADE, ICC, INHIBIT_IPV4):
            boolean(network, option, True)
        mtu(network)
        host_binding(network)
        for version, option in HOST_ADDRESSES.items():
            _address_option(network, option, version)
        for name in _trusted(network):
            if not INTERFACE_NAME.fullmatch(name):
                raise InvalidParameter(f"invalid interface name {name!r} in {TRUSTED}")
        if (way := network.options.get(PUBLISH_VIA, "nat")) not in ("nat", "input"):
            raise InvalidParameter(f"failed to parse {PUBLISH_VIA} value: {way} (nat or input is wanted)")
        if network.enable_ipv6 and not HAS_IPV6:
            raise Internal("this host's kernel has no IPv6: the network cannot have it")
        check_gateway_modes(network)
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

    def host(self, network: Network) -> BridgePlan:
        mac = stable_mac(network.id)
        without = families(network, ISOLATED) | ({4} if boolean(network, INHIBIT_IPV4, False) else set())
        spaces = [space for space in network.spaces if space.version not in without]
        gateways = ((network.gateway_of(space), space.prefixlen) for space in spaces)
        return BridgePlan(
            name=bridge_name(network),
            addresses=(
                *(f"{gateway}/{prefix}" for gateway, prefix in gateways if gateway),
                *(link_local(mac) for space in spaces if space.version == 6),
            ),
            subnet=network.subnet,
            mac=mac,
            subnet6=network.subnet6,
            mtu=mtu(network),
            masquerade=boolean(network, MASQUERADE, True) and not network.internal,
            icc=boolean(network, ICC, True),
            internal=network.internal,
            mode=gateway_mode(network, 4),
            mode6=gateway_mode(network, 6),
            source=_address_option(network, HOST_ADDRESSES[4], 4),
            source6=_address_option(network, HOST_ADDRESSES[6], 6),
            trusted=_trusted(network),
        )

    def plug(self, network: Network, endpoint: Endpoint) -> Endpoint:
        mac = endpoint.mac or mac_of(ip_address(endpoint.ip or endpoint.ipv6))
        return replace(endpoint, mac=mac, host_interface=f"veth{endpoint.id[:11]}")

    def endpoint(self, network: Network, endpoint: Endpoint) -> VethPlan:
        return VethPlan(
            host_name=endpoint.host_interface,
            bridge=bridge_name(network),
            name=endpoint.interface,
            mac=endpoint.mac,
            addresses=interface_addresses(endpoint),
            gateways=default_gateways(endpoint),
            sysctls=endpoint.sysctls,
            mtu=mtu(network),
            isolated=not boolean(network, ICC, True),
        )


def default_gateways(endpoint: Endpoint) -> tuple[str, ...]:
    """Those of the default routes that this endpoint provides."""
    routes = ((endpoint.gateway, endpoint.default_route), (endpoint.ipv6_gateway, endpoint.default_route6))
    return tuple(gateway for gateway, wanted in routes if wanted)


def interface_addresses(endpoint: Endpoint) -> tuple[str, ...]:
    """In CIDR form, with the link-local ones."""
    return tuple(_addresses(endpoint))


def _addresses(endpoint: Endpoint) -> Iterator[str]:
    if endpoint.ip:
        yield f"{endpoint.ip}/{endpoint.prefix_len}"
    if endpoint.ipv6:
        yield f"{endpoint.ipv6}/{endpoint.ipv6_prefix_len}"
        if endpoint.mac:
            yield link_local(endpoint.mac)
    for address in endpoint.link_local:
        yield f"{address}/{64 if ':' in address else 16}"


def bridge_name(network: Network) -> str:
    return network.options.get(NAME) or f"br-{short(network.id)}"


def boolean(network: Network, option: str, default: bool) -> bool:
    """Raises InvalidParameter."""
    value = network.options.get(option)
    if value is None:
        return default
    try:
        return units.boolean(value)
    except InvalidParameter as error:
        raise InvalidParameter(f"failed to parse {option} value: {value} ({error})") from error


def _address_option(network: Network, option: str, version: int) -> str:
    """ "" without the option. Raises InvalidParameter."""
    value = network.options.get(option, "")
    address = parse_address(value)
    if option in network.options and (not address or address.version != version):
        raise InvalidParameter(f"failed to parse {option} value: {value} (nil ip)")
    return str(address) if address else ""


def _trusted(network: Network) -> tuple[str, ...]:
    return tuple(name for name in network.options.get(TRUSTED, "").split(":") if name)


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
