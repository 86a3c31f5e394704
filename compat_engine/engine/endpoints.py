"""A container's way onto its networks: reserve before the shim runs, connect when its namespace exists, release at the exit."""

import re
from collections.abc import Iterable, Sequence

from compat_engine.engine.links import open_links, parse_link
from compat_engine.engine.netfiles import follow, has_names, upstreams
from compat_engine.engine.parts import Engine
from compat_engine.engine.registry import Container
from compat_engine.errors import EngineError, InvalidParameter
from compat_engine.ids import short
from compat_engine.network.claims import EndpointRequest
from compat_engine.network.dns.resolvers import Asked
from compat_engine.network.model import Endpoint, PortRequest
from compat_engine.wire.container import PortBinding
from compat_engine.wire.network import EndpointIPAMConfig, EndpointSettings


async def reserve(engine: Engine, container: Container) -> dict[str, Endpoint]:
    """Addresses, MACs and host ports, by network name; nothing of it in the kernel yet. Raises NotFound (network), Internal.

    In the order of GwPriority, then of the networks' names: the first with a gateway gives the default route, the first that can
    the published ports. All or none: after a failure all that were tried are told of as disconnected, as by dockerd.
    """
    found: dict[str, Endpoint] = {}
    tried: list[str] = []
    ports = port_requests(container)
    try:
        asked_of = container.record.endpoints.items()
        wanted = sorted(asked_of, key=lambda item: (-item[1].GwPriority, engine.networks.find(item[0]).name))
        for name, asked in wanted:
            tried.append(name)
            mac = asked.MacAddress or ("" if found else container.record.config.MacAddress)
            published = any(endpoint.ports for endpoint in found.values())
            endpoint = await reserve_one(engine, container, name, asked, mac, () if published else ports)
            found[endpoint.network] = endpoint
    except BaseException:
        await engine.networks.release(container.id)
        for name in tried:
            _tell(engine, "disconnect", container, name)
        raise
    return found


async def reserve_one(
    engine: Engine, container: Container, word: str, asked: EndpointSettings, mac: str, ports: Sequence[PortRequest]
) -> Endpoint:
    ipam = asked.IPAMConfig or EndpointIPAMConfig()
    request = EndpointRequest(
        ipam.IPv4Address, ipam.IPv6Address, mac, ports, ipam.LinkLocalIPs or (), asked.GwPriority, asked.DriverOpts or {}
    )
    names = dns_names(container, asked)
    return await engine.networks.reserve(container.id, word, name=container.name, asked=request, dns_names=names)


def dns_names(container: Container, asked: EndpointSettings) -> list[str]:
    """What other containers of a network may call this one, in Docker's order."""
    names = [container.name, *(asked.Aliases or ()), short(container.id), container.record.config.Hostname or ""]
    return list(dict.fromkeys(name for name in names if name))


async def renamed(engine: Engine, container: Container) -> None:
    """Its networks know a container by its new name, and no longer by the old one."""
    endpoints = engine.networks.endpoints(container.id).values()
    names = {one.network_id: dns_names(container, _settings(container, one)) for one in endpoints}
    await engine.networks.rename(container.id, container.name, names)


async def resolve(engine: Engine, container: Container, pid: int) -> None:
    """Serve DNS in the namespace of `pid`, when one of the container's networks has names. Raises Internal."""
    endpoints = engine.networks.endpoints(container.id)
    if has_names(endpoints):
        links = {one.network_id: _links(engine, _settings(container, one).Links or ()) for one in endpoints.values()}
        await engine.networks.resolve(container.id, pid, Asked(upstreams(engine, container), links))


def _settings(container: Container, endpoint: Endpoint) -> EndpointSettings:
    """What was asked for in the endpoint's network, which the record may name by its id."""
    asked = container.record.endpoints
    words = (word for word in asked if word == endpoint.network or endpoint.network_id.startswith(word))
    return asked.get(next(words, "")) or EndpointSettings()


def _links(engine: Engine, links: Iterable[str]) -> dict[str, str]:
    """ "container:alias" as alias -> a name of that container; by its id, where there is one yet, as that one stays."""
    found = {}
    for link in links:
        word, alias = parse_link(link)
        try:
            target = short(engine.containers.find(word).id)
        except EngineError:
            target = word
        found[alias.lower()] = target
    return found


async def connect(engine: Engine, container: Container, endpoints: dict[str, Endpoint], pid: int) -> None:
    """Into the namespace of `pid`, which waits; told of only when all of it is done. Raises Internal."""
    mode = container.record.host_config.NetworkMode
    if not endpoints and mode != "host" and not mode.startswith("container:"):
        await engine.networks.loopback(pid)  # disconnected from every network before its start
    for endpoint in endpoints.values():
        await engine.networks.connect(endpoint, pid)
    await resolve(engine, container, pid)
    follow(engine, container)
    await open_links(engine, container)
    for endpoint in endpoints.values():
        _tell(engine, "connect", container, endpoint.network_id)


async def disconnected(engine: Engine, container: Container) -> None:
    """After an exit or a failed start, or for what a crash left: everything it held is free again."""
    endpoints = engine.networks.endpoints(container.id)
    await engine.networks.release(container.id)
    await open_links(engine, container)
    for endpoint in endpoints.values():
        _tell(engine, "disconnect", container, endpoint.network_id)


def _tell(engine: Engine, action: str, container: Container, word: str) -> None:
    network = engine.networks.find(word)
    attributes = {"container": container.id, "name": network.name, "type": network.driver}
    engine.events.publish("network", action, network.id, attributes)


def port_requests(container: Container) -> tuple[PortRequest, ...]:
    """PortBindings, and with PublishAllPorts every exposed port besides; a range is one request a port."""
    record = container.record
    host = record.host_config
    if host.NetworkMode in ("host", "none"):
        return ()
    asked = {port: bindings or [PortBinding()] for port, bindings in (host.PortBindings or {}).items()}
    if host.PublishAllPorts:
        asked = {**{port: [PortBinding()] for port in record.config.ExposedPorts or ()}, **asked}
    return tuple(request for port, bindings in asked.items() for request in _requests(port, bindings))


def _requests(port: str, bindings: Iterable[PortBinding]) -> Iterable[PortRequest]:
    numbers, _, proto = port.partition("/")
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", numbers)
    if not match or max(map(int, filter(None, match.groups()))) >= 1 << 16:
        raise InvalidParameter(f'invalid port specification: "{port}"')
    for number in range(int(match[1]), int(match[2] or match[1]) + 1):
        for binding in bindings:
            yield PortRequest(number, (proto or "tcp").lower(), binding.HostIp, binding.HostPort)
