"""Where the default bridge network gets its addresses from: the configuration, or a bridge that is there already."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Interface, ip_network

from compat_engine.config import Config
from compat_engine.errors import Internal, InvalidParameter
from compat_engine.network.drivers.bridge import DEFAULT_BRIDGE, HOST_BINDING, ICC, MASQUERADE, MTU, NAME
from compat_engine.network.edge import Edge
from compat_engine.network.ipam import DEFAULT_POOLS, Subnet, choose_subnet, default_gateway, overlap
from compat_engine.network.model import Network, Pool

USUAL_NAME, USUAL_ADDRESS = "docker0", "172.17.0.1/16"


async def place_default_bridge(config: Config, edge: Edge, record: Network, others: Sequence[Subnet]) -> Network:
    """`record` with the address and options that are to be in force. others: subnets of our other networks.

    Raises Internal when the bridge is another engine's, InvalidParameter for a bip that is none.
    """
    address = await _address(config, edge, record, others)
    subnet, gateway = str(address.network), str(address.ip)
    options = {
        DEFAULT_BRIDGE: "true",
        ICC: str(config.icc).lower(),
        MASQUERADE: str(config.ip_masq).lower(),
        HOST_BINDING: config.ip,
        NAME: config.bridge,
        MTU: str(config.mtu),
    }
    return replace(record, subnet=subnet, gateway=gateway, pools=(Pool(subnet, gateway=gateway),), options=options)


async def _address(config: Config, edge: Edge, record: Network, others: Sequence[Subnet]) -> IPv4Interface:
    link = (await edge.links()).get(config.bridge)
    ours = link is not None and link.alias.startswith(f"{config.table} ")
    if link and not ours and config.bridge == USUAL_NAME:
        raise Internal(
            f"bridge {config.bridge} exists and was not made by this engine (is dockerd running?): choose another name with "
            f"--bridge, or remove it with: ip link delete {config.bridge}"
        )
    if link and not ours and (present := [word for word in await edge.addresses(config.bridge) if ":" not in word]):
        return IPv4Interface(present[0])
    wanted = _bip(config.bip)
    if config.bip != USUAL_ADDRESS:
        return wanted
    return await _unless_taken(wanted, config, edge, record, others)


async def _unless_taken(
    wanted: IPv4Interface, config: Config, edge: Edge, record: Network, others: Sequence[Subnet]
) -> IPv4Interface:
    """The usual address was nobody's choice: where the host uses it otherwise, take another, and stay with that one."""
    taken = [*others, *(ip_network(route) for route in await edge.routes(config.bridge))]
    if record.subnet and not any(overlap(ip_network(record.subnet), other) for other in taken):
        return IPv4Interface(f"{record.gateway}/{ip_network(record.subnet).prefixlen}")
    if not any(overlap(wanted.network, other) for other in taken):
        return wanted
    subnet = choose_subnet(taken, config.default_address_pools or DEFAULT_POOLS)
    return IPv4Interface(f"{default_gateway(subnet, None, ())}/{subnet.prefixlen}")


def _bip(text: str) -> IPv4Interface:
    try:
        return IPv4Interface(text)
    except ValueError as error:
        raise InvalidParameter(f"invalid bip {text}: {error}") from None
