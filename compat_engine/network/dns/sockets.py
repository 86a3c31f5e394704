"""The resolver's sockets in a container's network namespace.

They are bound to ports of the kernel's choice, and what is sent to 127.0.0.11 port 53 is readdressed to them, so that a container
may have a name server of its own on port 53 of every address. The readdressing is nftables' plain rewriting of ports, there and
back: unlike NAT it needs no connection tracking, which would slow down all traffic of the namespace.
"""

import os
import socket

from compat_engine.errors import Internal
from compat_engine.kernel.netns import network_of
from compat_engine.network.nft import Nft

ADDRESS, PORT = "127.0.0.11", 53
TABLE = "compat-dns"
BACKLOG, BUFFER = 128, 1 << 20  # connections, bytes waiting: a burst of a thousand queries is not lost
_SO_RCVBUFFORCE = 33  # socket(7); Python has no name for it


def open_resolver(pid: int) -> tuple[int, socket.socket, socket.socket]:
    """The namespace, the UDP and the TCP socket; instead of those of a daemon before. Raises OSError, Internal (nftables)."""
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    opened = []
    try:
        with network_of(namespace):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                opened.append(socket.socket(socket.AF_INET, kind))
                opened[-1].bind((ADDRESS, 0))
            udp, tcp = opened
            udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
            tcp.listen(BACKLOG)
            _readdress(udp.getsockname()[1], tcp.getsockname()[1])
    except BaseException:
        for sock in opened:
            sock.close()
        os.close(namespace)
        raise
    return namespace, udp, tcp


def open_socket(namespace: int, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
    with network_of(namespace):
        sock = socket.socket(family, kind)
    sock.setblocking(False)
    return sock


def rules(udp: int, tcp: int) -> str:
    """One transaction of nft(8); fails where the table is. Questions and answers alike pass their sender's output hook."""
    return f"""\
create table ip {TABLE}
table ip {TABLE} {{
    chain output {{
        type filter hook output priority mangle
        ip daddr {ADDRESS} udp dport {PORT} udp dport set {udp}
        ip daddr {ADDRESS} tcp dport {PORT} tcp dport set {tcp}
        ip saddr {ADDRESS} udp sport {udp} udp sport set {PORT}
        ip saddr {ADDRESS} tcp sport {tcp} tcp sport set {PORT}
    }}
}}
"""


def _readdress(udp: int, tcp: int) -> None:
    """A context of its own, as its netlink socket belongs to the namespace it was made in.

    A table is deleted only where a daemon before has left one: the kernel waits for an RCU grace period then, 8 ms and more.
    """
    nft = Nft()
    try:
        nft.run(rules(udp, tcp))
    except Internal:
        nft.run(f"delete table ip {TABLE}\n{rules(udp, tcp)}")
    finally:
        nft.close()
