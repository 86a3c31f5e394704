"""DNS messages (RFC 1035, EDNS of RFC 6891): queries read, answers from a table written. Pure.

Names of the table's containers are ours: of a type we have no record of, the answer is "no data" rather than another server's
"no such name", which would deny the addresses too.
"""

import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.reversename
import dns.rrset

from compat_engine.network.dns.table import Address, Table

TTL: Final = 600  # seconds, dockerd's
HEADER: Final = 12
LARGEST_TCP: Final = 65535
_SMALLEST_UDP, _LARGEST_UDP = 512, 4096
_MOST_RECORDS = 2000  # fit into any TCP answer
_RESPONSE, _TRUNCATED, _RECURSION_AVAILABLE = 0x8000, 0x0200, 0x0080
_OPCODE, _RECURSION_DESIRED = 0x7800, 0x0100


@dataclass(frozen=True, slots=True)
class Query:
    """One question, as read. udp_limit: bytes of the largest answer its sender takes in a datagram."""

    message: dns.message.Message
    name: str  # lower case, no dot at the end
    kind: dns.rdatatype.RdataType
    udp_limit: int


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in pieces: all but its id stays as it is, and the records take turns at being first.

    head is from the flags to the question, tail the additional section; `fitting` of the records have room.
    """

    head: bytes
    records: tuple[bytes, ...]
    tail: bytes
    fitting: int

    def wire(self, id: bytes, turn: int) -> bytes:
        first = turn % len(self.records) if self.records else 0
        records = (self.records[first:] + self.records[:first])[: self.fitting]
        return b"".join((id, self.head, *records, self.tail))


def is_query(wire: bytes) -> bool:
    """Anything else gets no answer at all: answering an answer could go on for ever."""
    return len(wire) >= HEADER and not wire[2] & 0x80


def read(wire: bytes) -> Query | dns.rcode.Rcode:
    """The query, or the code with which to refuse it: FORMERR, NOTIMP for what is not a plain question."""
    if dns.opcode.from_flags(_flags(wire)) != dns.opcode.QUERY:
        return dns.rcode.NOTIMP
    try:
        message = dns.message.from_wire(wire)
    except dns.exception.DNSException:
        return dns.rcode.FORMERR
    if len(message.question) != 1:
        return dns.rcode.FORMERR
    question = message.question[0]
    limit = min(max(message.payload, _SMALLEST_UDP), _LARGEST_UDP) if message.edns >= 0 else _SMALLEST_UDP
    ours = question.rdclass == dns.rdataclass.IN
    name = question.name.to_text(omit_final_dot=True).lower() if ours else ""
    return Query(message, name, question.rdtype, limit)


def answer(query: Query, table: Table, limit: int) -> Reply | None:
    """What the table has to say in `limit` bytes; None when the name is another server's to answer for."""
    records = _records(query, table)
    return None if records is None else _reply(query, records, limit)


def refusal(wire: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """The header of `wire` turned into an answer without any record, with the question where it can be read."""
    flags = _RESPONSE | (_flags(wire) & (_OPCODE | _RECURSION_DESIRED)) | _RECURSION_AVAILABLE | rcode
    question = _question(wire)
    return wire[:2] + struct.pack("!5H", flags, 1 if question else 0, 0, 0, 0) + question


def is_answer(query: bytes, wire: bytes) -> bool:
    """Whether `wire` answers `query`: id and question are the same, letter case included when it comes back as it went."""
    if len(wire) < HEADER or wire[:2] != query[:2] or not wire[2] & 0x80:
        return False
    asked, repeated = _question(query), _question(wire)
    return not repeated or asked.lower() == repeated.lower()


def rcode_of(wire: bytes) -> dns.rcode.Rcode:
    return dns.rcode.Rcode(_flags(wire) & 0xF)


def _flags(wire: bytes) -> int:
    return int.from_bytes(wire[2:4], "big")


def _question(wire: bytes) -> bytes:
    """Name, type and class of the first question as they stand; b"" when there is none or it does not end."""
    at = HEADER
    while wire[4:6] != b"\0\0" and at < len(wire) and wire[at] < 64:
        if wire[at] == 0:
            return wire[HEADER : at + 5] if at + 5 <= len(wire) else b""
        at += 1 + wire[at]
    return b""


def _records(query: Query, table: Table) -> list[dns.rdata.Rdata] | None:
    if query.kind == dns.rdatatype.PTR:
        address = _address(query)
        name = table.name_of(address) if address else None
        return None if name is None else [_rdata(query.kind, f"{name}.")]
    addresses = table.addresses(query.name) if query.name else None
    if addresses is None:
        return None
    version = {dns.rdatatype.A: 4, dns.rdatatype.AAAA: 6}.get(query.kind, 0)
    return [_rdata(query.kind, str(address)) for address in addresses if address.version == version]


def _rdata(kind: dns.rdatatype.RdataType, text: str) -> dns.rdata.Rdata:
    return dns.rdata.from_text(dns.rdataclass.IN, kind, text)


def _address(query: Query) -> Address | None:
    try:
        return ip_address(dns.reversename.to_address(query.message.question[0].name))
    except (dns.exception.DNSException, ValueError):
        return None


def _reply(query: Query, records: list[dns.rdata.Rdata], limit: int) -> Reply:
    """Records of one answer are of one size: one name, one type, and never more than one PTR."""
    message = dns.message.make_response(query.message, recursion_available=True, our_payload=_LARGEST_UDP)
    bare = message.to_wire()
    start = HEADER + len(_question(bare))
    pieces = _pieces(message, records[:_MOST_RECORDS], start, len(bare))
    fitting = min(len(pieces), (limit - len(bare)) // len(pieces[0])) if pieces else 0
    flags = _flags(bare) | (_TRUNCATED if fitting < len(pieces) else 0)
    header = struct.pack("!3H", flags, 1, fitting) + bare[8:HEADER]
    return Reply(header + bare[HEADER:start], pieces, bare[start:], fitting)


def _pieces(message: dns.message.Message, records: list[dns.rdata.Rdata], start: int, bare: int) -> tuple[bytes, ...]:
    """The answer section, record by record, of a message that takes `bare` bytes without it."""
    if not records:
        return ()
    message.answer.append(dns.rrset.from_rdata_list(message.question[0].name, TTL, records))
    wire = message.to_wire()
    end = start + len(wire) - bare
    size = (end - start) // len(records)
    return tuple(wire[at : at + size] for at in range(start, end, size))
