"""Which ports of the host are published. Each is held by a bound socket, so that no process of the host can take it as well.

Where nftables translates the packets before a socket is looked up they serve nobody. For the rest of IPv6 see relay.py.
"""

import errno
import logging
import os
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path

from compat_engine.errors import EngineError, Internal, InvalidParameter
from compat_engine.network.model import Binding, PortRequest

log = logging.getLogger(__name__)
ANY = ("0.0.0.0", "::")  # what "" means where the host has IPv6
_KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
Key = tuple[str, str, int]  # protocol, host address, host port


class Ports:
    """All published ports of this daemon. Nothing here waits: a bind takes microseconds."""

    def __init__(self) -> None:
        self._held: dict[Key, socket.socket | None] = {}
        self._next: dict[str, int] = {}  # protocol -> where the search for an ephemeral port goes on

    def publish(
        self,
        requests: Sequence[PortRequest],
        default_ip: str = "",
        served: Collection[int] = (4, 6),
        routed: Collection[int] = (),
    ) -> tuple[Binding, ...]:
        """Claim all or none, on addresses of the families `served`: in another there is nobody to hear what comes. In families
        `routed` nothing is claimed: the host's address and port are of no consequence.

        Raises Internal with Docker's text when one is taken, InvalidParameter when it makes no sense.
        """
        with ExitStack() as undo:
            bindings: list[Binding] = []
            for request in requests:
                claimed = self._publish(request, default_ip, served, routed)
                undo.callback(self.release, claimed)
                bindings += claimed
            undo.pop_all()
        return tuple(bindings)

    def restore(self, bindings: Iterable[Binding]) -> None:
        """Hold the ports of containers that ran on without a daemon. One taken meanwhile is logged: it stays translated."""
        for binding in bindings:
            try:
                if binding.host_port:
                    self._claim(binding.proto, binding.host_ip, binding.host_port)
            except EngineError as error:
                log.warning("published port %s:%d/%s: %s", binding.host_ip, binding.host_port, binding.proto, error)

    def sockets(self, bindings: Iterable[Binding]) -> list[tuple[Binding, socket.socket]]:
        """What holds them, where a socket does."""
        found = ((binding, self._held.get((binding.proto, binding.host_ip, binding.host_port))) for binding in bindings)
        return [(binding, held) for binding, held in found if held]

    def release(self, bindings: Iterable[Binding]) -> None:
        for binding in bindings:
            held = self._held.pop((binding.proto, binding.host_ip, binding.host_port), None)
            if held:
                held.close()

    def close(self) -> None:
        for held in self._held.values():
            if held:
                held.close()
        self._held.clear()

    def _publish(self, request: PortRequest, default_ip: str, served: Collection[int], routed: Collection[int]) -> list[Binding]:
        wanted = [address for address in _addresses(request.host_ip or default_ip) if _version(address) in served]
        versions = [version for version in map(_version, wanted) if version in routed]
        opened = [Binding(request.container_port, request.proto, ANY[version == 6], 0) for version in versions]
        return opened + self._claim_first(request, [address for address in wanted if _version(address) not in routed])

    def _claim_first(self, request: PortRequest, addresses: Sequence[str]) -> list[Binding]:
        """The first port that is free on all the addresses."""
        first, last = _range(request)
        if not addresses:
            return []
        failure: EngineError = Internal("all ports are allocated")
        for port in self._candidates(request.proto, first, last):
            try:
                self._claim_all(request.proto, addresses, port)
            except EngineError as error:
                failure = error
                continue
            if not first:
                self._next[request.proto] = port + 1
            return [Binding(request.container_port, request.proto, address, port) for address in addresses]
        raise failure

    def _candidates(self, proto: str, first: int, last: int) -> Iterator[int]:
        if first:
            yield from range(first, last + 1)
            return
        first, last = _ephemeral()
        start = min(max(self._next.get(proto, first), first), last)
        yield from range(start, last + 1)
        yield from range(first, start)

    def _claim_all(self, proto: str, addresses: Sequence[str], port: int) -> None:
        with ExitStack() as undo:
            for address in addresses:
                self._claim(proto, address, port)
                undo.callback(self.release, [Binding(0, proto, address, port)])
            undo.pop_all()

    def _claim(self, proto: str, address: str, port: int) -> None:
        key = (proto, address, port)
        if key in self._held:
            raise Internal(f"Bind for {_shown(address)}:{port} failed: port is already allocated")
        try:
            self._held[key] = _bound(proto, address, port)
        except OSError as error:
            family = "6" if ":" in address else "4"
            reason = (error.strerror or str(error)).lower()
            where = f"listen {proto}{family} {_shown(address)}:{port}"
            raise Internal(f"Error starting userland proxy: {where}: bind: {reason}") from error


def _bound(proto: str, address: str, port: int) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind, number = _KINDS[proto]
    try:
        held = socket.socket(family, kind | socket.SOCK_CLOEXEC, number)
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
            return None  # no SCTP in this kernel: then no process of the host can take the port either
        raise
    try:
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _bind(held, proto, address, port)
    except OSError:
        held.close()
        raise
    return held


def _bind(held: socket.socket, proto: str, address: str, port: int) -> None:
    try:
        held.bind((address, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE or proto != "tcp":
            raise
        # Old connections in TIME_WAIT are no users of the port. With SO_REUSEADDR only a listener keeps others away.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((address, port))
        held.listen(0)


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _addresses(host_ip: str) -> tuple[str, ...]:
    if not host_ip:
        return ANY if os.path.exists("/proc/net/if_inet6") else ANY[:1]
    try:
        return (str(ip_address(host_ip.strip("[]"))),)
    except ValueError:
        raise InvalidParameter(f"invalid IP address: {host_ip}") from None


def _range(request: PortRequest) -> tuple[int, int]:
    """(first, last) wanted; (0, 0) leaves the choice open. Raises InvalidParameter."""
    if request.proto not in _KINDS:
        raise InvalidParameter(f"invalid proto: {request.proto}")
    if request.host_port in ("", "0"):
        return 0, 0
    first, _, last = request.host_port.partition("-")
    try:
        low, high = int(first), int(last or first)
    except ValueError:
        raise InvalidParameter(f'invalid port specification: "{request.host_port}"') from None
    if not 0 < low <= high < 65536:
        raise InvalidParameter(f'invalid port specification: "{request.host_port}"')
    return low, high


def _ephemeral() -> tuple[int, int]:
    low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    return int(low), int(high)


def _shown(address: str) -> str:
    return f"[{address}]" if ":" in address else address
