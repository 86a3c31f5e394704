"""Hear from the kernel when somebody else takes away what is in our table: `nft flush ruleset`, a reload of other people's rules.

nf_tables announces each transaction to group NFNLGRP_NFTABLES before the call that made it returns.
"""

import socket
import struct
from collections.abc import Callable, Iterator
from typing import Final

from compat_engine.network.netlink import attributes

NETLINK_NETFILTER, NFNLGRP_NFTABLES, NFNL_SUBSYS_NFTABLES = 12, 7, 10
NFT_MSG_DELTABLE, NFT_MSG_DELCHAIN, NFT_MSG_DELRULE, NFT_MSG_DELSET, NFT_MSG_DELSETELEM = 2, 5, 8, 11, 14
TABLE_NAME, RULE_CHAIN = 1, 2  # NFTA_*_TABLE has the same number in all of these messages
LOSSES: Final = (NFT_MSG_DELTABLE, NFT_MSG_DELCHAIN, NFT_MSG_DELRULE, NFT_MSG_DELSET, NFT_MSG_DELSETELEM)
USERS_CHAIN: Final = "user"  # its rules are the administrator's to delete
_HEADER = struct.Struct("=LHHLL")  # nlmsghdr: length, type, flags, sequence, port of the one who made the change
_NFGENMSG_SIZE = 4
_BUFFER = 1 << 20


class NftWatch:
    """A socket that is readable when some ruleset of this network namespace has changed. Raises OSError."""

    def __init__(self, table: str) -> None:
        self._table = table
        self.socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_NETFILTER
        )
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self.socket.bind((0, 1 << (NFNLGRP_NFTABLES - 1)))

    def close(self) -> None:
        self.socket.close()

    def lost(self, own_port: Callable[[], int]) -> bool:
        """Read what has come. True when another netlink socket than `own_port()` took something from our table, or may have."""
        found = False
        while True:
            try:
                found |= self._loss(self.socket.recv(_BUFFER), own_port())
            except BlockingIOError:
                return found
            except OSError:  # ENOBUFS: more than the buffer holds, so that some is unknown
                found = True

    def _loss(self, raw: bytes, own_port: int) -> bool:
        return any(port != own_port and self._takes(kind, body) for kind, port, body in _messages(raw))

    def _takes(self, kind: int, body: bytes) -> bool:
        if kind >> 8 != NFNL_SUBSYS_NFTABLES or kind & 0xFF not in LOSSES:
            return False
        found = attributes(body[_NFGENMSG_SIZE:])
        users = kind & 0xFF == NFT_MSG_DELRULE and _text(found.get(RULE_CHAIN, b"")) == USERS_CHAIN
        return _text(found.get(TABLE_NAME, b"")) == self._table and not users


def _messages(raw: bytes) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(raw):
        length, kind, _, _, port = _HEADER.unpack_from(raw, offset)
        if length < _HEADER.size:
            return
        yield kind, port, raw[offset + _HEADER.size : offset + length]
        offset += (length + 3) & ~3


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")
