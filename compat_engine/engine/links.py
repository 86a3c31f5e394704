"""Links on the default bridge (`--link`): another container's address under an alias, in /etc/hosts and in the environment.

On networks of the user's own a link is one more DNS name, see endpoints.py.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from compat_engine.engine.parts import Engine
from compat_engine.engine.records import Link
from compat_engine.engine.registry import Container
from compat_engine.errors import Internal, InvalidParameter, NotFound
from compat_engine.network.model import BRIDGE, HOST, NONE, Reach
from compat_engine.wire.container import HostConfig

_OF_THE_IMAGE = ("HOME", "PATH")  # say nothing about the service


@dataclass(frozen=True, slots=True)
class Linked:
    """A link in force: the container it leads to, which runs, and its addresses on the default bridge."""

    link: Link
    target: Container
    ip: str
    ipv6: str = ""


def parse_link(text: str) -> tuple[str, str]:
    """(container, alias) of "name", "name:alias", or "/name:/holder/alias" as inspect shows it.

    Raises Internal, as dockerd answers 500.
    """
    words = text.split(":")
    if not text:
        raise Internal("empty string specified for links")
    if len(words) > 2:
        raise Internal(f"bad format for links: {text}")
    if len(words) == 1:
        return text, text
    if words[0].startswith("/"):
        return words[0][1:], words[1].rpartition("/")[2]
    return words[0], words[1]


def resolve_links(engine: Engine, host: HostConfig) -> tuple[Link, ...]:
    """HostConfig.Links at create, by the ids of their targets. Of several with one alias the first counts.

    Raises InvalidParameter for a target that is missing or has no address of its own, Internal for a malformed link.
    """
    parsed = [parse_link(text) for text in host.Links or ()]
    if host.NetworkMode not in (BRIDGE, NONE):
        return ()
    found: dict[str, Link] = {}
    for word, alias in parsed:
        target = _owner_of_network(engine, word)
        found.setdefault(alias, Link(alias, target.id, target.name))
    return tuple(found.values())


def link_words(engine: Engine, container: Container) -> list[str] | None:
    """HostConfig.Links as inspect shows it."""
    words = [f"/{_name(engine, link)}:/{container.name}/{link.alias}" for link in container.record.links]
    return words or None


def links_in_force(engine: Engine, container: Container) -> list[Linked]:
    """For a start. Raises Internal when a target does not run, or not on the default bridge."""
    if BRIDGE not in container.record.endpoints:
        return []
    return [_in_force(engine, container, link) for link in container.record.links]


def links_alive(engine: Engine, container: Container) -> list[Linked]:
    """Those of a running container whose targets run."""
    found = []
    for link in container.record.links:
        target = engine.containers.get(link.target)
        endpoint = engine.networks.endpoints(link.target).get(BRIDGE)
        if target and endpoint:
            found.append(Linked(link, target, endpoint.ip, endpoint.ipv6))
    return found


async def open_links(engine: Engine, container: Container) -> None:
    """With --icc=false a link opens what its target exposes: after a start or an end of either side. Raises Internal."""
    for holder in (container, *engine.containers.holders(container)):
        reachable = [
            Reach(linked.ip, protocol, number)
            for linked in links_alive(engine, holder)
            for number, protocol in _exposed(linked.target)
        ]
        await engine.networks.link(holder.id, reachable)


def link_hosts(links: Iterable[Linked]) -> Iterator[tuple[str, str]]:
    """(names, address) of the lines in /etc/hosts."""
    for linked in links:
        names = dict.fromkeys((linked.link.alias, linked.target.record.config.Hostname, linked.target.name))
        yield from ((" ".join(filter(None, names)), address) for address in (linked.ip, linked.ipv6) if address)


def link_variables(holder: str, links: Iterable[Linked]) -> tuple[str, ...]:
    """What the holder finds in its environment. holder: its name."""
    return tuple(variable for linked in links for variable in _variables(holder, linked))


def _owner_of_network(engine: Engine, word: str) -> Container:
    try:
        target = engine.containers.find(word)
        while target.record.host_config.NetworkMode.startswith("container:"):
            target = engine.containers.find(target.record.host_config.NetworkMode.partition(":")[2])
    except NotFound as error:
        raise InvalidParameter(f"could not get container for {word}: {error}") from error
    if target.record.host_config.NetworkMode == HOST:
        raise InvalidParameter(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
        )
    return target


def _name(engine: Engine, link: Link) -> str:
    target = engine.containers.get(link.target)
    return target.name if target else link.name


def _in_force(engine: Engine, container: Container, link: Link) -> Linked:
    target = engine.containers.get(link.target)
    if not target or target.state.status not in ("running", "paused"):
        raise Internal(f"Cannot link to a non running container: /{_name(engine, link)} AS /{container.name}/{link.alias}")
    endpoint = engine.networks.endpoints(target.id).get(BRIDGE)
    if not endpoint:
        raise Internal(f"Cannot link to /{target.name}, as it does not belong to the default network")
    return Linked(link, target, endpoint.ip, endpoint.ipv6)


def _variables(holder: str, linked: Linked) -> Iterator[str]:
    prefix = linked.link.alias.upper().replace("-", "_")
    ports = _exposed(linked.target)
    if ports:
        yield f"{prefix}_PORT={_url(linked, *ports[0])}"
    yield from _runs(prefix, linked, ports)
    for number, protocol in ports:
        port = f"{prefix}_PORT_{number}_{protocol.upper()}"
        yield f"{port}={_url(linked, number, protocol)}"
        yield from (f"{port}_ADDR={linked.ip}", f"{port}_PORT={number}", f"{port}_PROTO={protocol}")
    yield f"{prefix}_NAME=/{holder}/{linked.link.alias}"
    for variable in linked.target.record.config.Env or ():
        name, assigned, _ = variable.partition("=")
        if assigned and name not in _OF_THE_IMAGE:
            yield f"{prefix}_ENV_{variable}"


def _runs(prefix: str, linked: Linked, ports: list[tuple[int, str]]) -> Iterator[str]:
    """Three or more ports in a row also come as one range, named after its first port; its ends keep their own protocols."""
    first = 0
    while first < len(ports):
        last = first
        while last + 1 < len(ports) and ports[last + 1][0] <= ports[first][0] + last + 1 - first:
            last += 1
        if last > first + 1:
            for end, (number, protocol) in (("START", ports[first]), ("END", ports[last])):
                port = f"{prefix}_PORT_{ports[first][0]}_{protocol.upper()}"
                yield from (f"{port}_{end}={_url(linked, number, protocol)}", f"{port}_PORT_{end}={number}")
            first = last
        first += 1


def _url(linked: Linked, number: int, protocol: str) -> str:
    return f"{protocol}://{linked.ip}:{number}"


def _exposed(target: Container) -> list[tuple[int, str]]:
    """In Docker's order: by number, TCP first."""
    found = set()
    for word in target.record.config.ExposedPorts or ():
        numbers, _, protocol = word.partition("/")
        first, _, last = numbers.partition("-")
        found |= {(number, protocol or "tcp") for number in range(int(first), int(last or first) + 1)}
    return sorted(found, key=lambda port: (port[0], port[1] != "tcp", port[1]))
