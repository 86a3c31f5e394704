"""Resolvers with real sockets on 127.0.0.1, and a name server of the test's own on it to which they forward."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from compat_engine.network.dns import forward, server
from compat_engine.network.dns.forward import Upstream
from compat_engine.network.dns.resolvers import Asked, Resolvers
from compat_engine.network.fake import FakeEdge
from compat_engine.network.model import Endpoint

PID = 7
Answer = Callable[[bytes, bool], bytes | None]


def endpoint(container: str, number: int, *names: str, network: str = "net", gateway: str = "10.0.0.1") -> Endpoint:
    ip = f"10.0.0.{number}"
    return Endpoint(
        f"{container}-{network}", container, container, network, f"id-{network}", ip, 16, gateway, dns_names=(container, *names)
    )


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """Answers what `answer` says, by UDP and TCP on one port; None is silence."""

    answer: Answer
    queries: list[tuple[bytes, bool]] = field(default_factory=list)
    port: int = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
        self.queries.append((data, False))
        answer = self.answer(data, False)
        if answer is not None:
            self.transport.sendto(answer, client)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        data = await reader.readexactly(length)
        self.queries.append((data, True))
        if answer := self.answer(data, True):
            writer.write(struct.pack("!H", len(answer)) + answer)
        writer.close()


@asynccontextmanager
async def name_server(answer: Answer) -> AsyncIterator[NameServer]:
    made = NameServer(answer)
    listener = await asyncio.start_server(made.connected, "127.0.0.1", 0)
    made.port = listener.sockets[0].getsockname()[1]
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: made, ("127.0.0.1", made.port))
    try:
        yield made
    finally:
        transport.close()
        listener.close()


def says(rcode: dns.rcode.Rcode, text: str = "", flags: int = 0) -> Answer:
    def answer(data: bytes, tcp: bool) -> bytes:
        query = dns.message.from_wire(data)
        message = dns.message.make_response(query)
        message.set_rcode(rcode)
        message.flags |= 0 if tcp else flags
        if text:
            message.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", text))
        return message.to_wire()

    return answer


@pytest.fixture
async def edge() -> FakeEdge:
    return FakeEdge()


@pytest.fixture
async def resolvers(edge: FakeEdge) -> AsyncIterator[Resolvers]:
    made = Resolvers(edge)
    made.join(endpoint("a", 2, "svc"))
    made.join(endpoint("b", 3, "svc"))
    yield made
    made.close()
    await asyncio.sleep(0)


async def serve(resolvers: Resolvers, *ports: int, container: str = "a") -> None:
    await resolvers.serve(
        container, PID, Asked(tuple(Upstream("127.0.0.1", port=port) for port in ports), {"id-net": {"link": "b"}})
    )


async def ask(edge: FakeEdge, name: str, tcp: bool = False) -> dns.message.Message:
    query = dns.message.make_query(name, "A")
    udp_port, tcp_port = edge.resolvers[PID]
    if tcp:
        return await asyncio.to_thread(dns.query.tcp, query, "127.0.0.1", 60, tcp_port)
    return await asyncio.to_thread(dns.query.udp, query, "127.0.0.1", 60, udp_port)


async def addresses(edge: FakeEdge, name: str, tcp: bool = False) -> list[str]:
    return sorted(record.to_text() for rrset in (await ask(edge, name, tcp)).answer for record in rrset)


@pytest.mark.parametrize("tcp", [False, True])
async def test_names_come_and_go(edge: FakeEdge, resolvers: Resolvers, tcp: bool) -> None:
    await serve(resolvers)
    assert await addresses(edge, "svc", tcp) == ["10.0.0.2", "10.0.0.3"]
    assert await addresses(edge, "link", tcp) == ["10.0.0.3"]
    resolvers.leave(endpoint("b", 3))
    assert await addresses(edge, "svc", tcp) == ["10.0.0.2"]
    assert (await ask(edge, "b", tcp)).rcode() == dns.rcode.SERVFAIL
    resolvers.join(endpoint("c", 4, "svc"))
    assert await addresses(edge, "svc", tcp) == ["10.0.0.2", "10.0.0.4"]
    resolvers.join(replace(endpoint("c", 4), container_name="d", dns_names=("d",)))
    assert await addresses(edge, "d", tcp) == ["10.0.0.4"]
    assert await addresses(edge, "svc", tcp) == ["10.0.0.2"]


async def test_the_default_bridge_has_no_names(edge: FakeEdge, resolvers: Resolvers) -> None:
    for container, number in (("a", 5), ("x", 6)):
        resolvers.join(endpoint(container, number, network="bridge"))
    await serve(resolvers)
    assert (await ask(edge, "x")).rcode() == dns.rcode.SERVFAIL
    assert await addresses(edge, "a") == ["10.0.0.2"]


async def test_a_resolver_ends_with_the_last_endpoint(edge: FakeEdge, resolvers: Resolvers) -> None:
    await serve(resolvers)
    resolvers.join(endpoint("a", 5, network="other"))
    resolvers.leave(endpoint("a", 2))
    assert await addresses(edge, "a") == ["10.0.0.5"]
    resolvers.leave(endpoint("a", 5, network="other"))
    await asyncio.sleep(0)
    with pytest.raises(ConnectionRefusedError):
        await ask(edge, "a", tcp=True)


@pytest.mark.parametrize("tcp", [False, True])
async def test_everybody_else_is_asked_outside(edge: FakeEdge, resolvers: Resolvers, tcp: bool) -> None:
    async with name_server(says(dns.rcode.NOERROR, "192.0.2.1")) as outside:
        await serve(resolvers, outside.port)
        assert await addresses(edge, "example.com", tcp) == ["192.0.2.1"]
        assert [was_tcp for _, was_tcp in outside.queries] == [tcp]


async def test_a_server_that_cannot_help_is_passed_over(edge: FakeEdge, resolvers: Resolvers) -> None:
    async with name_server(says(dns.rcode.SERVFAIL)) as first, name_server(says(dns.rcode.NXDOMAIN)) as second:
        await serve(resolvers, first.port, second.port)
        assert (await ask(edge, "example.com")).rcode() == dns.rcode.NXDOMAIN
        assert len(first.queries) == len(second.queries) == 1


async def test_silence_and_lies_are_waited_out(edge: FakeEdge, resolvers: Resolvers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "PATIENCE", 0.1)

    def lies(data: bytes, tcp: bool) -> bytes | None:
        return says(dns.rcode.NOERROR, "192.0.2.66")(bytes([data[0] ^ 1]) + data[1:], tcp)

    async with name_server(lambda data, tcp: None) as silent, name_server(lies) as liar:
        await serve(resolvers, silent.port, liar.port)
        assert (await ask(edge, "example.com")).rcode() == dns.rcode.SERVFAIL
        assert len(silent.queries) == forward.ROUNDS
        assert (await ask(edge, "b")).rcode() == dns.rcode.NOERROR


async def test_what_is_cut_short_is_asked_again_by_tcp(edge: FakeEdge, resolvers: Resolvers) -> None:
    """By the client, as the answer says so; the second time it is passed on by TCP."""
    async with name_server(says(dns.rcode.NOERROR, "192.0.2.1", dns.flags.TC)) as outside:
        await serve(resolvers, outside.port)
        assert (await ask(edge, "example.com")).flags & dns.flags.TC
        assert not (await ask(edge, "example.com", tcp=True)).flags & dns.flags.TC


async def test_without_a_way_out_the_host_asks_nobody(edge: FakeEdge, resolvers: Resolvers) -> None:
    async with name_server(says(dns.rcode.NOERROR, "192.0.2.1")) as outside:
        asked = Asked((Upstream("127.0.0.1", from_host=True, port=outside.port),))
        await resolvers.serve("a", PID, asked)
        assert await addresses(edge, "example.com") == ["192.0.2.1"]
        resolvers.join(endpoint("a", 2, gateway=""))
        assert (await ask(edge, "example.com")).rcode() == dns.rcode.SERVFAIL
        assert len(outside.queries) == 1


async def test_no_more_wait_than_may(edge: FakeEdge, resolvers: Resolvers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_FORWARDED", 3)
    monkeypatch.setattr(forward, "PATIENCE", 0.5)
    async with name_server(lambda data, tcp: None) as silent:
        await serve(resolvers, silent.port)
        waiting = [asyncio.create_task(ask(edge, f"{number}.example")) for number in range(3)]
        while len(silent.queries) < 3:
            await asyncio.sleep(0.01)
        assert [(await ask(edge, f"{number}.example")).rcode() for number in range(2)] == [dns.rcode.REFUSED] * 2
        assert [answer.rcode() for answer in await asyncio.gather(*waiting)] == [dns.rcode.SERVFAIL] * 3


async def test_noise_gets_no_answer_and_does_no_harm(edge: FakeEdge, resolvers: Resolvers) -> None:
    await serve(resolvers)
    udp_port, tcp_port = edge.resolvers[PID]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for noise in (b"", b"x", bytes([0, 1, 0x80, 0, *bytes(20)])):
            client.sendto(noise, ("127.0.0.1", udp_port))
        await asyncio.sleep(0.05)
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(100)
    reader, writer = await asyncio.open_connection("127.0.0.1", tcp_port)
    writer.write(b"\0\5hello")
    assert await reader.read() == b""
    writer.close()
    assert await addresses(edge, "b") == ["10.0.0.3"]


async def test_several_questions_on_one_connection(edge: FakeEdge, resolvers: Resolvers) -> None:
    await serve(resolvers)
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.resolvers[PID][1])
    for name, ip in (("a", "10.0.0.2"), ("b", "10.0.0.3")):
        wire = dns.message.make_query(name, "A").to_wire()
        writer.write(struct.pack("!H", len(wire)) + wire)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        assert ip in dns.message.from_wire(await reader.readexactly(length)).to_text()
    writer.close()
