"""Forget UDP flows the kernel tracks. Translation is decided at a flow's first packet and remembered while packets keep coming:
a client that never pauses would go on talking to a container that is gone, or to a port from before it was published.
"""

import socket
import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final

from compat_engine.network.netlink import Message, NetlinkSocket, attributes, nested

NETLINK_NETFILTER: Final = 12
IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE = 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK << 8, and the message
CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_PROTO_NUM, CTA_PROTO_DST_PORT = 1, 2, 1, 3
_NFGENMSG: Final = struct.Struct("=BBH")  # family, version, resource id


def forget_udp(ports: Collection[int]) -> int:
    """Drop every flow addressed to one of these ports of the host, translated or not; how many there were. Raises OSError.

    Walks the whole table, so only for endpoints that publish UDP.
    """
    with NetlinkSocket(NETLINK_NETFILTER) as netlink:
        stale = [(family, tuple_) for family, tuple_ in _flows(netlink) if _udp_port(tuple_) in ports]
        for family, tuple_ in stale:
            _delete(netlink, family, tuple_)
    return len(stale)


def _flows(netlink: NetlinkSocket) -> Iterator[tuple[int, bytes]]:
    """Family, and the original direction's tuple as the kernel encodes it, of every flow."""
    for body in netlink.dump(Message(IPCTNL_MSG_CT_GET, _NFGENMSG.pack(socket.AF_UNSPEC, 0, 0))):
        yield body[0], attributes(body[_NFGENMSG.size :]).get(CTA_TUPLE_ORIG, b"")


def _udp_port(tuple_: bytes) -> int:
    protocol = attributes(attributes(tuple_).get(CTA_TUPLE_PROTO, b""))
    if protocol.get(CTA_PROTO_NUM) != bytes([socket.IPPROTO_UDP]):
        return 0
    return int.from_bytes(protocol.get(CTA_PROTO_DST_PORT, b""), "big")


def _delete(netlink: NetlinkSocket, family: int, tuple_: bytes) -> None:
    header = _NFGENMSG.pack(family, 0, 0)
    with suppress(FileNotFoundError):  # it may have timed out meanwhile
        netlink.request([Message(IPCTNL_MSG_CT_DELETE, header + nested(CTA_TUPLE_ORIG, tuple_))])
