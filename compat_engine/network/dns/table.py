"""What names mean to one container: values without a socket or a packet, replaced whole when a network changes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from compat_engine.network.model import Endpoint

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Zone:
    """The names of one network, in lower case, and the container's name behind each address."""

    network: str
    addresses: Mapping[str, tuple[Address, ...]] = field(default_factory=dict)
    names: Mapping[Address, str] = field(default_factory=dict)

    @classmethod
    def of(cls, network: str, endpoints: Iterable[Endpoint]) -> "Zone":
        addresses: dict[str, tuple[Address, ...]] = {}
        names: dict[Address, str] = {}
        for endpoint in endpoints:
            found = tuple(ip_address(text) for text in (endpoint.ip, endpoint.ipv6) if text)
            names.update(dict.fromkeys(found, endpoint.container_name))
            for name in {word.lower() for word in endpoint.dns_names}:
                addresses[name] = addresses.get(name, ()) + found
        return cls(network, addresses, names)


@dataclass(frozen=True, slots=True)
class View:
    """A network as one container sees it: links are further names of its own, alias -> a name of the zone."""

    zone: Zone
    links: Mapping[str, str] = field(default_factory=dict)

    def addresses(self, name: str) -> tuple[Address, ...] | None:
        return self.zone.addresses.get(self.links.get(name, name).lower())


@dataclass(frozen=True, slots=True)
class Table:
    """All networks of one container, in the order in which they are asked."""

    views: tuple[View, ...] = ()

    def addresses(self, name: str) -> tuple[Address, ...] | None:
        """Of `name` or `name.network`, lower case, in the first network that knows it; None for a name of nobody here."""
        for view in self.views:
            bare = name.removesuffix(f".{view.zone.network.lower()}")
            for word in dict.fromkeys((name, bare)):
                if (found := view.addresses(word)) is not None:
                    return found
        return None

    def name_of(self, address: Address) -> str | None:
        """ "container.network", as dockerd answers PTR."""
        for view in self.views:
            if name := view.zone.names.get(address):
                return f"{name}.{view.zone.network}"
        return None
