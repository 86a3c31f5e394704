"""POST /containers/create: what is accepted, what inspect makes of it, and what is refused."""

from __future__ import annotations

from typing import Any

from ..assertions import equal, expect, is_id, refused, status
from ..engine import Engine
from ..registry import Body, check, each

CREATE = "POST /containers/create"
JSON = {"Content-Type": "application/json"}


@check(CREATE)
def answer(engine: Engine) -> None:
    response = status(engine.post_create({"Image": engine.image}), 201)
    body = response.json()
    is_id(body["Id"])
    equal(body["Warnings"], [], "Warnings")
    equal(response.headers["content-type"], "application/json", "content-type")


@check(CREATE)
def name_is_kept(engine: Engine) -> None:
    name = engine.name()
    equal(engine.inspect(engine.create(name=name))["Name"], f"/{name}", "Name")


@check(CREATE)
def name_with_leading_slash(engine: Engine) -> None:
    name = engine.name()
    container = status(engine.post_create({"Image": engine.image}, f"/{name}"), 201).json()["Id"]
    equal(engine.inspect(container)["Name"], f"/{name}", "Name")


@check(CREATE)
def name_is_made_up_when_missing(engine: Engine) -> None:
    container = status(engine.post_create({"Image": engine.image}), 201).json()["Id"]
    expect(len(engine.inspect(container)["Name"]) > 3, "a generated name")


@check(CREATE)
def name_conflict(engine: Engine) -> None:
    name = engine.name()
    container = engine.create(name=name)
    refused(
        engine.post_create({"Image": engine.image}, name),
        409,
        f'Conflict. The container name "/{name}" is already in use by container "{container}". '
        "You have to remove (or rename) that container to be able to reuse that name.",
    )


@check(CREATE)
def name_is_free_after_removal(engine: Engine) -> None:
    name = engine.name()
    status(engine.client.delete(f"/containers/{engine.create(name=name)}"), 204)
    engine.create(name=name)


@check(CREATE)
def body_null_values_mean_absent(engine: Engine) -> None:
    body = {"Image": engine.image, "Cmd": None, "Env": None, "Labels": None, "HostConfig": None, "NetworkingConfig": None}
    container = status(engine.post_create(body), 201).json()["Id"]
    equal(engine.inspect(container)["Config"]["Cmd"], ["sh"], "Cmd from the image")


@check(CREATE)
def body_keys_in_any_case(engine: Engine) -> None:
    container = status(engine.post_create({"image": engine.image, "cmd": ["true"]}), 201).json()["Id"]
    equal(engine.inspect(container)["Config"]["Cmd"], ["true"], "Cmd")


@check(CREATE)
def body_zero_values_of_go_clients(engine: Engine) -> None:
    host = {
        "MemorySwappiness": -1,
        "PidsLimit": 0,
        "Dns": [],
        "DnsOptions": [],
        "Devices": [],
        "ConsoleSize": [0, 0],
        "Memory": 0,
    }
    host |= {
        "NetworkMode": "default",
        "RestartPolicy": {"Name": "", "MaximumRetryCount": 0},
        "LogConfig": {"Type": "", "Config": {}},
    }
    networks = {"EndpointsConfig": {"default": {"IPAMConfig": None, "Links": None, "Aliases": None}}}
    engine.run(host=host, NetworkingConfig=networks)


@check(CREATE)
def body_unknown_fields_are_ignored(engine: Engine) -> None:
    status(engine.post_create({"Image": engine.image, "NoSuchField": {"x": 1}}), 201)


@check(CREATE)
def content_type_with_charset(engine: Engine) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    response = status(
        engine.client.post("/containers/create", body=b'{"Image": "%s"}' % engine.image.encode(), headers=headers), 201
    )
    engine.remove_later(f"/containers/{response.json()['Id']}")


def malformed(body: bytes, message: str, headers: dict[str, str] | None = None) -> Body:
    def run(engine: Engine) -> None:
        refused(engine.client.post("/containers/create", body=body, headers=JSON if headers is None else headers), 400, message)

    return run


each(
    CREATE,
    "malformed",
    [
        ("empty", malformed(b"", "EOF")),
        ("null", malformed(b"null", "config cannot be empty in order to create a container")),
        ("unfinished", malformed(b"{", "unexpected EOF")),
        ("not json", malformed(b"hello", "invalid")),
        ("an array", malformed(b"[]", "cannot unmarshal array")),
        ("two values", malformed(b'{"Image": "x"} {}', "unexpected content after JSON")),
        ("number for a string", malformed(b'{"Image": 5}', "cannot unmarshal number")),
        ("string for a list", malformed(b'{"Image": "x", "ExposedPorts": "80"}', "cannot unmarshal string")),
        ("text/plain", malformed(b"{}", "unsupported Content-Type header (text/plain)", {"Content-Type": "text/plain"})),
        ("no content type", malformed(b"{}", "Content-Type", {})),
    ],
)

HostConfig = dict[str, Any]


def rejects(statuses: int | tuple[int, ...], message: str, host: HostConfig | None = None, **config: Any) -> Body:
    """Creation is refused with this text, and no container stays behind."""

    def run(engine: Engine) -> None:
        name = engine.name()
        body = {"Image": engine.image, "Cmd": ["true"], "HostConfig": host or {}, **config}
        refused(engine.post_create(body, name), statuses, message)
        status(engine.client.get(f"/containers/{name}/json"), 404)

    return run


INVALID_NAME = "only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
MIB = 1 << 20


def mount(**fields: Any) -> HostConfig:
    return {"Mounts": [fields]}


each(
    CREATE,
    "image",
    [
        ("missing", rejects(404, "No such image: conformance-none:latest", Image="conformance-none")),
        ("missing tag", rejects(404, "No such image: conformance-none:7", Image="conformance-none:7")),
        ("missing digest", rejects(404, "No such image: a/b@sha256:" + "0" * 64, Image="a/b@sha256:" + "0" * 64)),
        ("upper case", rejects(400, "must be lowercase", Image="UPPER")),
    ],
)
each(
    CREATE,
    "mode",
    [
        ("pid", rejects(400, "invalid PID mode: bogus", {"PidMode": "bogus"})),
        ("ipc", rejects(400, "invalid IPC mode: bogus", {"IpcMode": "bogus"})),
        ("uts", rejects(400, "invalid UTS mode: bogus", {"UTSMode": "bogus"})),
        ("network of no container", rejects(400, "invalid container format container:<name|id>", {"NetworkMode": "container:"})),
        ("add-host", rejects(400, 'invalid IP address in add-host: "b"', {"ExtraHosts": ["a:b"]})),
        ("runtime", rejects(400, "unknown or invalid runtime name: bogus", {"Runtime": "bogus"})),
        ("isolation", rejects((400, 500), 'Invalid isolation: "hyperv"', {"Isolation": "hyperv"})),
    ],
)
each(
    CREATE,
    "ports",
    [
        ("key", rejects(400, "invalid port specification", {"PortBindings": {"x/tcp": [{"HostPort": "80"}]}})),
        ("host port", rejects(400, "invalid port specification", {"PortBindings": {"80/tcp": [{"HostPort": "x"}]}})),
    ],
)
each(
    CREATE,
    "binds",
    [
        ("relative source", rejects(400, "includes invalid characters for a local volume name", {"Binds": ["a/b:/c"]})),
        ("no target", rejects((400, 500), "invalid volume specification: '/tmp:'", {"Binds": ["/tmp:"]})),
        ("relative target", rejects((400, 500), "mount path must be absolute", {"Binds": ["/tmp:x"]})),
        ("mode", rejects((400, 500), "invalid mode: zz", {"Binds": ["/tmp:/x:zz"]})),
        ("root target", rejects((400, 500), "destination can't be '/'", {"Binds": ["/tmp:/"]})),
        ("same target twice", rejects(400, "Duplicate mount point: /x", {"Binds": ["/tmp:/x", "/etc:/x"]})),
        ("short volume name", rejects(400, "volume name is too short", {"Binds": ["a:/x"]})),
    ],
)
each(
    CREATE,
    "mounts",
    [
        (
            "missing source",
            rejects(400, "bind source path does not exist: /no/such", mount(Type="bind", Source="/no/such", Target="/x")),
        ),
        ("no target", rejects(400, "field Target must not be empty", mount(Type="bind", Source="/tmp"))),
        ("no source", rejects(400, "field Source must not be empty", mount(Type="bind", Target="/x"))),
        ("unknown type", rejects(400, "mount type unknown", mount(Type="bogus", Target="/x"))),
        ("relative source", rejects(400, "mount path must be absolute", mount(Type="bind", Source="tmp", Target="/x"))),
        ("tmpfs with source", rejects(400, "field Source must not be specified", mount(Type="tmpfs", Source="/x", Target="/x"))),
        ("root target", rejects(400, "destination can't be '/'", mount(Type="tmpfs", Target="/"))),
    ],
)
each(
    CREATE,
    "mounts",
    [
        (
            "foreign options",
            rejects(
                400,
                "VolumeOptions must not be specified",
                mount(Type="bind", Source="/tmp", Target="/x", VolumeOptions={"NoCopy": True}),
            ),
        )
    ],
    since="1.42",
)
each(
    CREATE,
    "resources",
    [
        ("memory too small", rejects(400, "Minimum memory limit allowed is 6MB", {"Memory": 1})),
        ("swap below memory", rejects(400, "Minimum memoryswap limit should be larger", {"Memory": 64 * MIB, "MemorySwap": MIB})),
        ("swap without memory", rejects(400, "You should always set the Memory limit", {"MemorySwap": 64 * MIB})),
        (
            "reservation over memory",
            rejects(400, "less than memory reservation", {"Memory": 64 * MIB, "MemoryReservation": 99 * MIB}),
        ),
        ("swappiness", rejects(400, "valid memory swappiness range is 0-100", {"MemorySwappiness": 200})),
        ("too many cpus", rejects(400, "Range of CPUs is from 0.01 to", {"NanoCpus": 10**13})),
        (
            "nano cpus and quota",
            rejects(400, "Nano CPUs and CPU Quota cannot both be set", {"NanoCpus": 10**9, "CpuQuota": 50000}),
        ),
        ("cpuset syntax", rejects(400, "Invalid value x for cpuset cpus", {"CpusetCpus": "x"})),
        ("cpuset unavailable", rejects(400, "Requested CPUs are not available - requested 4000", {"CpusetCpus": "4000"})),
        ("cpu period", rejects(400, "CPU cfs period can not be less than 1ms", {"CpuPeriod": 1})),
        ("cpu quota", rejects(400, "CPU cfs quota can not be less than 1ms", {"CpuQuota": 1})),
        ("oom score", rejects(400, "range for oom score adj is [-1000, 1000]", {"OomScoreAdj": 2000})),
        ("shm size", rejects(400, "SHM size can not be less than 0", {"ShmSize": -1})),
    ],
)
each(
    CREATE,
    "restart",
    [
        ("unknown policy", rejects(400, "unknown policy 'bogus'", {"RestartPolicy": {"Name": "bogus"}})),
        (
            "count with always",
            rejects(
                400,
                "maximum retry count can only be used with 'on-failure'",
                {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 2}},
            ),
        ),
        (
            "negative count",
            rejects(
                400, "maximum retry count cannot be negative", {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}}
            ),
        ),
    ],
)
each(
    CREATE,
    "restart",
    [
        (
            "with auto remove",
            rejects(
                400,
                "can't create 'AutoRemove' container with restart policy",
                {"AutoRemove": True, "RestartPolicy": {"Name": "always"}},
            ),
        ),
    ],
    since="1.25",
)
each(
    CREATE,
    "security",
    [
        ("cap add", rejects(400, 'invalid CapAdd: unknown capability: "CAP_BOGUS"', {"CapAdd": ["BOGUS"]})),
        ("cap drop", rejects(400, 'invalid CapDrop: unknown capability: "CAP_BOGUS"', {"CapDrop": ["BOGUS"]})),
        ("option", rejects((400, 500), 'invalid --security-opt 1: "bogus"', {"SecurityOpt": ["bogus"]})),
        ("option key", rejects((400, 500), 'invalid --security-opt 2: "bogus=1"', {"SecurityOpt": ["bogus=1"]})),
        ("no-new-privileges", rejects((400, 500), "no-new-privileges=x", {"SecurityOpt": ["no-new-privileges=x"]})),
    ],
)
each(
    CREATE,
    "config",
    [
        ("env without name", rejects(400, "invalid environment variable: =x", Env=["=x"])),
        (
            "relative workdir",
            rejects(400, "the working directory 'a' is invalid, it needs to be an absolute path", WorkingDir="a"),
        ),
        ("stop signal", rejects(400, "invalid signal: BOGUS", StopSignal="BOGUS")),
        (
            "health interval",
            rejects(400, "Interval in Healthcheck cannot be less than 1ms", Healthcheck={"Test": ["CMD", "x"], "Interval": 1}),
        ),
        (
            "log option",
            rejects(400, "unknown log opt 'bogus' for json-file", {"LogConfig": {"Type": "json-file", "Config": {"bogus": "1"}}}),
        ),
        ("extra host", rejects(400, 'bad format for add-host: "bogus"', {"ExtraHosts": ["bogus"]})),
        ("volumes from", rejects((400, 404), "No such container: no-such", {"VolumesFrom": ["no-such"]})),
        ("link", rejects(400, "could not get container for no-such", {"Links": ["no-such:x"]})),
    ],
)
each(CREATE, "config", [("mac address", rejects(400, "invalid MAC address", MacAddress="xx"))], until="1.51")
BAD_NAMES = {"space": "a b", "one letter": "a", "leading dash": "-ab", "slash inside": "ab/c"}


def rejects_name(name: str) -> Body:
    def run(engine: Engine) -> None:
        refused(engine.post_create({"Image": engine.image}, name), 400, INVALID_NAME)

    return run


each(CREATE, "name", [(title, rejects_name(name)) for title, name in BAD_NAMES.items()])


@check(CREATE)
def network_of_a_container_with_ports(engine: Engine) -> None:
    other = engine.create()
    host = {"NetworkMode": f"container:{other}", "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}
    response = engine.post_create({"Image": engine.image, "HostConfig": host})
    refused(response, 400, "conflicting options: port publishing and the container type network mode")


@check(CREATE)
def network_of_a_container_with_hostname(engine: Engine) -> None:
    other = engine.create()
    body = {"Image": engine.image, "Hostname": "x", "HostConfig": {"NetworkMode": f"container:{other}"}}
    refused(engine.post_create(body), 400, "conflicting options: hostname and the network mode")


@check(CREATE)
def image_by_id_and_short_id(engine: Engine) -> None:
    full = engine.setup.image_id
    for image in (full, full.removeprefix("sha256:"), full.removeprefix("sha256:")[:12]):
        container = status(engine.post_create({"Image": image}), 201).json()["Id"]
        equal(engine.inspect(container)["Image"], full, "Image")


@check(CREATE)
def missing_bind_source_is_made(engine: Engine) -> None:
    volume = engine.volume()
    inside = f"{volume['Mountpoint']}/made/deep"
    equal(engine.inside("ls -d /x", {"Binds": [f"{inside}:/x"]}), "/x", "the directory is there")
