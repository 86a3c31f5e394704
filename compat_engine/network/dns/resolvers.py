"""Who is in which network by name, and a resolver for each running container that is in one of the user's own."""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from compat_engine.network.dns.forward import Forwarder, Upstream
from compat_engine.network.dns.server import Resolver, Server
from compat_engine.network.dns.table import Table, View, Zone
from compat_engine.network.edge import Edge
from compat_engine.network.model import PREDEFINED, Endpoint

Links = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a container wants of its resolver. links: network id -> alias -> the name it stands for."""

    upstreams: Sequence[Upstream] = ()
    links: Links = field(default_factory=dict)


@dataclass(slots=True)
class _Served:
    """One container's server, and its network namespace, open."""

    server: Server
    namespace: int
    asked: Asked

    def close(self) -> None:
        self.server.close()
        os.close(self.namespace)


class Resolvers:
    """Names come with `join` and go with `leave`; a container's sockets stay from `serve` until its last endpoint leaves."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._members: dict[str, dict[str, Endpoint]] = {}  # by network id, then by container id, in the order they came
        self._endpoints: dict[str, dict[str, Endpoint]] = {}  # the same by container id, then by network id
        self._zones: dict[str, Zone] = {}  # by network id, as far as somebody asked
        self._served: dict[str, _Served] = {}  # by container id

    def join(self, endpoint: Endpoint) -> None:
        """Also for an endpoint whose names have changed."""
        self._members.setdefault(endpoint.network_id, {})[endpoint.container] = endpoint
        self._endpoints.setdefault(endpoint.container, {})[endpoint.network_id] = endpoint
        self._changed(endpoint)

    def leave(self, endpoint: Endpoint) -> None:
        """The container's resolver stops with its last endpoint."""
        members, own = self._members.get(endpoint.network_id, {}), self._endpoints.get(endpoint.container, {})
        held = own.get(endpoint.network_id)
        if not held or held.id != endpoint.id:
            return
        del members[endpoint.container], own[endpoint.network_id]
        self._changed(endpoint)
        if not members:
            del self._members[endpoint.network_id]
        if not own:
            del self._endpoints[endpoint.container]
            self._stop(endpoint.container)

    async def serve(self, container: str, pid: int, asked: Asked) -> None:
        """Open the resolver in the network namespace of `pid`; or, when it is open, let it heed what is asked now.

        Raises Internal when the namespace does not take it.
        """
        if served := self._served.get(container):
            served.asked = asked
            served.server.resolver.changed()
            return
        namespace, udp, tcp = await self._edge.resolver_sockets(pid)
        resolver = Resolver(partial(self._table, container), partial(self._forwarder, container))
        served = self._served[container] = _Served(Server(resolver), namespace, asked)
        await served.server.open(udp, tcp)

    def close(self) -> None:
        for container in [*self._served]:
            self._stop(container)

    def _stop(self, container: str) -> None:
        if served := self._served.pop(container, None):
            served.close()

    def _changed(self, endpoint: Endpoint) -> None:
        self._zones.pop(endpoint.network_id, None)
        for container in (endpoint.container, *self._members[endpoint.network_id]):
            if served := self._served.get(container):
                served.server.resolver.changed()

    def _table(self, container: str) -> Table:
        """The network with the default route is asked first. The default bridge has no names."""
        links = self._served[container].asked.links
        own = [endpoint for endpoint in self._endpoints[container].values() if endpoint.network not in PREDEFINED]
        own.sort(key=lambda endpoint: not endpoint.default_route)
        return Table(tuple(View(self._zone(endpoint), links.get(endpoint.network_id, {})) for endpoint in own))

    def _zone(self, endpoint: Endpoint) -> Zone:
        """Shared by all containers of a network."""
        id = endpoint.network_id
        if id not in self._zones:
            self._zones[id] = Zone.of(endpoint.network, self._members[id].values())
        return self._zones[id]

    def _forwarder(self, container: str) -> Forwarder:
        """Of a container without a way out nothing is asked in the host's network: that would be one."""
        served, own = self._served[container], self._endpoints[container].values()
        ipv6 = any(endpoint.ipv6 for endpoint in own)
        way_out = any(endpoint.gateway or endpoint.ipv6_gateway for endpoint in own)
        asked = [_within_reach(upstream, ipv6) for upstream in served.asked.upstreams]
        allowed = [upstream for upstream in asked if way_out or not upstream.from_host]
        return Forwarder(allowed, partial(self._open, served.namespace))

    async def _open(self, namespace: int, upstream: Upstream, kind: socket.SocketKind) -> socket.socket:
        family = socket.AF_INET6 if ":" in upstream.address else socket.AF_INET
        if upstream.from_host:
            sock = socket.socket(family, kind)
            sock.setblocking(False)
            return sock
        return await self._edge.socket_in(namespace, family, kind)


def _within_reach(upstream: Upstream, ipv6: bool) -> Upstream:
    """A container without IPv6 still has the host's IPv6 name servers."""
    return upstream if ipv6 or ":" not in upstream.address else replace(upstream, from_host=True)
