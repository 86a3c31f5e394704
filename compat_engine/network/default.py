"""Where the default bridge network gets its addresses from: the configuration, or a bridge that is there already."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_network
from typing import TypeVar

from compat_engine.config import Config
from compat_engine.errors import Internal, InvalidParameter
from compat_engine.network.drivers.bridge import DEFAULT_BRIDGE, HOST_BINDING, ICC, MASQUERADE, MTU, NAME
from compat_engine.network.edge import Edge
from compat_engine.network.ipam import Subnet, choose_subnet, default_gateway, overlap
from compat_engine.network.model import Network, Pool
from compat_engine.network.netlink import HAS_IPV6
from compat_engine.network.placement import Pools

T = TypeVar("T")
USUAL_NAME, USUAL_ADDRESS = "docker0", "172.17.0.1/16"


async def place_default_bridge(config: Config, edge: Edge, record: Network, others: Sequence[Subnet], pools: Pools) -> Network:
    """`record` with the addresses and options that are to be in force. others: subnets of our other networks.

    Raises Internal when the bridge is another engine's or the kernel has no IPv6, InvalidParameter for a bip, bip6 or
    fixed-cidr-v6 that is none.
    """
    address = await _address(config, edge, record, others, pools)
    subnet, gateway = str(address.network), str(address.ip)
    options = {
        DEFAULT_BRIDGE: "true",
        ICC: str(config.icc).lower(),
        MASQUERADE: str(config.ip_masq).lower(),
        HOST_BINDING: config.ip,
        NAME: config.bridge,
        MTU: str(config.mtu),
    }
    pool = Pool(subnet, _range("fixed-cidr", config.fixed_cidr, address.network), gateway)
    placed = replace(record, subnet=subnet, gateway=gateway, pools=(pool,), options=options)
    if not config.ipv6:
        return replace(placed, enable_ipv6=False, subnet6="", gateway6="")
    if not HAS_IPV6:
        raise Internal("ipv6 is wanted on the default bridge, and this host's kernel has none")
    taken = [*others, *(ip_network(route) for route in await edge.routes(config.bridge))]
    address6 = _address6(config, record, taken, pools)
    subnet6, gateway6 = str(address6.network), str(address6.ip)
    shown = (*placed.pools, Pool(subnet6, _range("fixed-cidr-v6", config.fixed_cidr_v6, address6.network), gateway6))
    return replace(placed, enable_ipv6=True, subnet6=subnet6, gateway6=gateway6, pools=shown)


def _address6(config: Config, record: Network, taken: Sequence[Subnet], pools: Pools) -> IPv6Interface:
    """As told; what nobody told stays as it was."""
    given = _parsed("bip6", IPv6Interface, config.bip6) if config.bip6 else None
    fixed = _parsed("fixed-cidr-v6", IPv6Network, config.fixed_cidr_v6) if config.fixed_cidr_v6 else None
    if given:
        return given
    if fixed:
        return IPv6Interface((default_gateway(fixed, None, ()) or fixed.network_address, fixed.prefixlen))
    if record.subnet6 and not any(overlap(ip_network(record.subnet6), other) for other in taken):
        return IPv6Interface((record.gateway6, ip_network(record.subnet6).prefixlen))
    subnet = choose_subnet(taken, pools.ipv6)
    return IPv6Interface((default_gateway(subnet, None, ()) or subnet.network_address, subnet.prefixlen))


async def _address(config: Config, edge: Edge, record: Network, others: Sequence[Subnet], pools: Pools) -> IPv4Interface:
    link = (await edge.links()).get(config.bridge)
    ours = link is not None and link.alias.startswith(f"{config.table} ")
    if link and not ours and config.bridge == USUAL_NAME:
        raise Internal(
            f"bridge {config.bridge} exists and was not made by this engine (is dockerd running?): choose another name with "
            f"--bridge, or remove it with: ip link delete {config.bridge}"
        )
    if link and not ours and (present := [word for word in await edge.addresses(config.bridge) if ":" not in word]):
        return IPv4Interface(present[0])
    wanted = _parsed("bip", IPv4Interface, config.bip)
    if config.bip != USUAL_ADDRESS:
        return wanted
    return await _unless_taken(wanted, config, edge, record, others, pools)


async def _unless_taken(
    wanted: IPv4Interface, config: Config, edge: Edge, record: Network, others: Sequence[Subnet], pools: Pools
) -> IPv4Interface:
    """The usual address was nobody's choice: where the host uses it otherwise, take another, and stay with that one."""
    taken = [*others, *(ip_network(route) for route in await edge.routes(config.bridge))]
    if record.subnet and not any(overlap(ip_network(record.subnet), other) for other in taken):
        return IPv4Interface(f"{record.gateway}/{ip_network(record.subnet).prefixlen}")
    if not any(overlap(wanted.network, other) for other in taken):
        return wanted
    subnet = choose_subnet(taken, pools.ipv4)
    return IPv4Interface(f"{default_gateway(subnet, None, ())}/{subnet.prefixlen}")


def _range(option: str, text: str, subnet: IPv4Network | IPv6Network) -> str:
    """Of containers' addresses; "" for the whole subnet. Raises InvalidParameter."""
    if not text:
        return ""
    found = _parsed(option, ip_network, text)
    if found.version != subnet.version or not found.subnet_of(subnet):  # type: ignore[arg-type]  # the same version
        raise InvalidParameter(f"{option} {found} is no part of the bridge's subnet {subnet}")
    return "" if found == subnet else str(found)


def _parsed(option: str, kind: Callable[[str], T], text: str) -> T:
    try:
        return kind(text)
    except ValueError as error:
        raise InvalidParameter(f"invalid {option} {text}: {error}") from None
