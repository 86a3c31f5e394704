"""Which addresses a new network gets: what was asked for, else the first free subnet of a pool. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from compat_engine.errors import Forbidden, Internal
from compat_engine.network.drivers import driver_of
from compat_engine.network.drivers.gateway import families
from compat_engine.network.ipam import DEFAULT_POOLS, Subnet, choose_subnet, default_gateway, ip_range_of, refuse_overlap
from compat_engine.network.model import Network, Pool
from compat_engine.network.plan import ISOLATED


@dataclass(frozen=True, slots=True)
class Pools:
    """Where subnets come from that nobody asked for, as (base, prefix length of one network)."""

    ipv4: tuple[tuple[str, int], ...]
    ipv6: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, configured: Sequence[tuple[str, int]], unique_local: tuple[str, int]) -> "Pools":
        """The configured ones; for a family without any, Docker's usual ones and the daemon's unique local one."""
        ipv4 = tuple(pool for pool in configured if ":" not in pool[0])
        ipv6 = tuple(pool for pool in configured if ":" in pool[0])
        return cls(ipv4 or DEFAULT_POOLS, ipv6 or (unique_local,))


@dataclass(frozen=True, slots=True)
class Placed:
    """One family of a network, decided. asked: by the user."""

    subnet: str
    gateway: str
    asked: bool


def placed(network: Network, pools: Pools, others: Sequence[Subnet], routes: Sequence[Subnet]) -> Network:
    """The network with its addresses decided. others: subnets of our networks. A subnet asked for may overlap a host route, as in
    Docker; a chosen one not. Raises Forbidden (overlap, several subnets of a family), InvalidParameter (pools exhausted),
    Internal (one address for two).
    """
    several = driver_of(network.driver).several_subnets
    further = [_further(network, version, several, others) for version in (4, 6)]
    network = replace(network, further=tuple(pool for pools in further for pool in pools))
    if network.enable_ipv4:
        found = _place(network, 4, pools.ipv4, others, routes)
        network = replace(network, subnet=found.subnet, gateway=found.gateway, asked_subnet=found.asked)
    if network.enable_ipv6:
        found = _place(network, 6, pools.ipv6, others, routes)
        network = replace(network, subnet6=found.subnet, gateway6=found.gateway, asked_subnet6=found.asked)
    chosen = [(network.subnet, network.gateway, network.asked_subnet), (network.subnet6, network.gateway6, network.asked_subnet6)]
    shown = [*sorted(network.pools, key=lambda pool: pool.version)]
    shown += [Pool(subnet, gateway=gateway) for subnet, gateway, asked in chosen if subnet and not asked]
    return replace(network, pools=tuple(shown))


def _place(
    network: Network, version: int, pools: Sequence[tuple[str, int]], others: Sequence[Subnet], routes: Sequence[Subnet]
) -> Placed:
    alone = version in families(network, ISOLATED)  # without an address of the host's
    asked = [pool for pool in network.pools if pool.version == version]
    if not asked:
        chosen = choose_subnet([*others, *routes], pools)
        return Placed(str(chosen), "" if alone else str(default_gateway(chosen, None, ()) or ""), asked=False)
    return _as_asked(asked[0], others, alone)


def _as_asked(pool: Pool, others: Sequence[Subnet], alone: bool = False) -> Placed:
    subnet = ip_network(pool.subnet)
    refuse_overlap(subnet, others)
    reserved = [ip_address(address) for address in pool.auxiliary.values()]
    if pool.gateway or alone:
        _refuse_twice(pool)
        return Placed(str(subnet), str(ip_address(pool.gateway)) if pool.gateway else "", asked=True)
    return Placed(str(subnet), str(default_gateway(subnet, ip_range_of(pool), reserved) or ""), asked=True)


def _further(network: Network, version: int, several: bool, others: Sequence[Subnet]) -> list[Pool]:
    """The subnets of a family after its first, with their gateways."""
    if not (network.enable_ipv4 if version == 4 else network.enable_ipv6):
        return []
    asked = [pool for pool in network.pools if pool.version == version]
    before = [*others, *(ip_network(pool.subnet) for pool in asked[:1])]
    found = []
    for pool in asked[1:]:
        found.append(replace(pool, gateway=_as_asked(pool, before).gateway))
        before.append(ip_network(pool.subnet))
    if found and not several:
        raise Forbidden(f"{network.driver} driver doesn't support multiple subnets")
    return found


def _refuse_twice(pool: Pool) -> None:
    """Raises Internal, as dockerd answers 500, when the gateway is an auxiliary address as well."""
    for name, address in pool.auxiliary.items():
        if pool.gateway and ip_address(address) == ip_address(pool.gateway):
            raise Internal(f"failed to allocate secondary ip address ({name}:{address}): Address already in use")
