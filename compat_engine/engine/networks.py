"""Network use cases: what /networks answers, the events, and what a container's inspect says of its networks."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compat_engine.engine.endpoints import dns_names
from compat_engine.engine.filters import Filters, any_match, check_filters, labels_match, prunable_labels, until
from compat_engine.engine.humantime import seconds_of
from compat_engine.engine.parts import Engine
from compat_engine.engine.records import ZERO_TIME
from compat_engine.engine.registry import Container
from compat_engine.errors import EngineError, Forbidden, InvalidParameter, NotFound
from compat_engine.network.model import PREDEFINED, Binding, Endpoint, Network, Pool
from compat_engine.wire.network import EndpointSettings, IPAMSettings, NetworkCreate

_LIST_FILTERS = frozenset(("dangling", "driver", "id", "label", "name", "scope", "type"))
_PRUNE_FILTERS = frozenset(("label", "label!", "until"))


async def create(engine: Engine, request: NetworkCreate) -> dict[str, Any]:
    """POST /networks/create. Raises InvalidParameter, Conflict (name), Forbidden, NotFound (driver), NotImplementedHere."""
    network = await engine.networks.create(_draft(engine, request))
    engine.events.publish("network", "create", network.id, event_attributes(network))
    return {"Id": network.id, "Warning": ""}


def inspect(engine: Engine, word: str, scope: str = "") -> dict[str, Any]:
    """GET /networks/{id}. Raises NotFound, InvalidParameter when ambiguous."""
    network = engine.networks.find(word)
    if scope and scope != network.scope:
        raise NotFound(f"network {word} not found")
    return view(engine, network, members=True)


def list_networks(engine: Engine, filters: Filters, members: bool = False) -> list[dict[str, Any]]:
    """GET /networks. Raises InvalidParameter for a filter that is not known."""
    check_filters(filters, _LIST_FILTERS)
    _check_types(filters.get("type", ()))
    dangling = _dangling(filters)
    return [
        view(engine, network, members)
        for network in engine.networks.list()
        if any_match(filters.get("name", ()), [network.name])
        and any_match(filters.get("id", ()), [network.id])
        and (not filters.get("driver") or network.driver in filters["driver"])
        and (not filters.get("scope") or network.scope in filters["scope"])
        and (not filters.get("type") or ("builtin" if network.predefined else "custom") in filters["type"])
        and labels_match(filters, network.labels)
        and (dangling is None or dangling == _unused(engine, network))
    ]


async def remove(engine: Engine, word: str) -> None:
    """DELETE /networks/{id}. Raises NotFound, Forbidden when it is predefined or in use."""
    network = engine.networks.find(word)
    await engine.networks.remove(network)
    engine.events.publish("network", "destroy", network.id, event_attributes(network))


async def prune(engine: Engine, filters: Filters) -> dict[str, Any]:
    """POST /networks/prune: every network of the user's own in which nothing runs."""
    check_filters(filters, _PRUNE_FILTERS)
    before = until(filters)
    deleted = []
    for network in engine.networks.list():
        young = before is not None and seconds_of(network.created) > before
        if young or not _unused(engine, network) or not prunable_labels(filters, network.labels):
            continue
        try:
            await remove(engine, network.id)
        except EngineError:
            continue  # taken, or removed, by somebody else meanwhile
        deleted.append(network.name)
    engine.events.publish("network", "prune", "", {"reclaimed": "0"})
    return {"NetworksDeleted": deleted or None}


def event_attributes(network: Network) -> dict[str, str]:
    return {"name": network.name, "type": network.driver}


def view(engine: Engine, network: Network, members: bool) -> dict[str, Any]:
    """The document of one network, in dockerd's order. members: with the running containers in it, which a list leaves out."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": network.created,
        "Scope": network.scope,
        "Driver": network.driver,
        "EnableIPv4": network.enable_ipv4 and (not network.predefined or bool(network.subnet)),
        "EnableIPv6": network.enable_ipv6,
        "IPAM": {
            "Driver": network.ipam_driver,
            "Options": network.ipam_options,
            "Config": [_pool_view(pool) for pool in network.pools] or None,
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": network.config_from},
        "ConfigOnly": network.config_only,
        "Containers": _members(engine, network) if members else {},
        "Options": dict(sorted(network.options.items())),
        "Labels": dict(sorted(network.labels.items())),
    }


def network_settings(engine: Engine, container: Container) -> dict[str, Any]:
    """NetworkSettings of a container's inspect, as of API 1.52: addresses and ports while it runs, what it asked for always."""
    live = engine.networks.endpoints(container.id)
    started = _tried(container) and not container.record.host_config.NetworkMode.startswith("container:")
    return {
        "SandboxID": hashlib.sha256(container.id.encode()).hexdigest() if started else "",
        "SandboxKey": f"/proc/{container.state.pid}/ns/net" if started and container.state.pid else "",
        "Ports": _ports(container, live),
        "Networks": {
            _name(engine, word): _endpoint_view(engine, container, _name(engine, word), asked, live)
            for word, asked in container.record.endpoints.items()
        },
    }


def ports_summary(engine: Engine, container: Container) -> list[dict[str, Any]]:
    """Ports of one element of the container list: published ones, and exposed ones without the rest."""
    found: list[dict[str, Any]] = []
    for word, bindings in sorted(_ports(container, engine.networks.endpoints(container.id)).items()):
        number, _, proto = word.partition("/")
        private = {"PrivatePort": int(number), "Type": proto}
        found += [{"IP": item["HostIp"], **_public(item["HostPort"]), **private} for item in bindings or ()]
        found += [] if bindings else [private]
    return found


def _public(host_port: str) -> dict[str, int]:
    return {"PublicPort": int(host_port)} if host_port else {}


# --- from the request


def _draft(engine: Engine, request: NetworkCreate) -> Network:
    if request.Scope not in ("", "local"):
        raise Forbidden(f"cannot create a {request.Scope} scoped network when swarm is not active")
    if request.Ingress:
        raise Forbidden("Ingress network can only be global scope network")
    if request.EnableIPv4 is False and not request.EnableIPv6:
        raise InvalidParameter("IPv4 or IPv6 must be enabled")
    ipam = request.IPAM or IPAMSettings()
    draft = Network(
        id="",
        name=request.Name,
        driver="null" if request.ConfigOnly else request.Driver or "bridge",
        created="",
        pools=tuple(
            Pool(pool.Subnet, pool.IPRange, pool.Gateway, dict(pool.AuxiliaryAddresses or {})) for pool in ipam.Config or ()
        ),
        ipam_driver=ipam.Driver or "default",
        ipam_options=ipam.Options,
        enable_ipv4=request.EnableIPv4 is not False,
        enable_ipv6=bool(request.EnableIPv6),
        internal=request.Internal,
        attachable=request.Attachable,
        config_only=request.ConfigOnly,
        options=dict(request.Options or {}),
        labels=dict(request.Labels or {}),
    )
    source = request.ConfigFrom.Network if request.ConfigFrom else ""
    return _configured(engine, draft, source) if source else draft


def _configured(engine: Engine, draft: Network, source: str) -> Network:
    """--config-from: what a configuration network holds, under another name and driver."""
    found = next((network for network in engine.networks.list() if source in (network.name, network.id)), None)
    if not found:
        raise NotFound(f'configuration network "{source}" does not exist')
    if not found.config_only:
        raise Forbidden(f'network "{source}" is not a configuration network')
    if draft.pools or draft.options:
        raise Forbidden("user specified configurations are not supported if the network depends on a configuration network")
    return replace(
        draft,
        pools=found.pools,
        ipam_driver=found.ipam_driver,
        ipam_options=found.ipam_options,
        options=found.options,
        labels={**found.labels, **draft.labels},
        config_from=found.name,
    )


def _check_types(words: Any) -> None:
    for word in words:
        if word not in ("builtin", "custom"):
            raise InvalidParameter(f"invalid filter: 'type'='{word}'")


def _dangling(filters: Filters) -> bool | None:
    words = filters.get("dangling", ())
    if len(words) > 1:
        raise InvalidParameter('got more than one value for filter key "dangling"')
    if not words:
        return None
    if words[0] not in ("true", "1", "false", "0"):
        raise InvalidParameter('invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")')
    return words[0] in ("true", "1")


def _unused(engine: Engine, network: Network) -> bool:
    return not network.predefined and not network.config_only and not engine.networks.members(network.id)


# --- into the answer


def _pool_view(pool: Pool) -> dict[str, Any]:
    words = {"Subnet": pool.subnet, "IPRange": pool.ip_range, "Gateway": pool.gateway, "AuxiliaryAddresses": pool.auxiliary}
    return {name: value for name, value in words.items() if value}


def _members(engine: Engine, network: Network) -> dict[str, Any]:
    return {
        endpoint.container: {
            "Name": container.name if (container := engine.containers.get(endpoint.container)) else endpoint.container_name,
            "EndpointID": endpoint.id,
            "MacAddress": endpoint.mac,
            "IPv4Address": f"{endpoint.ip}/{endpoint.prefix_len}" if endpoint.ip else "",
            "IPv6Address": f"{endpoint.ipv6}/{endpoint.ipv6_prefix_len}" if endpoint.ipv6 else "",
        }
        for endpoint in engine.networks.members(network.id)
    }


def _endpoint_view(
    engine: Engine, container: Container, name: str, asked: EndpointSettings, live: Mapping[str, Endpoint]
) -> dict[str, Any]:
    endpoint = live.get(name)
    named = endpoint or _last_network(engine, container, name)
    return {
        "IPAMConfig": asked.IPAMConfig.dump() if asked.IPAMConfig else None,
        "Links": asked.Links,
        "Aliases": asked.Aliases,
        "MacAddress": endpoint.mac if endpoint else asked.MacAddress,
        "DriverOpts": asked.DriverOpts,
        "GwPriority": asked.GwPriority,
        "NetworkID": endpoint.network_id if endpoint else _last_network(engine, container, name),
        "EndpointID": endpoint.id if endpoint else "",
        "Gateway": _shown(endpoint.gateway) if endpoint else "",
        "IPAddress": endpoint.ip if endpoint else "",
        "IPPrefixLen": endpoint.prefix_len if endpoint else 0,
        "IPv6Gateway": _shown(endpoint.ipv6_gateway) if endpoint else "",
        "GlobalIPv6Address": endpoint.ipv6 if endpoint else "",
        "GlobalIPv6PrefixLen": endpoint.ipv6_prefix_len if endpoint else 0,
        "DNSNames": dns_names(container, asked) if named and name not in PREDEFINED else None,
    }


def _shown(gateway: str) -> str:
    return "" if gateway in ("0.0.0.0", "::") else gateway


def _name(engine: Engine, word: str) -> str:
    """A network's name, where a container was created with its id; the word itself once the network is gone."""
    try:
        return engine.networks.find(word).name
    except EngineError:
        return word


def _last_network(engine: Engine, container: Container, name: str) -> str:
    """After an exit the network's id stays in view; before the first start it is not there yet."""
    if not _tried(container):
        return ""
    return next((network.id for network in engine.networks.list() if network.name == name), "")


def _tried(container: Container) -> bool:
    return container.state.started_at != ZERO_TIME or bool(container.state.error)


def _ports(container: Container, live: Mapping[str, Endpoint]) -> dict[str, list[dict[str, str]] | None]:
    """ "80/tcp" -> its bindings; None for a port that is exposed and not published. Empty unless it runs behind a bridge."""
    behind = (endpoint for endpoint in live.values() if endpoint.host_interface)
    if not container.state.running or not any(endpoint.gateway or endpoint.ipv6_gateway for endpoint in behind):
        return {}
    found: dict[str, list[dict[str, str]] | None] = dict.fromkeys(container.record.config.ExposedPorts or ())
    for endpoint in live.values():
        for binding in endpoint.ports:
            key = f"{binding.container_port}/{binding.proto}"
            found[key] = [*(found.get(key) or ()), _binding_view(binding)]
    return found


def _binding_view(binding: Binding) -> dict[str, str]:
    return {"HostIp": binding.host_ip, "HostPort": str(binding.host_port or "")}
