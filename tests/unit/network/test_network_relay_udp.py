import asyncio
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest

from compat_engine.network import relay_udp
from compat_engine.network.relay_udp import UdpRelay


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        self.transport.sendto(data + str(peer[1]).encode(), peer)


@pytest.fixture
async def target() -> AsyncIterator[tuple[str, int]]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Echo, ("127.0.0.1", 0))
    yield transport.get_extra_info("sockname")
    transport.close()


def relay(target: tuple[str, int], idle: float = 90.0) -> tuple[UdpRelay, tuple[str, int]]:
    listening = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    listening.bind(("::1", 0))
    return UdpRelay(listening, target, idle), listening.getsockname()[:2]


async def ask(client: socket.socket, data: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, data)
    return await asyncio.wait_for(loop.sock_recv(client, 100), 10)


def client_of(address: tuple[str, int]) -> socket.socket:
    client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    client.connect(address)
    return client


async def test_each_client_has_its_own_way(target: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_udp, "MOST", 2)
    relaying, address = relay(target)
    with client_of(address) as one, client_of(address) as two, client_of(address) as three:
        first = await ask(one, b"x")
        assert await ask(one, b"x") == first
        assert await ask(two, b"x") != first
        assert await ask(three, b"") != b""  # an empty datagram is one, too; the first client's socket made room for it
        assert len(relaying._flows) == 2
        assert (await ask(one, b"y")).startswith(b"y")
    relaying.close()


async def test_a_silent_client_is_forgotten(target: tuple[str, int]) -> None:
    relaying, address = relay(target, 0.01)
    with client_of(address) as client:
        await ask(client, b"x")
        while relaying._flows:
            await asyncio.sleep(0.01)
        assert (await ask(client, b"z")).startswith(b"z")
    relaying.close()
