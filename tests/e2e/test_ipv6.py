"""IPv6 as users ask for it: `network create --ipv6`, `--ip6`, `-p`, names."""

import os
from collections.abc import Iterator

import pytest

from tests.support.docker import Docker, eventually
from tests.support.ports import fetch, free_port

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="needs IPv6")
SERVER = "mkdir -p /www; echo -n hello > /www/index.html; exec httpd -f -p [::]:80 -h /www"


@pytest.fixture
def network(docker: Docker, unique: str) -> Iterator[str]:
    """Of both families; its IPv6 subnet is fd00:5eed:<four digits of its own>::/64."""
    docker("network", "create", "--label", docker.mark, "--ipv6", "--subnet", f"{prefix()}::/64", unique)
    yield unique
    docker.clean()
    docker("network", "rm", unique)


def prefix() -> str:
    return f"fd00:5eed:{os.getpid() & 0xFFFF:x}"


def serve(docker: Docker, network: str, *args: str) -> str:
    return docker("run", "-d", "--network", network, *args, "busybox", "sh", "-c", SERVER)


def test_two_containers(docker: Docker, network: str) -> None:
    address = f"{prefix()}::99"
    server = serve(docker, network, "--ip6", address, "--network-alias", "web")
    assert docker.inspect(server)["NetworkSettings"]["Networks"][network]["GlobalIPv6Address"] == address
    client = docker("run", "-d", "--network", network, "busybox", "sleep", "600")
    assert f"Address: {address}" in docker("exec", client, "nslookup", "-type=aaaa", "web")
    eventually(lambda: docker.run("exec", client, "wget", "-qO-", f"http://[{address}]/").stdout == "hello")
    assert f"default via {prefix()}::1 dev eth0" in docker("exec", client, "ip", "-6", "route")


def test_a_published_port_answers_by_each_family(docker: Docker, network: str) -> None:
    port = free_port()
    server = serve(docker, network, "-p", f"{port}:80")
    assert docker("port", server).splitlines() == [f"80/tcp -> 0.0.0.0:{port}", f"80/tcp -> [::]:{port}"]
    eventually(lambda: fetch("::1", port) == "hello")
    eventually(lambda: fetch("127.0.0.1", port) == "hello")


def test_an_address_is_somebodys_until_he_stops(docker: Docker, network: str) -> None:
    wanted = ["--network", network, "--ip6", f"{prefix()}::5"]
    first = docker("run", "-d", *wanted, "busybox", "sleep", "600")
    assert "Address already in use" in docker.fails("run", *wanted, "busybox", "true")
    docker("restart", "-t", "0", first)
    assert docker.inspect(first)["NetworkSettings"]["Networks"][network]["GlobalIPv6Address"] == f"{prefix()}::5"
    docker("rm", "-f", first)
    docker("run", "--rm", *wanted, "busybox", "true")


def test_the_default_bridge_has_none_unless_told(docker: Docker) -> None:
    seen = docker("run", "--rm", "busybox", "sh", "-c", "ip -6 addr show eth0; cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6")
    assert seen == "1"
