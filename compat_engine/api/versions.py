"""THE list of what changed between API versions 1.24 and 1.56, as steps on plain JSON.

Handlers and engine know the newest version only. A request passes, oldest first, the steps of every version above its own; an
answer passes them newest first. A step never trusts the shape of a request: what is malformed is left for the wire model to
refuse. Additions that older clients simply ignore have no step.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
from multidict import MultiDict

from compat_engine.errors import InvalidParameter

Json = dict[str, Any]

CREATE = "POST /containers/create"
LIST = "GET /containers/json"
INSPECT = "GET /containers/{id}/json"
LOGS = "GET /containers/{id}/logs"
WAIT = "POST /containers/{id}/wait"
STOPS = ("POST /containers/{id}/stop", "POST /containers/{id}/restart")
UPDATE = "POST /containers/{id}/update"
ATTACH_WS = "GET /containers/{id}/attach/ws"
EXEC_CREATE = "POST /containers/{id}/exec"
EXEC_START = "POST /exec/{id}/start"
IMAGES = "GET /images/json"
IMAGE = "GET /images/{name}/json"
REMOVE_IMAGE = "DELETE /images/{name}"
PUSH = "POST /images/{name}/push"
BY_PLATFORM = ("GET /images/{name}/history", "GET /images/{name}/get", "GET /images/get", "POST /images/load")
NETWORKS = ("GET /networks", "GET /networks/{id}")
VOLUMES_PRUNE = "POST /volumes/prune"
INFO = "GET /info"
DF = "GET /system/df"


@dataclass(frozen=True, slots=True)
class Change:
    """What a client older than `since` sends and expects on `routes`."""

    since: tuple[int, int]
    routes: tuple[str, ...]
    query: Callable[["MultiDict[str]"], None] | None = None
    request: Callable[[Json], None] | None = None
    response: Callable[[Any], None] | None = None


def upgrade_query(route: str, version: tuple[int, ...], query: "MultiDict[str]") -> None:
    for change in _above(route, version):
        if change.query:
            change.query(query)


def upgrade_body(route: str, version: tuple[int, ...], body: Json) -> None:
    """Edits `body` in place. Raises InvalidParameter for what the old version refused."""
    for change in _above(route, version):
        if change.request:
            change.request(body)


def has_downgrades(route: str, version: tuple[int, ...]) -> bool:
    return any(change.response for change in _above(route, version))


def downgrade(route: str, version: tuple[int, ...], data: Any) -> Any:
    """A copy of `data` as the old version shows it."""
    data = msgspec.json.decode(msgspec.json.encode(data))
    for change in reversed(_above(route, version)):
        if change.response:
            change.response(data)
    return data


@lru_cache(4096)
def _above(route: str, version: tuple[int, ...]) -> tuple[Change, ...]:
    return tuple(change for change in CHANGES if change.since > version and route in change.routes)


# Reading JSON whose keys may be in any case and whose values may be anything.


def _key(data: Json, name: str) -> str:
    return name if name in data else next((key for key in data if key.lower() == name.lower()), name)


def _object(data: Json, name: str) -> Json:
    """The object called `name`; an empty one, not part of `data`, when it is something else or absent."""
    value = data.get(_key(data, name))
    return value if isinstance(value, dict) else {}


def _objects(data: Json, name: str) -> Iterator[Json]:
    value = data.get(_key(data, name))
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _drop(data: Json, *names: str) -> None:
    for name in names:
        data.pop(_key(data, name), None)


def _without(*names: str) -> Callable[[Any], None]:
    """A step that drops top-level fields, of each element when the answer is a list."""

    def step(data: Any) -> None:
        for item in data if isinstance(data, list) else (data,):
            _drop(item, *names)

    return step


def _without_query(*names: str) -> Callable[["MultiDict[str]"], None]:
    def step(query: "MultiDict[str]") -> None:
        for name in names:
            query.popall(name, None)

    return step


def _named_images(query: "MultiDict[str]") -> None:
    """`filter` was a pattern of names before it was one of the filters."""
    word = query.pop("filter", "")
    with suppress(msgspec.DecodeError):  # filters that cannot be read are refused later
        filters = msgspec.json.decode(query.get("filters") or "{}")
        if word and isinstance(filters, dict):
            query["filters"] = msgspec.json.encode({**filters, "reference": [word]}).decode()


# Requests


def _shareable_ipc(body: Json) -> None:
    if body.get(_key(body, "HostConfig")) is None:
        body[_key(body, "HostConfig")] = {}
    host = _object(body, "HostConfig")
    if not host.get(_key(host, "IpcMode")):
        host[_key(host, "IpcMode")] = "shareable"
    for mount in _objects(host, "Mounts"):
        _drop(_object(mount, "BindOptions"), "NonRecursive")


def _lenient_mounts(body: Json) -> None:
    """Options of another type were not looked at, missing bind sources an error."""
    own = {"bind": "BindOptions", "volume": "VolumeOptions", "tmpfs": "TmpfsOptions"}
    host = _object(body, "HostConfig")
    _drop(host, "ConsoleSize")
    for mount in _objects(host, "Mounts"):
        _drop(_object(mount, "BindOptions"), "CreateMountpoint")
        keep = own.get(str(mount.get(_key(mount, "Type"))))
        _drop(mount, *(name for name in own.values() if name != keep))


def _no_annotations(body: Json) -> None:
    _drop(_object(body, "HostConfig"), "Annotations")


def _one_endpoint(body: Json) -> None:
    """Read-only binds were not recursive, and create took one network."""
    _drop(_object(body, "Healthcheck"), "StartInterval")
    endpoints = _object(_object(body, "NetworkingConfig"), "EndpointsConfig")
    if len(endpoints) > 1:
        raise InvalidParameter(f"Container cannot be created with multiple network endpoints: {', '.join(sorted(endpoints))}")
    for mount in _objects(_object(body, "HostConfig"), "Mounts"):
        if mount.get(_key(mount, "Type")) == "bind" and mount.get(_key(mount, "ReadOnly")) is True:
            options = _object(mount, "BindOptions")
            if not options.get(_key(options, "ReadOnlyForceRecursive")):
                mount[_key(mount, "BindOptions")] = {**options, "ReadOnlyNonRecursive": True}


def _no_subpath(body: Json) -> None:
    for mount in _objects(_object(body, "HostConfig"), "Mounts"):
        options = _object(mount, "VolumeOptions")
        if options.get(_key(options, "Subpath")):
            raise InvalidParameter("VolumeOptions.Subpath needs API v1.45 or newer")


def _no_image_mounts(body: Json) -> None:
    for mount in _objects(_object(body, "HostConfig"), "Mounts"):
        if mount.get(_key(mount, "Type")) == "image":
            raise InvalidParameter('Mount type "Image" needs API v1.48 or newer')


def _mac_of_the_endpoint(body: Json) -> None:
    """Config.MacAddress was the address on the network of NetworkMode."""
    address = body.pop(_key(body, "MacAddress"), None)
    if address is not None and not isinstance(address, str):
        body["MacAddress"] = address  # to be refused with the other fields
    if not address or not isinstance(address, str):
        return
    mode = _object(body, "HostConfig").get(_key(_object(body, "HostConfig"), "NetworkMode")) or "default"
    if not isinstance(mode, str) or mode in ("host", "none") or mode.startswith("container:"):
        raise InvalidParameter("conflicting options: mac-address and the network mode")
    networking = _made(body, "NetworkingConfig")
    endpoint = _made(_made(networking, "EndpointsConfig"), mode)
    if endpoint.setdefault(_key(endpoint, "MacAddress"), address) not in ("", address):
        raise InvalidParameter(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty"
        )
    endpoint[_key(endpoint, "MacAddress")] = address


def _made(data: Json, name: str) -> Json:
    """The object called `name`, put there when it is missing."""
    key = _key(data, name)
    if data.get(key) is None:
        data[key] = {}
    return data[key] if isinstance(data[key], dict) else {}


def _every_stream(query: "MultiDict[str]") -> None:
    for name in ("stdin", "stdout", "stderr"):
        query[name] = "1"


def _all_volumes(query: "MultiDict[str]") -> None:
    """Prune took named volumes too."""
    try:
        filters = msgspec.json.decode(query.get("filters") or "{}")
    except msgspec.DecodeError:
        return
    if isinstance(filters, dict) and "all" not in filters:
        old_form = any(isinstance(value, list) for value in filters.values())
        query["filters"] = msgspec.json.encode({**filters, "all": ["true"] if old_form else {"true": True}}).decode()


# Answers


def _words_of_security(info: Json) -> None:
    """name=seccomp,profile=builtin was seccomp."""
    options = info.get("SecurityOptions") or []
    info["SecurityOptions"] = [option.removeprefix("name=").partition(",")[0] for option in options]


def _names_in_aliases(container: Json) -> None:
    short, hostname = container.get("Id", "")[:12], _object(container, "Config").get("Hostname", "")
    for name, endpoint in _object(_object(container, "NetworkSettings"), "Networks").items():
        endpoint.pop("DNSNames", None)
        if name not in ("bridge", "host", "none", "default"):
            aliases = [*(endpoint.get("Aliases") or ()), short, hostname]
            endpoint["Aliases"] = list(dict.fromkeys(alias for alias in aliases if alias))


def _old_network_settings(container: Json) -> None:
    """The default bridge's endpoint stood beside the list of networks as well."""
    settings = container.setdefault("NetworkSettings", {})
    endpoint = _object(_object(settings, "Networks"), "bridge")
    for name in ("EndpointID", "Gateway", "GlobalIPv6Address", "IPAddress", "IPv6Gateway", "MacAddress"):
        settings.setdefault(name, endpoint.get(name, ""))
    for name in ("GlobalIPv6PrefixLen", "IPPrefixLen"):
        settings.setdefault(name, endpoint.get(name, 0))
    empty = {"Bridge": "", "HairpinMode": False, "LinkLocalIPv6Address": "", "LinkLocalIPv6PrefixLen": 0}
    for name, value in {**empty, "SecondaryIPAddresses": None, "SecondaryIPv6Addresses": None}.items():
        settings.setdefault(name, value)


def _no_endpoint_priority(container: Json) -> None:
    container.pop("ImageManifestDescriptor", None)
    for endpoint in _object(_object(container, "NetworkSettings"), "Networks").values():
        endpoint.pop("GwPriority", None)


def _no_list_annotations(containers: list[Json]) -> None:
    for container in containers:
        _drop(_object(container, "HostConfig"), "Annotations")


def _virtual_size(images: Any) -> None:
    for image in images if isinstance(images, list) else (images,):
        image.setdefault("VirtualSize", image.get("Size", 0))


def _virtual_size_and_created(image: Json) -> None:
    _virtual_size(image)
    image.setdefault("Created", "0001-01-01T00:00:00Z")


def _virtual_size_in_df(usage: Json) -> None:
    _virtual_size(usage.get("Images") or [])


def _none_tags(images: list[Json]) -> None:
    for image in images:
        if not image.get("RepoTags") and not image.get("RepoDigests"):
            image["RepoTags"], image["RepoDigests"] = ["<none>:<none>"], ["<none>@<none>"]


def _uncounted(images: list[Json]) -> None:
    for image in images:
        image["Containers"] = -1


def _container_of_image(image: Json) -> None:
    image.setdefault("Container", "")
    image.setdefault("ContainerConfig", None)


def _whole_image_config(image: Json) -> None:
    config = image.get("Config")
    if isinstance(config, dict):
        empty = {"Hostname": "", "Domainname": "", "AttachStdin": False, "AttachStdout": False, "AttachStderr": False}
        image["Config"] = {**empty, "Tty": False, "OpenStdin": False, "StdinOnce": False, "Image": "", **config}


def _nothing_omitted(image: Json) -> None:
    for name in ("Parent", "Comment", "DockerVersion", "Author"):
        image.setdefault(name, "")
    config = image.get("Config")
    if isinstance(config, dict):
        for name, value in (("User", ""), ("WorkingDir", ""), *((name, None) for name in _LISTS)):
            config.setdefault(name, value)


_LISTS = ("Env", "Cmd", "Volumes", "Entrypoint", "OnBuild", "Labels")


def _expected_commits(info: Json) -> None:
    info.pop("FirewallBackend", None)
    for name in ("ContainerdCommit", "RuncCommit", "InitCommit"):
        if isinstance(info.get(name), dict):
            info[name].setdefault("Expected", info[name].get("ID", ""))


def _bridge_netfilter(info: Json) -> None:
    info.pop("DiscoveredDevices", None)
    info.setdefault("BridgeNfIptables", False)
    info.setdefault("BridgeNfIp6tables", False)


def _no_runtime_status(info: Json) -> None:
    for runtime in _object(info, "Runtimes").values():
        _drop(runtime, "status")


CHANGES: tuple[Change, ...] = (
    Change((1, 25), (EXEC_CREATE,), request=_without("Env")),
    Change((1, 25), (INFO,), response=_words_of_security),
    Change((1, 30), (WAIT,), query=_without_query("condition")),
    Change((1, 34), (WAIT,), response=_without("Error")),
    Change((1, 35), (LOGS,), query=_without_query("until")),
    Change((1, 35), (EXEC_CREATE,), request=_without("WorkingDir")),
    Change((1, 35), ("GET /version",), response=_without("Components", "Platform")),
    Change((1, 39), (INFO,), response=_without("Warnings")),
    Change((1, 40), (CREATE,), request=_shareable_ipc),
    Change((1, 40), (UPDATE,), request=_without("PidsLimit")),
    Change((1, 41), (CREATE,), query=_without_query("platform")),
    Change((1, 41), (IMAGES,), query=_named_images),
    Change((1, 42), (CREATE,), request=_lenient_mounts),
    Change((1, 42), STOPS, query=_without_query("signal")),
    Change((1, 42), (EXEC_CREATE, EXEC_START), request=_without("ConsoleSize")),
    Change((1, 42), (ATTACH_WS,), query=_every_stream),
    Change((1, 42), (VOLUMES_PRUNE,), query=_all_volumes),
    Change((1, 42), (IMAGES,), query=_without_query("shared-size")),
    Change((1, 42), (DF,), query=_without_query("type")),
    Change((1, 43), (CREATE,), request=_no_annotations),
    Change((1, 43), (IMAGES,), response=_none_tags),
    Change((1, 44), (CREATE,), request=_one_endpoint),
    Change((1, 44), (IMAGES,), response=_virtual_size),
    Change((1, 44), (IMAGE,), response=_virtual_size_and_created),
    Change((1, 44), (DF,), response=_virtual_size_in_df),
    Change((1, 44), (INFO,), response=_no_runtime_status),
    Change((1, 45), (CREATE,), request=_no_subpath),
    Change((1, 45), (INSPECT,), response=_names_in_aliases),
    Change((1, 45), (IMAGE,), response=_container_of_image),
    Change((1, 46), (LIST,), response=_no_list_annotations),
    Change((1, 46), (INFO,), response=_without("Containerd")),
    Change((1, 46), (PUSH,), query=_without_query("platform")),
    Change((1, 47), (IMAGES,), query=_without_query("manifests"), response=_without("Manifests")),
    Change((1, 48), (CREATE,), request=_no_image_mounts),
    Change((1, 48), (INSPECT,), response=_no_endpoint_priority),
    Change((1, 48), BY_PLATFORM, query=_without_query("platform")),
    Change((1, 48), (LIST,), response=_without("ImageManifestDescriptor")),
    Change((1, 48), (IMAGES,), response=_without("Descriptor")),
    Change((1, 48), (IMAGE,), query=_without_query("manifests"), response=_without("Descriptor", "Manifests")),
    Change((1, 48), NETWORKS, response=_without("EnableIPv4")),
    Change((1, 49), (IMAGE,), query=_without_query("platform")),
    Change((1, 49), (INFO,), response=_expected_commits),
    Change((1, 50), (INFO,), response=_bridge_netfilter),
    Change((1, 50), (IMAGE,), response=_whole_image_config),
    Change((1, 50), (REMOVE_IMAGE,), query=_without_query("platforms")),
    Change((1, 51), (IMAGES,), response=_uncounted),
    Change((1, 52), (CREATE,), request=_mac_of_the_endpoint),
    Change((1, 52), (INSPECT,), response=_old_network_settings),
    Change((1, 52), (IMAGE,), response=_nothing_omitted),
)
