"""A container's way onto its networks: reserve before the shim runs, connect when its namespace exists, release at the exit."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from compat_engine.engine.parts import Engine
from compat_engine.engine.registry import Container
from compat_engine.errors import Internal, InvalidParameter
from compat_engine.ids import short
from compat_engine.network import files
from compat_engine.network.model import BRIDGE, Endpoint, PortRequest
from compat_engine.wire.container import PortBinding
from compat_engine.wire.network import EndpointSettings

_RESOLV, _HOSTS = Path("/etc/resolv.conf"), Path("/etc/hosts")


async def reserve(engine: Engine, container: Container) -> dict[str, Endpoint]:
    """Addresses, MACs and host ports, by network name; nothing of it in the kernel yet. Raises NotFound (network), Internal.

    In the order of GwPriority, as the first network with a gateway gives the default route and the published ports. All or none.
    """
    found: dict[str, Endpoint] = {}
    ports = port_requests(container)
    wanted = sorted(container.record.endpoints.items(), key=lambda item: -item[1].GwPriority)
    try:
        for name, asked in wanted:
            mac = asked.MacAddress or ("" if found else container.record.config.MacAddress)
            published = any(endpoint.ports for endpoint in found.values())
            endpoint = await reserve_one(engine, container, name, asked, mac, () if published else ports)
            found[endpoint.network] = endpoint
    except BaseException:
        await engine.networks.release(container.id)
        raise
    return found


async def reserve_one(
    engine: Engine, container: Container, word: str, asked: EndpointSettings, mac: str, ports: Sequence[PortRequest]
) -> Endpoint:
    names = [container.name, *(asked.Aliases or ()), short(container.id)]
    return await engine.networks.reserve(
        container.id,
        word,
        name=container.name,
        ip=asked.IPAMConfig.IPv4Address if asked.IPAMConfig else "",
        mac=mac,
        ports=ports,
        dns_names=list(dict.fromkeys(names)),
    )


async def connect(engine: Engine, container: Container, endpoints: dict[str, Endpoint], pid: int) -> None:
    """Into the namespace of `pid`, which waits. Raises Internal."""
    mode = container.record.host_config.NetworkMode
    if not endpoints and mode != "host" and not mode.startswith("container:"):
        await engine.networks.loopback(pid)  # disconnected from every network before its start
    for endpoint in endpoints.values():
        await engine.networks.connect(endpoint, pid)
        engine.events.publish("network", "connect", endpoint.network_id, _event(engine, container, endpoint))


async def disconnected(engine: Engine, container: Container) -> None:
    """After an exit, or for what a crash left: everything it held is free again."""
    endpoints = engine.networks.endpoints(container.id)
    await engine.networks.release(container.id)
    for endpoint in endpoints.values():
        engine.events.publish("network", "disconnect", endpoint.network_id, _event(engine, container, endpoint))


def _event(engine: Engine, container: Container, endpoint: Endpoint) -> dict[str, str]:
    return {"container": container.id, "name": endpoint.network, "type": engine.networks.find(endpoint.network_id).driver}


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
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", numbers)
    if not match:
        raise InvalidParameter(f'invalid port specification: "{port}"')
    for number in range(int(match[1]), int(match[2] or match[1]) + 1):
        for binding in bindings:
            yield PortRequest(number, (proto or "tcp").lower(), binding.HostIp, binding.HostPort)


def network_files(engine: Engine, container: Container, endpoints: dict[str, Endpoint], hostname: str) -> dict[str, str]:
    """Write /etc/hosts, /etc/hostname and /etc/resolv.conf into the container's directory: container path -> host path.

    A container in another's network shows that one's files. Raises InvalidParameter (--add-host), Internal.
    """
    mode = container.record.host_config.NetworkMode
    owner = engine.containers.find(mode.partition(":")[2]) if mode.startswith("container:") else container
    directory = engine.tree.container(owner.id)
    if owner is container:
        try:
            _write(directory / "hostname", f"{hostname}\n")
            _write(directory / "hosts", _hosts(engine, container, endpoints, hostname))
            _write(directory / "resolv.conf", _resolv_conf(engine, container))
        except OSError as error:
            raise Internal(f"cannot write {error.filename}: {error.strerror}") from error
    return {f"/etc/{name}": str(directory / name) for name in ("resolv.conf", "hostname", "hosts")}


def _write(path: Path, text: str) -> None:
    """In place: a restart must not lose the inode that another container shows as its own."""
    with open(path, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o644)) as file:
        file.write(text)


def _hosts(engine: Engine, container: Container, endpoints: dict[str, Endpoint], hostname: str) -> str:
    record = container.record
    extra = record.host_config.ExtraHosts or ()
    try:
        if record.host_config.NetworkMode == "host":
            return files.host_copy(_read(_HOSTS), extra, "127.0.0.1")
        addresses = [endpoint.ip for endpoint in endpoints.values() if endpoint.ip]
        return files.hosts(hostname, record.config.Domainname, addresses, extra, _host_gateway(engine))
    except ValueError as error:
        raise InvalidParameter(str(error)) from error


def _host_gateway(engine: Engine) -> str:
    return next((network.gateway for network in engine.networks.list() if network.name == BRIDGE), "")


def _resolv_conf(engine: Engine, container: Container) -> str:
    host = container.record.host_config
    return files.resolv_conf(
        _read(_RESOLV),
        host.Dns or engine.config.dns,
        host.DnsSearch or engine.config.dns_search,
        host.DnsOptions or engine.config.dns_options,
        loopback=host.NetworkMode == "host",
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
