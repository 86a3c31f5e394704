import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat_engine.network.dns import messages
from compat_engine.network.dns.messages import Query, Reply
from compat_engine.network.dns.table import Table, View, Zone
from compat_engine.network.model import Endpoint


def endpoint(container: str, ip: str, *names: str, network: str = "net", ipv6: str = "") -> Endpoint:
    return Endpoint(
        f"e-{container}", container, container, network, f"id-{network}", ip, 16, ipv6=ipv6, dns_names=(container, *names)
    )


ONE, TWO = endpoint("one", "10.0.0.2", "svc"), endpoint("Two", "10.0.0.3", "svc", "a.b", ipv6="fd00::3")
OTHER = endpoint("one", "10.9.0.2", network="other")
TABLE = Table((View(Zone.of("net", [ONE, TWO]), {"link": "Two"}), View(Zone.of("other", [OTHER]))))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("one", ["10.0.0.2"]),  # of the first network that knows it
        ("two", ["10.0.0.3", "fd00::3"]),
        ("svc", ["10.0.0.2", "10.0.0.3", "fd00::3"]),
        ("one.net", ["10.0.0.2"]),
        ("one.other", ["10.9.0.2"]),
        ("a.b", ["10.0.0.3", "fd00::3"]),
        ("link", ["10.0.0.3", "fd00::3"]),
        ("link.net", ["10.0.0.3", "fd00::3"]),
        ("link.other", None),
        ("net", None),
        ("one.two", None),
    ],
)
def test_names(name: str, found: list[str] | None) -> None:
    addresses = TABLE.addresses(name)
    assert (None if addresses is None else [str(address) for address in addresses]) == found


def read(wire: bytes) -> Query:
    query = messages.read(wire)
    assert isinstance(query, Query)
    return query


def ask(name: str, kind: str, limit: int = 65535, table: Table = TABLE) -> Reply | None:
    return messages.answer(read(dns.message.make_query(name, kind).to_wire()), table, limit)


def texts(reply: Reply | None, turn: int = 0) -> list[str]:
    assert reply
    message = dns.message.from_wire(reply.wire(b"\0\1", turn))
    assert message.rcode() == dns.rcode.NOERROR
    return [record.to_text() for rrset in message.answer for record in rrset]


def test_answers() -> None:
    assert texts(ask("ONE.", "A")) == ["10.0.0.2"]
    assert texts(ask("one.", "AAAA")) == []
    assert texts(ask("two.", "AAAA")) == ["fd00::3"]
    assert texts(ask("one.", "MX")) == []
    assert texts(ask("3.0.0.10.in-addr.arpa.", "PTR")) == ["Two.net."]
    assert texts(ask("3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", "PTR")) == ["Two.net."]
    assert ask("9.0.0.10.in-addr.arpa.", "PTR") is None
    assert ask("example.com.", "A") is None


def test_addresses_take_turns() -> None:
    reply = ask("svc.", "A")
    first, second, third = (texts(reply, turn) for turn in range(3))
    assert first == second[::-1] == third


def test_the_question_comes_back_as_it_was_asked() -> None:
    query = dns.message.make_query("OnE.", "A", use_edns=0, payload=1232)
    reply = messages.answer(read(query.to_wire()), TABLE, 512)
    assert reply
    answer = dns.message.from_wire(reply.wire(query.to_wire()[:2], 0))
    assert query.is_response(answer)
    assert answer.question[0].name.to_text() == "OnE."
    assert answer.edns == 0
    assert answer.flags & dns.flags.RA


@given(st.integers(0, 300), st.integers(512, 4096), st.sampled_from(["A", "AAAA"]), st.integers(0, 1000))
def test_what_does_not_fit_is_left_out_and_said(count: int, limit: int, kind: str, turn: int) -> None:
    addresses = [f"10.{number // 250}.0.{number % 250 + 1}" for number in range(count)]
    members = [endpoint(f"c{number}", ip, "svc", ipv6=f"fd00::{ip}") for number, ip in enumerate(addresses)]
    members.append(endpoint("last", "10.255.0.1", "svc", ipv6="fd00::ffff:1"))
    reply = ask("svc.", kind, limit, Table((View(Zone.of("net", members)),)))
    assert reply
    wire = reply.wire(b"\0\1", turn)
    message = dns.message.from_wire(wire)
    assert len(wire) <= limit
    assert bool(message.flags & dns.flags.TC) == (len(message.answer[0]) < len(members))
    assert limit - len(wire) < 28 or len(message.answer[0]) == len(members)


@given(st.binary(max_size=100))
def test_no_bytes_upset_it(data: bytes) -> None:
    if not messages.is_query(data):
        return
    query = messages.read(data)
    if isinstance(query, Query):
        messages.answer(query, TABLE, 512)
        query_code = dns.rcode.SERVFAIL
    else:
        query_code = query
    refusal = messages.refusal(data, query_code)
    assert not messages.is_query(refusal)
    assert messages.rcode_of(refusal) == query_code
    assert messages.is_answer(data, refusal)
    assert dns.message.from_wire(refusal, one_rr_per_rrset=True).id == int.from_bytes(data[:2], "big")


def test_what_is_no_question_is_refused() -> None:
    wire = dns.message.make_query("one.", "A").to_wire()
    assert messages.read(wire[:2] + bytes([wire[2] | 0x28]) + wire[3:]) == dns.rcode.NOTIMP  # UPDATE
    assert messages.read(wire[:-1]) == dns.rcode.FORMERR
    assert messages.read(wire[:5] + b"\0" + wire[6:12]) == dns.rcode.FORMERR  # no question at all
    assert not messages.is_query(wire[:11])


def test_an_answer_to_another_question_is_none() -> None:
    query = dns.message.make_query("one.", "A", id=7).to_wire()
    for id, name, right in ((7, "ONE.", True), (8, "one.", False), (7, "two.", False)):
        other = dns.message.make_query(name, "A", id=id)
        assert messages.is_answer(query, dns.message.make_response(other).to_wire()) == right
    assert not messages.is_answer(query, query)


def test_classes_but_internet_are_not_ours() -> None:
    wire = dns.message.make_query("one.", "A", "CH").to_wire()
    assert messages.answer(read(wire), TABLE, 512) is None
