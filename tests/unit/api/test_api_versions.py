"""Golden pairs: what an old client sends and what the engine sees, what the engine says and what an old client reads."""

import copy
from typing import Any
from urllib.parse import parse_qsl

import pytest
from multidict import MultiDict

from compat_engine.api import versions as v
from compat_engine.errors import InvalidParameter

BIND = {"Type": "bind", "ReadOnly": True, "BindOptions": {"NonRecursive": True, "CreateMountpoint": True}, "TmpfsOptions": {}}
RRO = {"Type": "bind", "ReadOnly": True, "BindOptions": {"ReadOnlyNonRecursive": True}}


@pytest.mark.parametrize(
    ("version", "route", "sent", "seen"),
    [
        ((1, 24), v.EXEC_CREATE, {"Cmd": ["a"], "env": ["A"], "WorkingDir": "/"}, {"Cmd": ["a"]}),
        ((1, 34), v.EXEC_CREATE, {"Env": ["A"], "WorkingDir": "/"}, {"Env": ["A"]}),
        ((1, 41), v.EXEC_START, {"ConsoleSize": [1, 2]}, {}),
        ((1, 42), v.EXEC_START, {"ConsoleSize": [1, 2]}, {"ConsoleSize": [1, 2]}),
        ((1, 39), v.UPDATE, {"PidsLimit": 5, "Memory": 1}, {"Memory": 1}),
        ((1, 39), v.CREATE, {"HostConfig": {"Memory": 1}}, {"HostConfig": {"Memory": 1, "IpcMode": "shareable"}}),
        ((1, 39), v.CREATE, {"hostconfig": {"ipcmode": "host"}}, {"hostconfig": {"ipcmode": "host"}}),
        ((1, 39), v.CREATE, {"HostConfig": {"IpcMode": "private", "Mounts": [BIND]}}, {"HostConfig": {"IpcMode": "private", "Mounts": [RRO]}}),
        ((1, 42), v.CREATE, {"HostConfig": {"Annotations": {"a": "b"}}}, {"HostConfig": {}}),
        ((1, 43), v.CREATE, {"Healthcheck": {"StartInterval": 1, "Retries": 2}}, {"Healthcheck": {"Retries": 2}}),
        ((1, 51), v.CREATE, {"HostConfig": {"Mounts": [BIND]}}, {"HostConfig": {"Mounts": [BIND]}}),
        (
            (1, 51), v.CREATE, {"MacAddress": "m", "HostConfig": {"NetworkMode": "n"}},
            {"HostConfig": {"NetworkMode": "n"}, "NetworkingConfig": {"EndpointsConfig": {"n": {"MacAddress": "m"}}}},
        ),
        ((1, 56), v.CREATE, {"MacAddress": "m"}, {"MacAddress": "m"}),
        ((1, 24), v.CREATE, {"HostConfig": 5, "NetworkingConfig": []}, {"HostConfig": 5, "NetworkingConfig": []}),
        ((1, 24), v.CREATE, {"HostConfig": {"Mounts": [5]}}, {"HostConfig": {"Mounts": [5], "IpcMode": "shareable"}}),
    ],
)  # fmt: skip
def test_requests(version: tuple[int, ...], route: str, sent: dict[str, Any], seen: dict[str, Any]) -> None:
    body = copy.deepcopy(sent)
    v.upgrade_body(route, version, body)
    assert body == seen


@pytest.mark.parametrize(
    ("version", "body", "message"),
    [
        ((1, 43), {"NetworkingConfig": {"EndpointsConfig": {"b": {}, "a": {}}}}, "Container cannot be created with multiple network"),
        ((1, 44), {"HostConfig": {"Mounts": [{"Type": "volume", "VolumeOptions": {"Subpath": "x"}}]}}, "VolumeOptions.Subpath needs"),
        ((1, 47), {"HostConfig": {"Mounts": [{"Type": "image"}]}}, 'Mount type "Image" needs API v1.48 or newer'),
        ((1, 51), {"MacAddress": "m", "HostConfig": {"NetworkMode": "host"}}, "conflicting options: mac-address"),
        (
            (1, 51), {"MacAddress": "m", "NetworkingConfig": {"EndpointsConfig": {"default": {"MacAddress": "o"}}}},
            "the container-wide MAC address must match",
        ),
    ],
)  # fmt: skip
def test_what_old_versions_refused(version: tuple[int, ...], body: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter, match=message.replace(".", r"\.")):
        v.upgrade_body(v.CREATE, version, body)


@pytest.mark.parametrize(
    ("version", "route", "sent", "seen"),
    [
        ((1, 41), v.STOPS[0], "t=1&signal=INT", {"t": "1"}),
        ((1, 42), v.STOPS[0], "t=1&signal=INT", {"t": "1", "signal": "INT"}),
        ((1, 29), v.WAIT, "condition=removed", {}),
        ((1, 34), v.LOGS, "until=1&since=2", {"since": "2"}),
        ((1, 40), v.CREATE, "name=a&platform=b", {"name": "a"}),
        ((1, 40), v.IMAGES, 'filter=a*&filters={"label":["b"]}', {"filters": '{"label":["b"],"reference":["a*"]}'}),
        ((1, 40), v.IMAGES, "filter=a&filters=x", {"filters": "x"}),
        ((1, 41), v.IMAGES, "filter=a", {"filter": "a"}),
        ((1, 41), v.VOLUMES_PRUNE, "", {"filters": '{"all":{"true":true}}'}),
        ((1, 41), v.VOLUMES_PRUNE, 'filters={"label":["a"]}', {"filters": '{"label":["a"],"all":["true"]}'}),
        ((1, 41), v.VOLUMES_PRUNE, "filters=x", {"filters": "x"}),
        ((1, 41), v.ATTACH_WS, "stdin=0", {"stdin": "1", "stdout": "1", "stderr": "1"}),
    ],
)
def test_queries(version: tuple[int, ...], route: str, sent: str, seen: dict[str, str]) -> None:
    query: MultiDict[str] = MultiDict(parse_qsl(sent))
    v.upgrade_query(route, version, query)
    assert dict(query) == seen


INSPECT = {
    "Id": "a" * 64,
    "Config": {"Hostname": "h"},
    "ImageManifestDescriptor": {},
    "NetworkSettings": {
        "Networks": {
            "bridge": {"IPAddress": "172.17.0.2", "IPPrefixLen": 16, "DNSNames": None, "GwPriority": 0},
            "mine": {"Aliases": ["x"], "DNSNames": ["c", "x", "a" * 12]},
        }
    },
}


def test_inspect() -> None:
    newest = v.downgrade(v.INSPECT, (1, 56), INSPECT)
    assert newest == INSPECT
    at_151 = v.downgrade(v.INSPECT, (1, 51), INSPECT)["NetworkSettings"]
    assert (at_151["IPAddress"], at_151["IPPrefixLen"], at_151["Bridge"]) == ("172.17.0.2", 16, "")
    assert at_151["Networks"]["mine"]["DNSNames"]
    old = v.downgrade(v.INSPECT, (1, 44), INSPECT)
    assert "ImageManifestDescriptor" not in old
    assert old["NetworkSettings"]["Networks"]["mine"] == {"Aliases": ["x", "a" * 12, "h"]}
    assert "GwPriority" not in old["NetworkSettings"]["Networks"]["bridge"]


@pytest.mark.parametrize(
    ("version", "route", "said", "read"),
    [
        ((1, 33), v.WAIT, {"StatusCode": 1, "Error": {}}, {"StatusCode": 1}),
        ((1, 34), "GET /version", {"Version": "1", "Components": [], "Platform": {}}, {"Version": "1"}),
        ((1, 50), v.IMAGES, [{"Size": 1, "Containers": 2}], [{"Size": 1, "Containers": -1}]),
        ((1, 43), v.IMAGES, [{"Size": 1, "Descriptor": {}}], [{"Size": 1, "Containers": -1, "VirtualSize": 1}]),
        (
            (1, 42), v.IMAGES, [{"Size": 1, "RepoTags": [], "RepoDigests": []}],
            [{"Size": 1, "VirtualSize": 1, "Containers": -1, "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}],
        ),
        ((1, 47), v.NETWORKS[0], [{"Name": "n", "EnableIPv4": True}], [{"Name": "n"}]),
        (
            (1, 24), v.INFO, {"SecurityOptions": ["name=seccomp,profile=builtin"], "Warnings": ["x"], "Runtimes": {"r": {"status": {}}}},
            {"SecurityOptions": ["seccomp"], "Runtimes": {"r": {}}, "BridgeNfIptables": False, "BridgeNfIp6tables": False},
        ),
        ((1, 48), v.INFO, {"RuncCommit": {"ID": "a"}}, {"RuncCommit": {"ID": "a", "Expected": "a"}, "BridgeNfIptables": False, "BridgeNfIp6tables": False}),
    ],
)  # fmt: skip
def test_answers(version: tuple[int, ...], route: str, said: Any, read: Any) -> None:
    before = copy.deepcopy(said)
    assert v.downgrade(route, version, said) == read
    assert said == before, "the engine's own value was edited"


def test_the_table_is_in_order() -> None:
    assert [change.since for change in v.CHANGES] == sorted(change.since for change in v.CHANGES)


def test_every_route_of_the_table_exists() -> None:
    from compat_engine.api.routes import ROUTES

    assert {route for change in v.CHANGES for route in change.routes} <= {route.name for route in ROUTES}
