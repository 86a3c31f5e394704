"""Ping, version, info, disk usage, and the rules every endpoint shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..assertions import CheckFailed, contains, equal, expect, has_keys, is_time, matches, one_of, refused, status
from ..client import Client
from ..engine import Engine
from ..registry import check, each

COMMON_HEADERS = {
    "api-version": r"\d+\.\d+",
    "ostype": "linux",
    "docker-experimental": "true|false",
    "server": r"Docker/\S+ \(linux\)",
}
NOT_A_MANAGER = "This node is not a swarm manager."


def unversioned(engine: Engine) -> Client:
    return Client(engine.client.address)


def has_common_headers(headers: Mapping[str, str]) -> None:
    for name, pattern in COMMON_HEADERS.items():
        matches(pattern, headers.get(name, ""), f"header {name}")


@check("GET /_ping")
def ping(engine: Engine) -> None:
    answer = status(unversioned(engine).get("/_ping"), 200)
    equal(answer.body, b"OK", "body")
    contains(answer.headers["content-type"], "text/plain", "content-type")
    has_common_headers(answer.headers)


@check("GET /_ping")
def ping_is_not_cached(engine: Engine) -> None:
    headers = engine.client.get("/_ping").headers
    contains(headers.get("cache-control", ""), "no-cache", "cache-control")
    contains(headers.get("cache-control", ""), "no-store", "cache-control")
    equal(headers.get("pragma"), "no-cache", "pragma")


@check("GET /_ping")
def ping_tells_builder_and_swarm(engine: Engine) -> None:
    headers = unversioned(engine).get("/_ping").headers
    one_of(headers.get("builder-version"), ("1", "2"), "builder-version")
    one_of(headers.get("swarm"), ("inactive", "pending", "active", "error", "locked"), "swarm")


@check("GET /_ping")
def ping_with_version_prefix(engine: Engine) -> None:
    equal(status(engine.client.get("/_ping"), 200).body, b"OK", "body")


@check("HEAD /_ping", since="1.40")
def ping_head(engine: Engine) -> None:
    answer = status(engine.client.request("HEAD", "/_ping"), 200)
    has_common_headers(answer.headers)
    equal(answer.headers.get("content-length"), "0", "content-length")


@check("HEAD /_ping", since="1.40")
def ping_head_unversioned(engine: Engine) -> None:
    status(unversioned(engine).request("HEAD", "/_ping"), 200)


@check("GET /version")
def version(engine: Engine) -> None:
    answer = status(engine.client.get("/version"), 200).json()
    has_keys(answer, ("Version", "ApiVersion", "MinAPIVersion", "GitCommit", "Os", "Arch", "KernelVersion"), "version")
    matches(r"\d+\.\d+", answer["ApiVersion"], "ApiVersion")
    matches(r"\d+\.\d+", answer["MinAPIVersion"], "MinAPIVersion")
    equal(answer["Os"], "linux", "Os")


@check("GET /version")
def version_agrees_with_ping(engine: Engine) -> None:
    client = unversioned(engine)
    equal(client.get("/version").json()["ApiVersion"], client.get("/_ping").headers["api-version"], "Api-Version")


@check("GET /version", since="1.35")
def version_components(engine: Engine) -> None:
    answer = engine.client.get("/version").json()
    engines = [c for c in answer["Components"] if c["Name"] == "Engine"]
    equal(len(engines), 1, "components named Engine")
    equal(engines[0]["Version"], answer["Version"], "Engine.Version")
    has_keys(engines[0]["Details"], ("ApiVersion", "MinAPIVersion", "Arch", "Os", "KernelVersion"), "Engine.Details")
    has_keys(answer["Platform"], ("Name",), "Platform")


INFO_KEYS = [
    "ID",
    "Containers",
    "ContainersRunning",
    "ContainersPaused",
    "ContainersStopped",
    "Images",
    "Driver",
    "DriverStatus",
    "Plugins",
    "MemoryLimit",
    "SwapLimit",
    "CpuCfsPeriod",
    "CpuCfsQuota",
    "CPUShares",
    "CPUSet",
    "PidsLimit",
    "IPv4Forwarding",
    "Debug",
    "NFd",
    "NGoroutines",
    "SystemTime",
    "LoggingDriver",
    "CgroupDriver",
    "NEventsListener",
    "KernelVersion",
    "OperatingSystem",
    "OSType",
    "Architecture",
    "IndexServerAddress",
    "RegistryConfig",
    "NCPU",
    "MemTotal",
    "DockerRootDir",
    "HttpProxy",
    "HttpsProxy",
    "NoProxy",
    "Name",
    "Labels",
    "ExperimentalBuild",
    "ServerVersion",
    "Runtimes",
    "DefaultRuntime",
    "Swarm",
    "LiveRestoreEnabled",
    "Isolation",
    "InitBinary",
    "ContainerdCommit",
    "RuncCommit",
    "InitCommit",
    "SecurityOptions",
]


@check("GET /info")
def info_fields(engine: Engine) -> None:
    info = status(engine.client.get("/info"), 200).json()
    has_keys(info, INFO_KEYS, "info")
    equal(info["OSType"], "linux", "OSType")
    is_time(info["SystemTime"], "SystemTime")
    expect(info["NCPU"] > 0 and info["MemTotal"] > 0, "NCPU and MemTotal are positive")


@check("GET /info")
def info_plugins(engine: Engine) -> None:
    plugins = engine.client.get("/info").json()["Plugins"]
    contains(plugins["Volume"], "local", "Plugins.Volume")
    for driver in ("bridge", "host", "null"):
        contains(plugins["Network"], driver, "Plugins.Network")


@check("GET /info", since="1.25")
def info_lists_log_drivers(engine: Engine) -> None:
    info = engine.client.get("/info").json()
    contains(info["Plugins"]["Log"], "json-file", "Plugins.Log")
    contains(info["Plugins"]["Log"], info["LoggingDriver"], "Plugins.Log")


@check("GET /info", since="1.25")
def info_tells_seccomp(engine: Engine) -> None:
    contains("\n".join(engine.client.get("/info").json()["SecurityOptions"]), "name=seccomp", "SecurityOptions")


@check("GET /info")
def info_default_runtime_is_one_of_the_runtimes(engine: Engine) -> None:
    info = engine.client.get("/info").json()
    contains(info["Runtimes"], info["DefaultRuntime"], "Runtimes")


@check("GET /info", since="1.40")
def info_cgroup_version(engine: Engine) -> None:
    info = engine.client.get("/info").json()
    one_of(info["CgroupDriver"], ("cgroupfs", "systemd"), "CgroupDriver")
    one_of(info["CgroupVersion"], ("1", "2"), "CgroupVersion")


@check("GET /info")
def info_swarm_state(engine: Engine) -> None:
    one_of(engine.client.get("/info").json()["Swarm"]["LocalNodeState"], ("inactive", "active", "pending"), "LocalNodeState")


@check("GET /info")
def info_counts_a_running_container(engine: Engine) -> None:
    expect(engine.state(engine.shared)["Running"], "the shared container runs")
    info = engine.client.get("/info").json()
    expect(info["ContainersRunning"] >= 1, "at least one container runs")
    expect(info["Containers"] >= info["ContainersRunning"], "Containers counts all of them")
    expect(info["Images"] >= 1, "at least one image is there")


@check("GET /info", since="1.46")
def info_containerd_is_an_object_when_present(engine: Engine) -> None:
    value = engine.client.get("/info").json().get("Containerd")
    expect(value is None or isinstance(value, dict), f"Containerd: expected an object, got {value!r}")


@check("GET /system/df", since="1.25")
def disk_usage(engine: Engine) -> None:
    usage = status(engine.client.get("/system/df"), 200).json()
    has_keys(usage, ("LayersSize", "Images", "Containers", "Volumes"), "usage")
    mine = [row for row in usage["Images"] if row["Id"] == engine.setup.image_id]
    equal(len(mine), 1, "rows of the suite's image")
    expect(mine[0]["Size"] > 500_000, "the image has a size")


@check("GET /system/df", since="1.42")
def disk_usage_of_one_type(engine: Engine) -> None:
    usage = status(engine.client.get("/system/df", {"type": "volume"}), 200).json()
    expect(not usage.get("Images"), "no images with type=volume")


@check("GET /system/df", since="1.42")
def disk_usage_of_an_unknown_type(engine: Engine) -> None:
    refused(engine.client.get("/system/df", {"type": "nonsense"}), 400, "unknown object type: nonsense")


@check("GET /system/df", since="1.25")
def disk_usage_counts_volume_references(engine: Engine) -> None:
    volume = engine.volume()
    engine.create(host={"Binds": [f"{volume['Name']}:/v"]})
    rows = [v for v in engine.client.get("/system/df").json()["Volumes"] if v["Name"] == volume["Name"]]
    equal(rows[0]["UsageData"]["RefCount"], 1, "RefCount")


# rules for all paths


@check("(all paths)")
def unknown_path(engine: Engine) -> None:
    refused(engine.client.get("/no/such/path"), 404, "page not found")


@check("(all paths)")
def unknown_path_unversioned(engine: Engine) -> None:
    refused(unversioned(engine).get("/nothing"), 404, "page not found")


@check("(all paths)")
def wrong_method_is_not_found(engine: Engine) -> None:
    refused(engine.client.request("PUT", "/containers/json"), 404, "page not found")
    refused(engine.client.get("/containers/create"), 404, "page not found")
    refused(engine.client.delete("/version"), 404, "page not found")


@check("(all paths)")
def error_answers_carry_the_common_headers(engine: Engine) -> None:
    has_common_headers(engine.client.get("/containers/no-such-container/json").headers)


@check("(all paths)")
def error_body_has_only_a_message(engine: Engine) -> None:
    equal(set(engine.client.get("/containers/no-such-container/json").json()), {"message"}, "keys of an error")


@check("(all paths)")
def options_method(engine: Engine) -> None:
    status(engine.client.request("OPTIONS", "/containers/json"), 200)


@check("(all paths)")
def version_too_old(engine: Engine) -> None:
    answer = Client(engine.client.address, "1.10").get("/info")
    refused(answer, 400, "client version 1.10 is too old. Minimum supported API version is ")
    contains(answer.message, "please upgrade your client to a newer version", "message")


@check("(all paths)")
def version_too_new(engine: Engine) -> None:
    answer = Client(engine.client.address, "9.99").get("/info")
    refused(answer, 400, "client version 9.99 is too new. Maximum supported API version is ")


@check("(all paths)")
def version_check_comes_before_the_route(engine: Engine) -> None:
    refused(Client(engine.client.address, "9.99").get("/containers/no-such/json"), 400, "is too new")


@check("(all paths)")
def version_that_is_none(engine: Engine) -> None:
    refused(Client(engine.client.address, "abc").get("/info"), 404, "page not found")


@check("(all paths)")
def unversioned_path_is_served(engine: Engine) -> None:
    status(unversioned(engine).get("/containers/json"), 200)


@check("(all paths)")
def api_version_header_is_the_same_everywhere(engine: Engine) -> None:
    one, other = engine.client.get("/containers/json"), unversioned(engine).get("/_ping")
    equal(one.headers["api-version"], other.headers["api-version"], "Api-Version")


@check("(all paths)")
def connection_is_kept_alive(engine: Engine) -> None:
    request = b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n"
    with engine.client.raw(request) as stream:
        for _ in range(3):
            stream.read_head("GET")
            equal(stream.read_all(), b"OK", "body")
            stream.write(request)
            stream.next_answer()


@check("(all paths)")
def connection_close_is_respected(engine: Engine) -> None:
    with engine.client.open("GET", "/_ping", headers={"Connection": "close"}) as stream:
        stream.read_all()
        equal(stream.raw_rest(), b"", "bytes after the body")


@check("(all paths)")
def http_1_0_is_served(engine: Engine) -> None:
    with engine.client.raw(b"GET /_ping HTTP/1.0\r\nHost: d\r\n\r\n") as stream:
        stream.read_head("GET")
        equal(stream.read_all(), b"OK", "body")


@check("(all paths)")
def garbage_is_answered_with_400(engine: Engine) -> None:
    with engine.client.raw(b"NONSENSE\r\n\r\n") as stream:
        stream.read_head("GET")
        equal(stream.status, 400, "status")


@check("(all paths)")
def long_query_is_accepted(engine: Engine) -> None:
    filters = {"label": [f"conformance.{'x' * 1000}.{n}" for n in range(20)]}
    equal(status(engine.client.get("/containers/json", {"filters": filters}), 200).json(), [], "list")


# swarm and plugins of a daemon that has neither


def swarm_is_inactive(path: str) -> Callable[[Engine], None]:
    def body(engine: Engine) -> None:
        if engine.client.get("/info").json()["Swarm"]["LocalNodeState"] == "active":
            return
        refused(engine.client.get(path), 503, NOT_A_MANAGER)

    return body


each("GET /swarm …", "swarm_inactive", [(p, swarm_is_inactive(p)) for p in ("/swarm", "/nodes", "/services", "/tasks")])
each("GET /swarm …", "swarm_inactive", [("/secrets", swarm_is_inactive("/secrets"))], since="1.25")
each("GET /swarm …", "swarm_inactive", [("/configs", swarm_is_inactive("/configs"))], since="1.30")


@check("GET /plugins", since="1.25")
def plugins_is_a_list(engine: Engine) -> None:
    if not isinstance(status(engine.client.get("/plugins"), 200).json(), list):
        raise CheckFailed("the plugins are a JSON array even when there are none")


@check("POST /build/prune", since="1.31")
def build_prune_without_a_cache(engine: Engine) -> None:
    answer = status(engine.client.post("/build/prune", {"filters": {"id": ["no-such-record"]}}), 200).json()
    equal(answer["SpaceReclaimed"], 0, "SpaceReclaimed")
