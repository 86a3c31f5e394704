"""Containers on networks: what may be asked for at create, and connect and disconnect afterwards, running or not."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address

from compat_engine.engine.endpoints import port_requests, reserve_one, resolve
from compat_engine.engine.netfiles import add_network, remove_network
from compat_engine.engine.networks import event_attributes
from compat_engine.engine.parts import Engine
from compat_engine.engine.registry import Container
from compat_engine.errors import Internal, InvalidParameter, NotFound
from compat_engine.network.endpointopts import complaints
from compat_engine.network.ipam import is_mac
from compat_engine.network.model import HOST, NONE, Network
from compat_engine.wire.network import EndpointIPAMConfig, EndpointSettings, NetworkConnect, NetworkDisconnect


def check_endpoints(engine: Engine, asked: Mapping[str, EndpointSettings]) -> None:
    """Before a container is created. Raises InvalidParameter with Docker's text; a network that is not there yet is no error."""
    for word, settings in asked.items():
        try:
            network = engine.networks.find(word)
        except NotFound:
            continue
        try:
            check_endpoint(network, settings)
        except InvalidParameter as error:
            raise InvalidParameter(f"invalid config for network {network.name}: {error}") from error


def check_endpoint(network: Network, settings: EndpointSettings) -> None:
    """Raises InvalidParameter when the network cannot give what is asked of it."""
    if settings.MacAddress and not is_mac(settings.MacAddress):
        raise InvalidParameter(f"invalid MAC address {settings.MacAddress}")
    found = [*_complaints(network, settings), *complaints(settings.DriverOpts or {})]
    if found:
        bullet = "* " if len(found) > 1 else ""
        text = "\n".join(bullet + complaint for complaint in found)
        raise InvalidParameter(f"invalid endpoint settings:\n{text}")


async def connect(engine: Engine, word: str, request: NetworkConnect) -> None:
    """POST /networks/{id}/connect. Raises NotFound, InvalidParameter, Forbidden (already connected), Internal."""
    _check_name(request.Container)
    container = engine.containers.find(request.Container)
    network = engine.networks.find(word)
    settings = request.EndpointConfig or EndpointSettings()
    async with container.lock:
        _refuse(engine, container, network)
        check_endpoint(network, settings)
        await engine.standby.dismiss(container)
        if container.state.running and container.state.pid:
            await _plug_in(engine, container, network, settings)
        endpoints = {**container.record.endpoints, network.name: settings}
        await engine.containers.update(container, record=replace(container.record, endpoints=endpoints))
        if container.state.pid and (endpoint := engine.networks.endpoints(container.id).get(network.name)):
            add_network(engine, container, endpoint)
            await resolve(engine, container, container.state.pid)


async def disconnect(engine: Engine, word: str, request: NetworkDisconnect) -> None:
    """POST /networks/{id}/disconnect. Raises NotFound, InvalidParameter (host), Internal (not connected), as dockerd does."""
    network = engine.networks.find(word)
    _check_name(request.Container)
    try:
        container = engine.containers.find(request.Container)
    except NotFound:
        if request.Force:
            raise NotFound(f"endpoint {request.Container} not found") from None
        raise
    async with container.lock:
        if network.name == HOST:
            raise InvalidParameter("container cannot be disconnected from host network or connected to host network")
        name = _name_of(engine, container, network)
        await engine.standby.dismiss(container)
        if container.state.running and container.state.pid:
            endpoint = engine.networks.endpoints(container.id).get(network.name)
            await engine.networks.disconnect(container.id, network, container.state.pid)
            await engine.networks.republish(container.id, port_requests(container))
            if endpoint:
                remove_network(engine, container, endpoint)
        attributes = {"container": container.id, **event_attributes(network)}
        engine.events.publish("network", "disconnect", network.id, attributes)
        rest = {word: asked for word, asked in container.record.endpoints.items() if word != name}
        await engine.containers.update(container, record=replace(container.record, endpoints=rest))


def _check_name(container: str) -> None:
    if not container:
        raise InvalidParameter('invalid name or ID supplied: ""')


async def _plug_in(engine: Engine, container: Container, network: Network, settings: EndpointSettings) -> None:
    ports = port_requests(container)
    endpoint = await reserve_one(engine, container, network.id, settings, settings.MacAddress, ())
    try:
        await engine.networks.connect(endpoint, container.state.pid)
        await engine.networks.republish(container.id, ports)
    except BaseException:
        await engine.networks.disconnect(container.id, network, container.state.pid)
        await engine.networks.republish(container.id, ports)
        raise
    engine.events.publish("network", "connect", network.id, {"container": container.id, **event_attributes(network)})


def _refuse(engine: Engine, container: Container, network: Network) -> None:
    mode = container.record.host_config.NetworkMode
    if mode.startswith("container:") or mode == HOST:
        raise InvalidParameter(
            "container sharing network namespace with another container or host cannot be connected to any other network"
        )
    if network.name == HOST:
        raise InvalidParameter("container cannot be disconnected from host network or connected to host network")
    present = container.record.endpoints
    if NONE in present or (network.name == NONE and present):
        raise InvalidParameter(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )


def _name_of(engine: Engine, container: Container, network: Network) -> str:
    """The word by which the container's record names the network: its name, or an id it was created with."""
    for word in container.record.endpoints:
        if word == network.name or network.id.startswith(word):
            return word
    article = "" if container.state.running else "the "
    raise Internal(f"container {container.id} is not connected to {article}network {network.name}")


def _complaints(network: Network, settings: EndpointSettings) -> Iterable[str]:
    if settings.Aliases and network.predefined:
        yield "network-scoped alias is supported only for containers in user defined networks"
    ipam = settings.IPAMConfig or EndpointIPAMConfig()
    asked = [(version, address) for version, address in ((4, ipam.IPv4Address), (6, ipam.IPv6Address)) if address]
    yield from (f"invalid IPv{version} address: {address}" for version, address in asked if not _is_address(address, version))
    for address in ipam.LinkLocalIPs or ():
        if not _is_address(address, 4) and not _is_address(address, 6):
            yield f"invalid link-local IP address: {address}"
    if asked and network.predefined:
        yield "user specified IP address is supported on user defined networks only"
    for version, address in asked:
        yield from _subnet_complaints(network, version, address)


def _subnet_complaints(network: Network, version: int, address: str) -> Iterable[str]:
    subnet, asked = (network.subnet, network.asked_subnet) if version == 4 else (network.subnet6, network.asked_subnet6)
    if not asked and (not network.predefined or not subnet):
        yield "user specified IP address is supported only when connecting to networks with user configured subnets"
    elif not _is_address(address, version) or not any(ip_address(address) in space for space in network.spaces):
        yield f"no configured subnet or ip-range contain the IP address {address}"


def _is_address(text: str, version: int) -> bool:
    try:
        address = ip_address(text)
        return address.version == version and not address.is_unspecified
    except ValueError:
        return False
