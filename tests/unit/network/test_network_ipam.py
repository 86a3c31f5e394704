from ipaddress import IPv4Address, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compat_engine.errors import Forbidden, InvalidParameter, NotFound
from compat_engine.network.ipam import (
    Address,
    Leases,
    Subnet,
    check_pools,
    choose_subnet,
    mac_of,
    overlap,
    refuse_overlap,
    unique_local_pool,
)
from compat_engine.network.model import Pool


@given(
    prefix=st.integers(24, 32),
    steps=st.lists(st.tuples(st.sampled_from(["take", "free", "claim"]), st.integers(0, 255)), max_size=120),
)
@settings(max_examples=60)
def test_no_address_is_given_twice_nor_outside_the_subnet(prefix: int, steps: list[tuple[str, int]]) -> None:
    subnet = ip_network(f"10.1.2.0/{prefix}")
    leases = Leases(subnet)
    held: set[Address] = set()
    for step, number in steps:
        if step == "free" and held:
            address = sorted(held)[number % len(held)]
            held.discard(address)
            leases.free(address)
            continue
        wanted = IPv4Address("10.1.2.0") + number
        try:
            if step == "claim":
                leases.claim(wanted)
            given_ = wanted if step == "claim" else leases.take()
        except LookupError:
            usable = subnet.num_addresses - (2 if prefix < 31 else 0)
            assert step == "claim" or len(held) == usable
            continue
        assert given_ in subnet
        assert given_ not in held
        assert prefix >= 31 or given_ not in (subnet.network_address, subnet.broadcast_address)
        held.add(given_)


def test_a_freed_address_comes_up_again_last() -> None:
    leases = Leases(ip_network("10.0.0.0/29"), None, [ip_address("10.0.0.1")])
    first = leases.take()
    leases.free(first)
    rest = [str(leases.take()) for _ in range(5)]
    assert (str(first), rest) == ("10.0.0.2", ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"])


def test_the_range_limits_what_is_chosen_and_not_what_is_asked_for() -> None:
    leases = Leases(ip_network("10.0.0.0/24"), ip_network("10.0.0.128/30"))
    assert [str(leases.take()) for _ in range(4)] == ["10.0.0.128", "10.0.0.129", "10.0.0.130", "10.0.0.131"]
    with pytest.raises(LookupError):
        leases.take()
    leases.claim(ip_address("10.0.0.5"))


def test_leases_from_records_are_neither_given_nor_next() -> None:
    leases = Leases(ip_network("10.0.0.0/24"))
    leases.restore(ip_address("10.0.0.9"))
    assert str(leases.take()) == "10.0.0.10"


@given(st.lists(st.integers(0, 30), max_size=40))
@settings(max_examples=30)
def test_a_chosen_subnet_overlaps_nothing(numbers: list[int]) -> None:
    taken = [ip_network(f"172.{16 + number}.4.0/24") for number in numbers]
    assert not any(overlap(choose_subnet(taken), other) for other in taken)


@given(
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 64)), max_size=40),
    st.integers(8, 64),
)
@settings(max_examples=60)
def test_an_ipv6_pool_of_any_size_is_searched_at_once(places: list[tuple[int, int]], prefix: int) -> None:
    base = ip_network(f"fd00::/{prefix}")
    taken: list[Subnet] = [ip_network(((0xFD << 120) | (place << 64), length), strict=False) for place, length in places]
    try:
        found = choose_subnet(taken, [(str(base), 64)])
    except InvalidParameter:  # only where they cover it all
        assert sum(min(one.num_addresses, base.num_addresses) for one in collapse_addresses(overlapping(base, taken))) >= (
            base.num_addresses
        )
        return
    assert found.prefixlen == 64
    assert found.subnet_of(base)  # type: ignore[arg-type]
    assert not any(overlap(found, other) for other in taken)


def overlapping(base: Subnet, taken: list[Subnet]) -> list[IPv6Network]:
    return [one for one in taken if isinstance(one, IPv6Network) and overlap(base, one)]


@given(
    steps=st.lists(st.tuples(st.sampled_from(["take", "free", "claim"]), st.integers(0, (1 << 64) - 1)), max_size=80),
    prefix=st.integers(16, 128),
)
@settings(max_examples=60)
def test_an_ipv6_address_is_never_given_twice(steps: list[tuple[str, int]], prefix: int) -> None:
    subnet = ip_network((0xFD << 120, prefix))
    leases, held = Leases(subnet), set[Address]()
    for step, number in steps:
        wanted = IPv6Address((0xFD << 120) + number)
        if step == "free":
            leases.free(wanted)
            held.discard(wanted)
            continue
        try:
            given_ = leases.claim(wanted) if step == "claim" else leases.take()
        except LookupError:
            assert step == "claim" or len(held) >= subnet.num_addresses - 1
            continue
        assert given_ in subnet
        assert given_ not in held
        assert prefix >= 127 or given_ != subnet.network_address
        held.add(given_)


def test_a_daemons_own_ipv6_pool() -> None:
    pool, size = unique_local_pool("somewhere")
    assert (pool, size) == unique_local_pool("somewhere")
    assert pool != unique_local_pool("elsewhere")[0]
    assert ip_network(pool).prefixlen == 48
    assert ip_network(pool).subnet_of(ip_network("fd00::/8"))  # type: ignore[arg-type]


def test_when_all_subnets_are_taken() -> None:
    with pytest.raises(InvalidParameter, match="all predefined address pools have been fully subnetted"):
        choose_subnet([ip_network("0.0.0.0/0")])
    with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space"):
        refuse_overlap(ip_network("10.0.0.0/8"), [ip_network("10.1.0.0/16")])


@pytest.mark.parametrize(
    ("pool", "text"),
    [
        (Pool("foo"), "invalid subnet foo: invalid CIDR block notation"),
        (Pool("10.78.0.1/25"), "invalid subnet 10.78.0.1/25: it should be 10.78.0.0/25"),
        (
            Pool("10.78.0.0/24", gateway="10.79.0.1"),
            "invalid gateway 10.79.0.1: parent subnet 10.78.0.0/24 doesn't contain this address",
        ),
        (Pool("10.78.0.0/24", gateway="bar"), "invalid gateway bar: invalid address"),
        (
            Pool("10.78.0.0/24", "10.79.0.0/24"),
            "invalid ip-range 10.79.0.0/24: parent subnet 10.78.0.0/24 doesn't contain ip-range",
        ),
        (
            Pool("10.78.0.0/24", "10.78.0.0/16"),
            "invalid ip-range 10.78.0.0/16: CIDR block is bigger than its parent subnet 10.78.0.0/24",
        ),
        (
            Pool("10.78.0.0/24", auxiliary={"a": "10.79.0.1"}),
            "invalid auxiliary address a: parent subnet 10.78.0.0/24 doesn't contain this address",
        ),
        (Pool("fd00:77::1/64"), "invalid subnet fd00:77::1/64: it should be fd00:77::/64"),
        (Pool("fd00:77::/64", "10.0.0.0/24"), "invalid ip-range 10.0.0.0/24: parent subnet is an IPv6 block"),
        (Pool("fd00:77::/64", gateway="10.0.0.1"), "invalid gateway 10.0.0.1: parent subnet is an IPv6 block"),
        (Pool("10.78.0.0/24", auxiliary={"a": "fd00::1"}), "invalid auxiliary address a: parent subnet is an IPv4 block"),
    ],
)
def test_complaints_are_dockers(pool: Pool, text: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        check_pools("default", [pool])
    assert str(caught.value) == "invalid network config:\n" + text


def test_other_ipam_drivers() -> None:
    with pytest.raises(NotFound, match='plugin "foo" not found'):
        check_pools("foo", [])


def test_mac_from_address() -> None:
    assert mac_of(ip_address("172.31.0.3")) == "02:42:ac:1f:00:03"
