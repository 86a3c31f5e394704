"""rtnetlink, as little of it as containers need: a codec for messages and attributes, and a blocking socket.

A request is a list of messages sent in one datagram; the kernel handles them in order and acknowledges each. rtnetlink(7).
"""

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import Final

from compat_engine.network.plan import DerivedPlan

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_CREATE, NLM_F_DUMP = 0x1, 0x4, 0x200, 0x100, 0x400, 0x300
NLA_F_NESTED: Final = 0x8000
NLA_TYPE_MASK: Final = 0x3FFF
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_GETROUTE = 20, 21, 22, 24, 26
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_IFALIAS = 1, 3, 4, 10, 18, 20
IFLA_AF_SPEC, IFLA_NET_NS_FD = 26, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 4, 33
IFLA_LINK, IFLA_VLAN_ID, IFLA_MACVLAN_MODE, IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS = 5, 1, 1, 1, 2
VETH_INFO_PEER: Final = 1
IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE = 8, 1
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS, IFA_F_NODAD = 1, 2, 4, 8, 0x02
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
IFF_UP: Final = 1
LOOPBACK_INDEX: Final = 1
HAS_IPV6: Final = os.path.isdir("/proc/sys/net/ipv6")

_HEADER = struct.Struct("=LHHLL")  # nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")
_IFINFO = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_RTMSG = struct.Struct("=8BI")  # rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
_NO_LINK = _IFINFO.pack(0, 0, 0, 0, 0)
_RECEIVE = 1 << 17


@dataclass(frozen=True, slots=True)
class Message:
    type: int
    body: bytes
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    name: str
    master: int = 0
    kind: str = ""
    alias: str = ""
    up: bool = False


def attribute(kind: int, payload: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def hardware_address(mac: str) -> bytes:
    return attribute(IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))


def new_bridge(name: str, mac: str, mtu: int, alias: str) -> list[Message]:
    """A bridge that is up, with a fixed MAC (else it would take the lowest port's) and no IPv6 address of its own making."""
    kind = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge"))
    body = _NO_LINK + text(IFLA_IFNAME, name) + hardware_address(mac) + number(IFLA_MTU, mtu) + kind
    new = Message(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL)
    return [new, _set_link(name, text(IFLA_IFALIAS, alias)), *_no_link_local(name)]


def new_veth(host_name: str, master: int, mtu: int, peer: str, peer_mac: str, netns: int) -> list[Message]:
    """The pair: one end a port of the bridge, the other in the namespace of the fd `netns`; both still down."""
    inside = _NO_LINK + text(IFLA_IFNAME, peer) + hardware_address(peer_mac)
    inside += number(IFLA_MTU, mtu) + number(IFLA_NET_NS_FD, netns)
    data = nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, inside))
    kind = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), data)
    body = _NO_LINK + text(IFLA_IFNAME, host_name) + number(IFLA_MTU, mtu) + number(IFLA_MASTER, master) + kind
    return [Message(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL), *_no_link_local(host_name)]


def new_dummy(name: str, alias: str) -> list[Message]:
    """Up, for interfaces on top of it."""
    kind = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "dummy"))
    return _new_parent(name, alias, kind)


def new_vlan(name: str, base: int, vlan: int, alias: str) -> list[Message]:
    """Up, on the link of index `base`."""
    data = nested(IFLA_INFO_DATA, attribute(IFLA_VLAN_ID, struct.pack("=H", vlan)))
    kind = nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "vlan"), data)
    return _new_parent(name, alias, number(IFLA_LINK, base) + kind)


def _new_parent(name: str, alias: str, attributes: bytes) -> list[Message]:
    new = Message(RTM_NEWLINK, _NO_LINK + text(IFLA_IFNAME, name) + attributes, NLM_F_CREATE | NLM_F_EXCL)
    return [new, _set_link(name, text(IFLA_IFALIAS, alias)), *_no_link_local(name), link_up(name)]


def new_derived(plan: DerivedPlan, parent: int, netns: int) -> Message:
    """A macvlan or ipvlan interface on the link of index `parent`, still down, in the namespace of the fd `netns`."""
    if plan.kind == "macvlan":
        data = number(IFLA_MACVLAN_MODE, plan.mode)
    else:
        modes = ((IFLA_IPVLAN_MODE, plan.mode), (IFLA_IPVLAN_FLAGS, plan.flags))
        data = b"".join(attribute(kind, struct.pack("=H", value)) for kind, value in modes)
    body = _NO_LINK + text(IFLA_IFNAME, plan.name) + number(IFLA_LINK, parent) + number(IFLA_NET_NS_FD, netns)
    body += hardware_address(plan.mac) if plan.mac else b""
    body += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, plan.kind), nested(IFLA_INFO_DATA, data))
    return Message(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL)


def loopback_up() -> list[Message]:
    return [Message(RTM_NEWLINK, _IFINFO.pack(0, 0, LOOPBACK_INDEX, IFF_UP, IFF_UP))]


def interface_up(name: str) -> list[Message]:
    """Up without an IPv6 link-local address: duplicate detection would hold up the first packets, on a network without IPv6."""
    return [*_no_link_local(name), link_up(name)]


def link_up(name: str) -> Message:
    return Message(RTM_NEWLINK, _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP) + text(IFLA_IFNAME, name))


def port_up(name: str, alias: str, isolated: bool) -> Message:
    """A bridge's port up, in hairpin mode: where br_netfilter translates on the bridge, a container reaches its own published
    ports this way. An isolated one exchanges no frames with other isolated ports, only with the host.
    """
    modes = attribute(IFLA_BRPORT_MODE, b"\1") + attribute(IFLA_BRPORT_ISOLATED, bytes([isolated]))
    kind = nested(IFLA_LINKINFO, text(IFLA_INFO_SLAVE_KIND, "bridge"), nested(IFLA_INFO_SLAVE_DATA, modes))
    return Message(
        RTM_NEWLINK, _IFINFO.pack(0, 0, 0, IFF_UP, IFF_UP) + text(IFLA_IFNAME, name) + text(IFLA_IFALIAS, alias) + kind
    )


def retired(index: int, name: str) -> list[Message]:
    """Down, so that its routes and neighbours are gone, and under another name."""
    down = Message(RTM_NEWLINK, _IFINFO.pack(0, 0, index, 0, IFF_UP))
    return [down, Message(RTM_SETLINK, _IFINFO.pack(0, 0, index, 0, 0) + text(IFLA_IFNAME, name))]


def delete_link(name: str) -> Message:
    return Message(RTM_DELLINK, _NO_LINK + text(IFLA_IFNAME, name))


def _set_link(name: str, *attributes: bytes) -> Message:
    return Message(RTM_SETLINK, _NO_LINK + text(IFLA_IFNAME, name) + b"".join(attributes))


def _no_link_local(name: str) -> list[Message]:
    if not HAS_IPV6:  # ipv6.disable=1: the kernel refuses the family
        return []
    mode = attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([IN6_ADDR_GEN_MODE_NONE]))
    return [_set_link(name, nested(IFLA_AF_SPEC, nested(socket.AF_INET6, mode)))]


def new_address(index: int, cidr: str) -> Message:
    interface = ip_interface(cidr)
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    raw = interface.ip.packed
    body = _IFADDR.pack(family, interface.network.prefixlen, 0, 0, index)
    body += attribute(IFA_LOCAL, raw) + attribute(IFA_ADDRESS, raw)
    if interface.version == 6:
        body += number(IFA_FLAGS, IFA_F_NODAD)
    else:
        body += attribute(IFA_BROADCAST, interface.network.broadcast_address.packed)
    return Message(RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_EXCL)


def del_address(index: int, cidr: str) -> Message:
    interface = ip_interface(cidr)
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    body = _IFADDR.pack(family, interface.network.prefixlen, 0, 0, index) + attribute(IFA_LOCAL, interface.ip.packed)
    return Message(RTM_DELADDR, body)


def default_route(gateway: str, index: int) -> Message:
    """By a gateway behind the link, instead of the one there is; 0.0.0.0 and :: mean that everything is on the link itself."""
    address = ip_address(gateway)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    main_table, by_boot, universe, link, unicast = 254, 3, 0, 253, 1
    scope = link if address.is_unspecified and address.version == 4 else universe
    body = _RTMSG.pack(family, 0, 0, 0, main_table, by_boot, scope, unicast, 0)
    body += number(RTA_OIF, index) + (b"" if address.is_unspecified else attribute(RTA_GATEWAY, address.packed))
    return Message(RTM_NEWROUTE, body, NLM_F_CREATE | NLM_F_REPLACE)


def attributes(raw: bytes) -> dict[int, bytes]:
    """Attribute type -> payload; of a repeated type the last."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(raw):
        length, kind = _ATTRIBUTE.unpack_from(raw, offset)
        if length < 4:
            break
        found[kind & NLA_TYPE_MASK] = raw[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


class NetlinkSocket:
    """A blocking netlink socket of the network namespace the calling thread is in when it opens it."""

    def __init__(self, family: int = socket.NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> "NetlinkSocket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, messages: Sequence[Message]) -> None:
        """All in one datagram. Raises OSError for the first that failed; the kernel has tried the others as well."""
        first = self._sequence + 1
        self._send(messages, NLM_F_REQUEST | NLM_F_ACK)
        failed, open_ = 0, {first + offset for offset in range(len(messages))}
        while open_:
            for kind, sequence, body in self._receive():
                if kind == NLMSG_ERROR and sequence in open_:
                    open_.discard(sequence)
                    failed = failed or -int.from_bytes(body[:4], "little", signed=True)
        if failed:
            raise OSError(failed, os.strerror(failed))

    def link(self, name: str) -> Link | None:
        self._send([Message(RTM_GETLINK, _NO_LINK + text(IFLA_IFNAME, name))], NLM_F_REQUEST)
        kind, _, body = next(self._receive())
        return None if kind == NLMSG_ERROR else _link(body)

    def links(self) -> list[Link]:
        return [_link(body) for body in self.dump(Message(RTM_GETLINK, _NO_LINK))]

    def addresses(self) -> list[tuple[int, str]]:
        """(index of the link, address/prefix) of every address."""
        found = []
        for body in self._of_each_family(RTM_GETADDR, _IFADDR, 4):
            family, prefix, _, _, index = _IFADDR.unpack_from(body)
            parsed = attributes(body[_IFADDR.size :])
            raw = parsed.get(IFA_LOCAL) or parsed.get(IFA_ADDRESS)
            if raw:
                found.append((index, f"{socket.inet_ntop(family, raw)}/{prefix}"))
        return found

    def routes(self) -> list[tuple[int, str]]:
        """(index of the outgoing link, destination) of every route of the main table but the default ones."""
        found = []
        for body in self._of_each_family(RTM_GETROUTE, _RTMSG, 8):
            family, length, _, _, table, *_ = _RTMSG.unpack_from(body)
            parsed = attributes(body[_RTMSG.size :])
            if table == 254 and RTA_DST in parsed:
                link = int.from_bytes(parsed.get(RTA_OIF, b""), "little")
                found.append((link, f"{socket.inet_ntop(family, parsed[RTA_DST])}/{length}"))
        return found

    def _of_each_family(self, kind: int, header: struct.Struct, rest: int) -> list[bytes]:
        families = (socket.AF_INET, socket.AF_INET6) if HAS_IPV6 else (socket.AF_INET,)
        return [body for family in families for body in self.dump(Message(kind, header.pack(family, *[0] * rest)))]

    def dump(self, message: Message) -> list[bytes]:
        """The bodies of all answers."""
        self._send([message], NLM_F_REQUEST | NLM_F_DUMP)
        bodies: list[bytes] = []
        while True:
            for answer, sequence, payload in self._receive():
                if sequence != self._sequence:
                    continue
                if answer == NLMSG_DONE:
                    return bodies
                if answer == NLMSG_ERROR:
                    code = -int.from_bytes(payload[:4], "little", signed=True)
                    raise OSError(code, os.strerror(code))
                bodies.append(payload)

    def _send(self, messages: Sequence[Message], flags: int) -> None:
        datagram = bytearray()
        for message in messages:
            self._sequence += 1
            datagram += _HEADER.pack(_HEADER.size + len(message.body), message.type, message.flags | flags, self._sequence, 0)
            datagram += message.body
        self._socket.send(datagram)

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        raw = self._socket.recv(_RECEIVE)
        offset = 0
        while offset + _HEADER.size <= len(raw):
            length, kind, _, sequence, _ = _HEADER.unpack_from(raw, offset)
            yield kind, sequence, raw[offset + _HEADER.size : offset + length]
            offset += (length + 3) & ~3


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    parsed = attributes(body[_IFINFO.size :])
    info = attributes(parsed.get(IFLA_LINKINFO, b""))
    return Link(
        index,
        _text(parsed.get(IFLA_IFNAME, b"")),
        int.from_bytes(parsed.get(IFLA_MASTER, b""), "little"),
        _text(info.get(IFLA_INFO_KIND, b"")),
        _text(parsed.get(IFLA_IFALIAS, b"")),
        bool(flags & IFF_UP),
    )


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")
