"""Which addresses and subnets are free. Pure: no kernel, no disk; the caller tells what is taken, or derives it from records."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from compat_engine.errors import Forbidden, InvalidParameter, NotFound
from compat_engine.network.model import Pool

Address = IPv4Address | IPv6Address
Subnet = IPv4Network | IPv6Network

MAC = re.compile(r"[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}")
# (base, prefix length of one network): 172.17 to 172.31 as they are, 192.168.0.0/16 in sixteen parts.
DEFAULT_POOLS: tuple[tuple[str, int], ...] = (
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
)


class Leases:
    """The addresses of one network. Next fit: a freed one comes up again only after all others, when stale ARP has faded."""

    def __init__(self, subnet: Subnet, ip_range: Subnet | None = None, reserved: Iterable[Address] = ()) -> None:
        self.subnet = subnet
        pool = ip_range or subnet
        self._first, self._last = int(pool.network_address), int(pool.broadcast_address)
        self._taken = {int(address) for address in reserved} | _unusable(subnet)
        self._next = self._first

    def take(self) -> Address:
        """The next free address. Raises LookupError when there is none."""
        start = self._next
        candidate = start
        while candidate in self._taken:
            candidate = candidate + 1 if candidate < self._last else self._first
            if candidate == start:
                raise LookupError(str(self.subnet))
        self._taken.add(candidate)
        self._next = candidate + 1 if candidate < self._last else self._first
        return self._address(candidate)

    def claim(self, address: Address) -> Address:
        """That one address. Raises LookupError when it is taken or not of this subnet."""
        if address not in self.subnet or int(address) in self._taken:
            raise LookupError(str(address))
        self._taken.add(int(address))
        return address

    def restore(self, address: Address) -> None:
        """A lease known from records: taken, and not handed out next either."""
        self._taken.add(int(address))
        if self._first <= int(address) <= self._last:
            self._next = max(self._next, int(address) + 1 if int(address) < self._last else self._first)

    def free(self, address: Address) -> None:
        self._taken.discard(int(address))

    def _address(self, number: int) -> Address:
        return IPv4Address(number) if self.subnet.version == 4 else IPv6Address(number)


def _unusable(subnet: Subnet) -> set[int]:
    if subnet.num_addresses <= 2:
        return set()
    ends = {int(subnet.network_address)}
    return ends | {int(subnet.broadcast_address)} if subnet.version == 4 else ends


def choose_subnet(taken: Sequence[Subnet], pools: Sequence[tuple[str, int]] = DEFAULT_POOLS) -> Subnet:
    """The first subnet of the pools that overlaps nothing taken (networks and host routes). Raises InvalidParameter."""
    for base, size in pools:
        if found := _first_free(ip_network(base), size, taken):
            return found
    raise InvalidParameter("all predefined address pools have been fully subnetted")


def _first_free(base: Subnet, size: int, taken: Sequence[Subnet]) -> Subnet | None:
    """Each thing in the way is passed in one step: an IPv6 pool may have more subnets than could ever be tried."""
    one = 1 << (base.max_prefixlen - size)
    blocked = sorted((int(other.network_address), int(other.broadcast_address)) for other in taken if overlap(base, other))
    start = int(base.network_address)
    for first, last in blocked:
        if first < start + one and last >= start:
            start = (last // one + 1) * one
    return ip_network((start, size)) if start <= int(base.broadcast_address) else None


def unique_local_pool(seed: str) -> tuple[str, int]:
    """The IPv6 pool of a daemon that was given none: a /48 of RFC 4193 in /64 subnets, the same for the same seed and most likely
    nobody else's."""
    global_id = int.from_bytes(hashlib.sha256(seed.encode()).digest()[3:8], "big")
    return str(ip_network(((0xFD << 120) | (global_id << 80), 48))), 64


def overlap(one: Subnet, other: Subnet) -> bool:
    return one.version == other.version and one.overlaps(other)


def refuse_overlap(subnet: Subnet, networks: Iterable[Subnet]) -> None:
    if any(overlap(subnet, other) for other in networks):
        raise Forbidden("Pool overlaps with other one on this address space")


def check_pools(driver: str, pools: Sequence[Pool], ipv6: bool = True) -> None:
    """Raises InvalidParameter with every complaint about what was asked, NotFound for another IPAM driver.

    Without `ipv6` pools of that family are of no consequence, and not checked.
    """
    if driver not in ("", "default", "null"):
        raise NotFound(f'plugin "{driver}" not found')
    complaints = [complaint for pool in pools if ipv6 or pool.version == 4 for complaint in _complaints(pool)]
    if complaints:
        bullet = "* " if len(complaints) > 1 else ""
        raise InvalidParameter("invalid network config:\n" + "\n".join(bullet + complaint for complaint in complaints))


def _complaints(pool: Pool) -> Iterable[str]:
    subnet = _parse(pool.subnet)
    if subnet is None:
        yield f"invalid subnet {pool.subnet}: invalid CIDR block notation"
        return
    if pool.subnet.partition("/")[0] != str(subnet.network_address):
        yield f"invalid subnet {pool.subnet}: it should be {subnet}"
    if pool.ip_range:
        yield from _range_complaints(subnet, pool.ip_range)
    if pool.gateway:
        yield from _address_complaints(subnet, f"gateway {pool.gateway}", pool.gateway)
    for name, address in pool.auxiliary.items():
        yield from _address_complaints(subnet, f"auxiliary address {name}", address)


def _range_complaints(subnet: Subnet, text: str) -> Iterable[str]:
    ip_range = _parse(text)
    if ip_range is None:
        yield f"invalid ip-range {text}: invalid CIDR block notation"
    elif ip_range.version != subnet.version:
        yield f"invalid ip-range {text}: parent subnet is an IPv{subnet.version} block"
    elif ip_range.prefixlen < subnet.prefixlen:
        yield f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {subnet}"
    elif text.partition("/")[0] != str(ip_range.network_address):
        yield f"invalid ip-range {text}: it should be {ip_range}"
    elif not overlap(subnet, ip_range):
        yield f"invalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range"


def _address_complaints(subnet: Subnet, what: str, text: str) -> Iterable[str]:
    address = parse_address(text)
    if address is None:
        yield f"invalid {what}: invalid address"
    elif address.version != subnet.version:
        yield f"invalid {what}: parent subnet is an IPv{subnet.version} block"
    elif address not in subnet:
        yield f"invalid {what}: parent subnet {subnet} doesn't contain this address"


def parse_address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _parse(text: str) -> Subnet | None:
    if "/" not in text:
        return None
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def default_gateway(subnet: Subnet, ip_range: Subnet | None, reserved: Iterable[Address]) -> Address | None:
    """The first address a network may use; None in one too small to spare it."""
    if subnet.num_addresses <= 2:
        return None
    try:
        return Leases(subnet, ip_range, reserved).take()
    except LookupError:
        return None


def ip_range_of(pool: Pool) -> Subnet | None:
    return ip_network(pool.ip_range) if pool.ip_range else None


def is_mac(text: str) -> bool:
    return MAC.fullmatch(text) is not None


def mac_of(address: Address) -> str:
    """02:42 and the last four bytes: an address used again meets no stale ARP entry."""
    return "02:42:" + ":".join(f"{byte:02x}" for byte in address.packed[-4:])
