"""What daemon.json and the flags say about networks, and what becomes of it."""

import json
from pathlib import Path

import pytest

from compat_engine.config import Config, from_arguments
from compat_engine.errors import InvalidParameter
from compat_engine.network.claims import EndpointRequest
from compat_engine.network.endpointopts import complaints
from compat_engine.network.fake import FakeEdge
from compat_engine.network.model import Network, PortRequest
from compat_engine.network.networks import Networks
from compat_engine.store.records import Records
from compat_engine.store.tree import Tree

POOLS = [{"base": "10.240.0.0/16", "size": 24}, {"base": "10.241.0.0/24", "size": 26}]


def test_pools_by_flag_and_by_file(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text(json.dumps({"default-address-pools": POOLS}))
    wanted = (("10.240.0.0/16", 24), ("10.241.0.0/24", 26))
    assert from_arguments(["--config-file", str(file)]).default_address_pools == wanted
    flags = [f"--default-address-pool=base={pool['base']},size={pool['size']}" for pool in POOLS]
    file.write_text("{}")
    assert from_arguments([*flags, "--config-file", str(file)]).default_address_pools == wanted


@pytest.mark.parametrize(
    "word", ["base=10.0.0.0/8", "10.0.0.0/8", "base=10.0.0.0/16,size=8", "base=x,size=24", "base=10.0.0.1/8,size=24"]
)
def test_a_pool_that_is_none(word: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid value for default-address-pools"):
        from_arguments(["--default-address-pool", word])


@pytest.mark.parametrize("flag", ["--ip=here", "--iptables=perhaps", "--mtu=much"])
def test_nonsense(flag: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid value for"):
        from_arguments([flag])


async def opened(config: Config, path: Path) -> Networks:
    return await Networks.open(config, Records(path / "state.db"), Tree(path, path), FakeEdge())


async def test_the_default_bridge_is_made_as_told(tmp_path: Path) -> None:
    networks = await opened(Config(bridge="cetst0", ip="127.0.0.1", icc=False, ip_masq=False, mtu=1400), tmp_path)
    options = networks.find("bridge").options
    assert options["com.docker.network.bridge.host_binding_ipv4"] == "127.0.0.1"
    assert options["com.docker.network.bridge.enable_icc"] == options["com.docker.network.bridge.enable_ip_masquerade"] == "false"
    assert options["com.docker.network.driver.mtu"] == "1400"
    endpoint = await networks.reserve(
        "c", "bridge", name="c", asked=EndpointRequest(ports=[PortRequest(80), PortRequest(81, host_ip="127.0.0.9")])
    )
    assert [binding.host_ip for binding in endpoint.ports] == ["127.0.0.1", "127.0.0.9"]
    await networks.close()


async def test_pools_and_options_of_new_networks(tmp_path: Path) -> None:
    defaults = {"bridge": {"com.docker.network.driver.mtu": "1300", "com.docker.network.container_iface_prefix": "lan"}}
    config = Config(bridge="none", default_address_pools=(("10.240.0.0/24", 25),), default_network_opts=defaults)
    networks = await opened(config, tmp_path)
    one = await networks.create(Network("", "one", "bridge", "", options={"com.docker.network.driver.mtu": "1200"}))
    two = await networks.create(Network("", "two", "bridge", ""))
    assert (one.subnet, two.subnet) == ("10.240.0.0/25", "10.240.0.128/25")
    assert one.options == {**defaults["bridge"], "com.docker.network.driver.mtu": "1200"}
    assert (await networks.reserve("c", "two", name="c")).interface == "lan0"
    with pytest.raises(InvalidParameter, match="all predefined address pools have been fully subnetted"):
        await networks.create(Network("", "three", "bridge", ""))
    await networks.close()


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("com.docker.network.bridge.host_binding_ipv4", "foo", "failed to parse .* value: foo .nil ip."),
        ("com.docker.network.driver.mtu", "-3", "invalid MTU number: -3"),
    ],
)
async def test_an_option_that_makes_no_sense(option: str, value: str, text: str, tmp_path: Path) -> None:
    networks = await opened(Config(bridge="none"), tmp_path)
    with pytest.raises(InvalidParameter, match=text):
        await networks.create(Network("", "one", "bridge", "", options={option: value}))
    await networks.close()


async def test_a_part_of_the_default_bridge_for_containers(tmp_path: Path) -> None:
    config = Config(
        bridge="cetst0",
        bip="10.231.1.1/24",
        fixed_cidr="10.231.1.64/26",
        ipv6=True,
        bip6="fd00:ce:1::1/64",
        fixed_cidr_v6="fd00:ce:1::100/120",
    )
    networks = await opened(config, tmp_path)
    bridge = networks.find("bridge")
    assert [(pool.subnet, pool.ip_range, pool.gateway) for pool in bridge.pools] == [
        ("10.231.1.0/24", "10.231.1.64/26", "10.231.1.1"),
        ("fd00:ce:1::/64", "fd00:ce:1::100/120", "fd00:ce:1::1"),
    ]
    endpoint = await networks.reserve("c", "bridge", name="c")
    assert (endpoint.ip, endpoint.prefix_len) == ("10.231.1.64", 24)
    assert (endpoint.ipv6, endpoint.ipv6_prefix_len) == ("fd00:ce:1::100", 64)
    await networks.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fixed_cidr": "10.231.2.0/26"}, "fixed-cidr 10.231.2.0/26 is no part of the bridge's subnet 10.231.1.0/24"),
        ({"fixed_cidr": "fd00::/80"}, "fixed-cidr fd00::/80 is no part of the bridge's subnet 10.231.1.0/24"),
        ({"fixed_cidr": "words"}, "invalid fixed-cidr words"),
    ],
)
async def test_a_part_that_is_none(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message):
        await opened(Config(bridge="cetst0", bip="10.231.1.1/24", **changes), tmp_path)  # type: ignore[arg-type]


def test_sysctls_are_of_the_interface_alone() -> None:
    option = "com.docker.network.endpoint.sysctls"
    assert [*complaints({})] == [*complaints({option: "net.ipv6.conf.IFNAME.forwarding=1,net.ipv4.conf.ifname.x.y=2"})] == []
    for word in ("net.ipv4.conf.eth0.x=1", "net.core.somaxconn=1", "kernel.a.b.IFNAME.c=1", "net.ipv4.ip_forward=1"):
        (complaint,) = complaints({option: word})
        assert complaint.startswith(f"unrecognised network interface sysctl '{word}'; represent 'net.X.Y.ethN.Z=V'")
