"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container: written at its start, kept up when its networks change."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from compat_engine.engine.links import Linked, link_hosts, links_alive, links_in_force
from compat_engine.engine.parts import Engine
from compat_engine.engine.registry import Container
from compat_engine.errors import Internal, InvalidParameter
from compat_engine.network import files
from compat_engine.network.dns.forward import Upstream
from compat_engine.network.model import BRIDGE, HOST, NONE, PREDEFINED, Endpoint

_RESOLV, _HOSTS = Path("/etc/resolv.conf"), Path("/etc/hosts")


def network_files(engine: Engine, container: Container) -> dict[str, str]:
    """/etc/hosts, /etc/hostname and /etc/resolv.conf: container path -> host path, where there is a file at any rate, and its
    content too if no endpoint has a say in it.

    A container in another's network shows that one's. Raises NotFound (that other one), InvalidParameter (--add-host), Internal.
    """
    owner = _owner(engine, container)
    paths = {f"/etc/{name}": engine.tree.container(owner.id) / name for name in ("resolv.conf", "hostname", "hosts")}
    if owner is container and _apart(container):
        _write_all(engine, container, {})
    else:
        with _writing():
            for path in paths.values():
                path.touch(0o644)
    return {target: str(path) for target, path in paths.items()}


def write_network_files(engine: Engine, container: Container, endpoints: dict[str, Endpoint]) -> None:
    """Their content for a start, unless they are another's or have it. Raises InvalidParameter (--add-host), Internal."""
    if _owner(engine, container) is container and not _apart(container):
        _write_all(engine, container, endpoints)


def _apart(container: Container) -> bool:
    """In no network that gives addresses or names."""
    return all(word in (HOST, NONE) for word in container.record.endpoints)


def _write_all(engine: Engine, container: Container, endpoints: dict[str, Endpoint]) -> None:
    directory = engine.tree.container(container.id)
    hostname = container.record.config.Hostname or os.uname().nodename
    with _writing():
        _write(directory / "hostname", f"{hostname}\n")
        _write(directory / "hosts", _hosts(engine, container, endpoints, hostname, links_in_force(engine, container)))
        _write_resolv_conf(directory, _resolv_conf(engine, container, endpoints))


def _owner(engine: Engine, container: Container) -> Container:
    """Whose network it is in."""
    mode = container.record.host_config.NetworkMode
    return engine.containers.find(mode.partition(":")[2]) if mode.startswith("container:") else container


def add_network(engine: Engine, container: Container, endpoint: Endpoint) -> None:
    """A running container came into one more network. Raises Internal.

    Its /etc/resolv.conf changes when names are new to it, unless somebody has edited the file.
    """
    directory = engine.tree.container(container.id)
    with _writing():
        with open(directory / "hosts", "a", encoding="utf-8") as file:
            file.write(_own_line(container, endpoint))
        if has_names([endpoint.network]) and _pristine(directory):
            _write_resolv_conf(directory, _resolv_conf(engine, container, {endpoint.network: endpoint}))


def remove_network(engine: Engine, container: Container, endpoint: Endpoint) -> None:
    """A running container left a network: only its own line goes. Raises Internal."""
    path = engine.tree.container(container.id) / "hosts"
    with _writing():
        own = _own_line(container, endpoint)
        _write(path, "".join(line for line in _read(path).splitlines(keepends=True) if line != own))


def follow(engine: Engine, container: Container) -> None:
    """It may have got other addresses: running containers that link to it find it there. Raises Internal."""
    for holder in engine.containers.holders(container):
        path = engine.tree.container(holder.id) / "hosts"
        with _writing():
            if holder.state.running and holder.id != container.id:
                _write(path, files.moved(_read(path), link_hosts(links_alive(engine, holder))))


def has_names(networks: Iterable[str]) -> bool:
    """Whether one of them is of the user's own: those resolve names."""
    return any(network not in PREDEFINED for network in networks)


def upstreams(engine: Engine, container: Container) -> tuple[Upstream, ...]:
    """Whom the container's resolver asks about everybody else."""
    found = files.name_servers(_read(_RESOLV), container.record.host_config.Dns or engine.config.dns)
    return tuple(Upstream(server, from_host) for server, from_host in found)


@contextmanager
def _writing() -> Iterator[None]:
    """Raises Internal for an OSError inside."""
    try:
        yield
    except OSError as error:
        raise Internal(f"cannot write {error.filename}: {error.strerror}") from error


def _own_line(container: Container, endpoint: Endpoint) -> str:
    config = container.record.config
    return files.own_names(config.Hostname or os.uname().nodename, config.Domainname, _addresses([endpoint]))


def _addresses(endpoints: Iterable[Endpoint]) -> list[str]:
    return [address for endpoint in endpoints for address in (endpoint.ip, endpoint.ipv6) if address]


def _write(path: Path, text: str) -> None:
    """In place: a restart must not lose the inode that another container shows as its own."""
    fd, rest = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644), text.encode()
    try:
        while rest:
            rest = rest[os.write(fd, rest) :]
    finally:
        os.close(fd)


def _write_resolv_conf(directory: Path, text: str) -> None:
    _write(directory / "resolv.conf", text)
    _write(directory / "resolv.conf.hash", _hash(text))


def _pristine(directory: Path) -> bool:
    """Whether resolv.conf is as it was written here."""
    return _read(directory / "resolv.conf.hash") == _hash(_read(directory / "resolv.conf"))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hosts(
    engine: Engine, container: Container, endpoints: Mapping[str, Endpoint], hostname: str, links: Sequence[Linked]
) -> str:
    record = container.record
    extra = record.host_config.ExtraHosts or ()
    try:
        if record.host_config.NetworkMode == "host":
            return files.host_copy(_read(_HOSTS), extra, ("127.0.0.1",))
        addresses = _addresses(endpoints.values())
        return files.hosts(hostname, record.config.Domainname, addresses, extra, _host_gateways(engine), link_hosts(links))
    except ValueError as error:
        raise InvalidParameter(str(error)) from error


def _host_gateways(engine: Engine) -> list[str]:
    """The host's addresses on the default bridge, IPv4 first."""
    bridges = (network for network in engine.networks.list() if network.name == BRIDGE)
    return [gateway for network in bridges for gateway in (network.gateway, network.gateway6) if gateway]


def _resolv_conf(engine: Engine, container: Container, endpoints: Mapping[str, Endpoint]) -> str:
    host = container.record.host_config
    search, options = host.DnsSearch or engine.config.dns_search, host.DnsOptions or engine.config.dns_options
    if has_names(endpoints):
        return files.embedded_resolv_conf(_read(_RESOLV), search, options)
    servers = host.Dns or engine.config.dns
    ipv6 = any(endpoint.ipv6 for endpoint in endpoints.values())
    return files.resolv_conf(_read(_RESOLV), servers, search, options, loopback=host.NetworkMode == "host", ipv6=ipv6)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
