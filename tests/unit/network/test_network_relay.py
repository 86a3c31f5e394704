import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from compat_engine.network.model import Binding, Endpoint
from compat_engine.network.relay import Relays

BIG = bytes(range(256)) * 20_000


@asynccontextmanager
async def relayed(relays: Relays) -> AsyncIterator[tuple[Endpoint, int]]:
    """An endpoint whose port answers with what it heard once it heard the end."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(-1))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    endpoint = Endpoint("e", "c", "c", "bridge", "n", ip="127.0.0.1")
    with socket.socket(socket.AF_INET6) as reserved:
        reserved.bind(("::1", 0))
        port = reserved.getsockname()[1]
        await relays.open(endpoint, [(Binding(server.sockets[0].getsockname()[1], "tcp", "::1", port), reserved)])
        yield endpoint, port
        relays.close_all()
    server.close()


async def test_both_directions_end_on_their_own() -> None:
    async with relayed(Relays()) as (_, port):
        reader, writer = await asyncio.open_connection("::1", port)
        writer.write(BIG)
        writer.write_eof()
        assert await reader.read(-1) == BIG
        writer.close()


async def test_a_container_that_goes_takes_idle_connections_along() -> None:
    relays = Relays()
    async with relayed(relays) as (endpoint, port):
        reader, writer = await asyncio.open_connection("::1", port)
        while not [client for client in relays._relays[endpoint.key].clients if hasattr(client.other, "transport")]:
            await asyncio.sleep(0.01)
        relays.close(endpoint)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()


async def test_a_port_on_which_the_container_does_not_listen() -> None:
    relays = Relays()
    with socket.socket(socket.AF_INET6) as reserved, socket.socket() as unused:
        reserved.bind(("::1", 0))
        unused.bind(("127.0.0.1", 0))
        binding = Binding(unused.getsockname()[1], "tcp", "::1", reserved.getsockname()[1])
        await relays.open(Endpoint("e", "c", "c", "bridge", "n", ip="127.0.0.1"), [(binding, reserved)])
        reader, writer = await asyncio.open_connection("::1", binding.host_port)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
        relays.close_all()
