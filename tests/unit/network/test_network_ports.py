import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from compat_engine.errors import Internal, InvalidParameter
from compat_engine.network.model import PortRequest
from compat_engine.network.ports import Ports


@pytest.fixture
def ports() -> Iterator[Ports]:
    ports = Ports()
    yield ports
    ports.close()


@pytest.fixture
def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_every_address_means_both_families(ports: Ports, free: int) -> None:
    found = ports.publish([PortRequest(80, "tcp", "", str(free))])
    assert [(binding.host_ip, binding.host_port) for binding in found] == [("0.0.0.0", free), ("::", free)]


def test_taken_by_another_container(ports: Ports, free: int) -> None:
    ports.publish([PortRequest(80, "tcp", "", str(free))])
    with pytest.raises(Internal, match=f"Bind for 0.0.0.0:{free} failed: port is already allocated"):
        ports.publish([PortRequest(81, "tcp", "", str(free))])
    with pytest.raises(
        Internal, match=f"Error starting userland proxy: listen tcp4 127.0.0.1:{free}: bind: address already in use"
    ):
        ports.publish([PortRequest(81, "tcp", "127.0.0.1", str(free))])


def test_taken_by_a_process_and_free_for_it_again(ports: Ports) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Internal, match=f"listen tcp4 127.0.0.1:{port}: bind: address already in use"):
            ports.publish([PortRequest(80, "tcp", "127.0.0.1", str(port))])
    held = ports.publish([PortRequest(80, "tcp", "127.0.0.1", str(port))])
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", port))
    ports.release(held)
    socket.create_server(("127.0.0.1", port)).close()


def test_all_or_none(ports: Ports, free: int) -> None:
    with pytest.raises(Internal):
        ports.publish([PortRequest(80, "tcp", "", str(free)), PortRequest(81, "tcp", "", str(free))])
    ports.publish([PortRequest(80, "tcp", "", str(free))])


def test_a_range_gives_its_first_free_port(ports: Ports, free: int) -> None:
    wanted = f"{free}-{free + 20}"
    first = ports.publish([PortRequest(80, "udp", "127.0.0.1", wanted)])[0].host_port
    second = ports.publish([PortRequest(80, "udp", "127.0.0.1", wanted)])[0].host_port
    assert free <= first < second <= free + 20


def test_ephemeral_ports_come_from_the_kernels_range(ports: Ports) -> None:
    low, high = (int(word) for word in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    found = ports.publish([PortRequest(80), PortRequest(81)])
    numbers = {binding.host_port for binding in found}
    assert len(numbers) == 2
    assert all(low <= number <= high for number in numbers)


@pytest.mark.parametrize(
    "request_",
    [PortRequest(80, "foo"), PortRequest(80, "tcp", "", "99999"), PortRequest(80, "tcp", "x"), PortRequest(80, "tcp", "", "9-8")],
)
def test_nonsense(ports: Ports, request_: PortRequest) -> None:
    with pytest.raises(InvalidParameter):
        ports.publish([request_])
