"""Networks and endpoints as values. A record is replaced whole; nothing here touches the kernel."""

import json
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

BRIDGE, HOST, NONE = "bridge", "host", "none"
PREDEFINED = (BRIDGE, HOST, NONE)


@dataclass(frozen=True, slots=True)
class Pool:
    """One subnet of a network as asked for, texts in CIDR or dotted form, "" for what was left to the engine."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    auxiliary: dict[str, str] = field(default_factory=dict)

    @property
    def version(self) -> int:
        return 6 if ":" in self.subnet else 4


@dataclass(frozen=True, slots=True)
class Network:
    """A network's record.

    pools is what inspect shows in IPAM.Config; subnet and gateway are what is in force ("" without addresses), subnet6 and
    gateway6 the same for IPv6. asked_subnet: the subnet was the user's choice, so that addresses may be asked for. further: what
    is in force besides, with drivers that have several subnets of a family.
    """

    id: str
    name: str
    driver: str
    created: str  # RFC 3339, ns, UTC
    subnet: str = ""
    gateway: str = ""
    pools: tuple[Pool, ...] = ()
    asked_subnet: bool = False
    subnet6: str = ""
    gateway6: str = ""
    asked_subnet6: bool = False
    further: tuple[Pool, ...] = ()
    ipam_driver: str = "default"
    ipam_options: dict[str, str] | None = None
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    config_only: bool = False
    config_from: str = ""
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    scope: str = "local"

    @property
    def predefined(self) -> bool:
        return self.name in PREDEFINED

    @property
    def spaces(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The first of each family, IPv4 first; then further ones."""
        subnets = (self.subnet, self.subnet6, *(pool.subnet for pool in self.further))
        return tuple(ip_network(subnet) for subnet in subnets if subnet)

    def gateway_of(self, space: IPv4Network | IPv6Network) -> str:
        further = (pool.gateway for pool in self.further if ip_network(pool.subnet) == space)
        return next(further, self.gateway if space.version == 4 else self.gateway6)

    def pool_of(self, space: IPv4Network | IPv6Network) -> Pool:
        """What was asked for, or shown, of one subnet; an empty one when nothing was."""
        return next((pool for pool in self.pools if ip_network(pool.subnet) == space), Pool())

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> "Network":
        raw = json.loads(text)
        pools = {name: tuple(Pool(**pool) for pool in raw.get(name, ())) for name in ("pools", "further")}
        return cls(**{**raw, **pools})


@dataclass(frozen=True, slots=True)
class PortRequest:
    """One published port as asked. host_port: "" for an ephemeral one, "8080", or "8000-8010" for the first free of them.

    host_ip "" is every address of the host. proto: tcp, udp or sctp.
    """

    container_port: int
    proto: str = "tcp"
    host_ip: str = ""
    host_port: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Binding:
    """One published port as it is: host_ip "0.0.0.0" and "::" are every address of a family.

    host_port 0: none of the host, the container's own is open at its own address, as in gateway mode "routed".
    """

    container_port: int
    proto: str
    host_ip: str
    host_port: int


@dataclass(frozen=True, slots=True)
class Reach:
    """A port of another container on a network whose containers do not reach each other else."""

    ip: str
    proto: str
    port: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container's place in one network, from reserve to release. Addresses are "" where the network gives none.

    interface is the name inside the container ("" for host and none), host_interface the veth's other end. gateway and
    ipv6_gateway are the network's, 0.0.0.0 and :: the interface itself; default_route and default_route6 say whether they are the
    container's default route. relayed: ports of the host are carried by relay.py instead of translated. link_local: further
    addresses, as asked for. sysctls: the interface's, as endpointopts.py writes them. links: what it may
    reach. dns_names: names the network knows it by.
    """

    id: str
    container: str
    container_name: str
    network: str  # name
    network_id: str
    ip: str = ""
    prefix_len: int = 0
    gateway: str = ""
    mac: str = ""
    ipv6: str = ""
    ipv6_prefix_len: int = 0
    ipv6_gateway: str = ""
    gw_priority: int = 0
    link_local: tuple[str, ...] = ()
    sysctls: tuple[str, ...] = ()
    interface: str = ""
    host_interface: str = ""
    default_route: bool = False
    default_route6: bool = False
    ports: tuple[Binding, ...] = ()
    relayed: bool = False
    links: tuple[Reach, ...] = ()
    dns_names: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.container}/{self.network_id}"

    @property
    def rank(self) -> tuple[int, str]:
        """Of a container's endpoints with a gateway, the one whose rank is lowest provides the default route."""
        return -self.gw_priority, self.network

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> "Endpoint":
        raw: dict[str, Any] = json.loads(text)
        ports = tuple(Binding(**binding) for binding in raw["ports"])
        lists = {name: tuple(raw.get(name, ())) for name in ("dns_names", "link_local", "sysctls")}
        links = tuple(Reach(**reach) for reach in raw.get("links", ()))
        return cls(**{**raw, "ports": ports, "links": links, **lists})
