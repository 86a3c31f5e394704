"""GET /containers/{id}/json: what inspect tells of a container."""

from __future__ import annotations

from typing import Any

from ..assertions import (
    ZERO_TIME,
    contains,
    equal,
    expect,
    has_fields,
    is_id,
    is_time,
    one_of,
    refused,
    status,
)
from ..engine import Engine
from ..registry import check

INSPECT = "GET /containers/{id}/json"
MIB = 1 << 20


# inspect


@check(INSPECT)
def created_state(engine: Engine) -> None:
    state = engine.state(engine.create())
    has_fields(
        state,
        {
            "Status": "created",
            "Running": False,
            "Paused": False,
            "Restarting": False,
            "OOMKilled": False,
            "Dead": False,
            "Pid": 0,
            "ExitCode": 0,
            "Error": "",
            "StartedAt": ZERO_TIME,
            "FinishedAt": ZERO_TIME,
        },
        "State",
    )


@check(INSPECT)
def top_level_fields(engine: Engine) -> None:
    container = engine.create("sleep", "7")
    seen = engine.inspect(container)
    has_fields(
        seen,
        {"Id": container, "Path": "sleep", "Args": ["7"], "Image": engine.setup.image_id, "RestartCount": 0, "Platform": "linux"},
    )
    is_time(seen["Created"], "Created")
    has_fields(seen, {"MountLabel": "", "ProcessLabel": "", "ExecIDs": None, "Mounts": []})


@check(INSPECT)
def config_defaults(engine: Engine) -> None:
    container = status(engine.post_create({"Image": engine.image}), 201).json()["Id"]
    config = engine.inspect(container)["Config"]
    has_fields(
        config,
        {"Hostname": container[:12], "Domainname": "", "User": "", "Tty": False, "OpenStdin": False, "StdinOnce": False},
        "Config",
    )
    has_fields(
        config,
        {"AttachStdin": False, "AttachStdout": False, "AttachStderr": False, "Cmd": ["sh"], "Image": engine.image},
        "Config",
    )
    has_fields(config, {"Volumes": None, "WorkingDir": "", "Entrypoint": None, "Labels": {}}, "Config")


@check(INSPECT)
def host_config_defaults(engine: Engine) -> None:
    host = engine.inspect(status(engine.post_create({"Image": engine.image}), 201).json()["Id"])["HostConfig"]
    has_fields(
        host,
        {"Binds": None, "AutoRemove": False, "Privileged": False, "ReadonlyRootfs": False, "PublishAllPorts": False},
        "HostConfig",
    )
    has_fields(
        host,
        {"RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "ShmSize": 64 * MIB, "Memory": 0, "NanoCpus": 0},
        "HostConfig",
    )
    has_fields(
        host, {"PidMode": "", "UTSMode": "", "UsernsMode": "", "OomScoreAdj": 0, "CapAdd": None, "CapDrop": None}, "HostConfig"
    )
    one_of(host["NetworkMode"], ("default", "bridge"), "NetworkMode")
    equal(host["LogConfig"], {"Type": "json-file", "Config": {}}, "LogConfig")


@check(INSPECT)
def default_masked_and_readonly_paths(engine: Engine) -> None:
    host = engine.inspect(engine.create())["HostConfig"]
    for path in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"):
        contains(host["MaskedPaths"], path, "MaskedPaths")
    equal(
        sorted(host["ReadonlyPaths"]), ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"], "ReadonlyPaths"
    )


@check(INSPECT)
def ipc_mode_default(engine: Engine) -> None:
    one_of(engine.inspect(engine.create())["HostConfig"]["IpcMode"], ("private", "shareable"), "IpcMode")


@check(INSPECT)
def what_was_asked_for_is_echoed(engine: Engine) -> None:
    host = {"Memory": 64 * MIB, "CpuShares": 512, "CapAdd": ["NET_ADMIN"], "Dns": ["192.0.2.1"], "ExtraHosts": ["a:192.0.2.2"]}
    config: dict[str, Any] = {
        "Env": ["A=1"],
        "User": "worker",
        "WorkingDir": "/tmp",
        "Labels": {"a": "b"},
        "Hostname": "h",
        "StopSignal": "SIGUSR1",
    }
    seen = engine.inspect(engine.create("true", host=host, **config))
    has_fields(seen["HostConfig"], {k: v for k, v in host.items() if k != "CapAdd"}, "HostConfig")
    one_of(seen["HostConfig"]["CapAdd"], (["NET_ADMIN"], ["CAP_NET_ADMIN"]), "CapAdd")
    has_fields(seen["Config"], {k: v for k, v in config.items() if k != "Env"}, "Config")
    contains(seen["Config"]["Env"], "A=1", "Env")
    equal(seen["HostConfig"]["MemorySwap"], 128 * MIB, "MemorySwap is twice the memory")


@check(INSPECT)
def env_of_image_and_container_are_merged(engine: Engine) -> None:
    env = engine.inspect(engine.create("true", Env=["A=1", "PATH=/bin"]))["Config"]["Env"]
    equal(sorted(env), ["A=1", "PATH=/bin"], "Env")


@check(INSPECT)
def entrypoint_drops_the_image_command(engine: Engine) -> None:
    seen = engine.inspect(status(engine.post_create({"Image": engine.image, "Entrypoint": ["echo"]}), 201).json()["Id"])
    equal((seen["Path"], seen["Args"]), ("echo", []), "Path and Args")


@check(INSPECT)
def entrypoint_and_command(engine: Engine) -> None:
    seen = engine.inspect(engine.create("a", "b", Entrypoint=["echo", "x"]))
    equal((seen["Path"], seen["Args"]), ("echo", ["x", "a", "b"]), "Path and Args")


@check(INSPECT)
def command_as_a_string(engine: Engine) -> None:
    body = {"Image": engine.image, "Cmd": "true", "Entrypoint": ""}
    seen = engine.inspect(status(engine.post_create(body), 201).json()["Id"])
    equal(seen["Path"], "true", "Path")


@check(INSPECT)
def name_id_and_prefix_find_it(engine: Engine) -> None:
    name = engine.name()
    container = engine.create(name=name)
    for word in (name, container, container[:12], container[:20]):
        equal(engine.inspect(word)["Id"], container, f"Id by {word}")


@check(INSPECT)
def inspect_missing(engine: Engine) -> None:
    refused(engine.client.get("/containers/no-such/json"), 404, "No such container: no-such")


@check(INSPECT)
def inspect_name_is_not_matched_by_prefix(engine: Engine) -> None:
    name = engine.name()
    engine.create(name=name + "-long")
    status(engine.client.get(f"/containers/{name}/json"), 404)


@check(INSPECT)
def sizes_only_on_request(engine: Engine) -> None:
    container = engine.create()
    expect("SizeRootFs" not in engine.inspect(container), "no SizeRootFs without size=1")
    sized = engine.client.get(f"/containers/{container}/json", {"size": 1}).json()
    expect(sized["SizeRootFs"] > 500_000, "SizeRootFs counts the image")
    expect("SizeRw" in sized, "SizeRw is there")


@check(INSPECT)
def network_settings_of_a_running_container(engine: Engine) -> None:
    container = engine.run()
    network = engine.inspect(container)["NetworkSettings"]
    endpoint = network["Networks"]["bridge"]
    is_id(endpoint["NetworkID"], "NetworkID")
    is_id(endpoint["EndpointID"], "EndpointID")
    expect(endpoint["IPAddress"].count(".") == 3, f"IPAddress: {endpoint['IPAddress']!r}")
    expect(endpoint["Gateway"].count(".") == 3, f"Gateway: {endpoint['Gateway']!r}")
    expect(endpoint["MacAddress"].count(":") == 5, f"MacAddress: {endpoint['MacAddress']!r}")
    expect(8 <= endpoint["IPPrefixLen"] <= 30, f"IPPrefixLen: {endpoint['IPPrefixLen']!r}")


@check(INSPECT, until="1.51")
def legacy_network_fields(engine: Engine) -> None:
    network = engine.inspect(engine.run())["NetworkSettings"]
    for key in ("IPAddress", "Gateway", "MacAddress", "EndpointID", "IPPrefixLen"):
        equal(network[key], network["Networks"]["bridge"][key], key)


@check(INSPECT)
def network_settings_are_empty_before_start(engine: Engine) -> None:
    network = engine.inspect(engine.create())["NetworkSettings"]
    equal(network["Networks"]["bridge"]["IPAddress"], "", "IPAddress")
    equal(network["Ports"], {}, "Ports")


@check(INSPECT)
def log_path_of_a_started_container(engine: Engine) -> None:
    container = engine.run_light()
    expect(engine.inspect(container)["LogPath"].endswith(f"{container}-json.log"), "LogPath ends with <id>-json.log")


@check(INSPECT)
def mounts(engine: Engine) -> None:
    volume = engine.volume()
    seen = engine.inspect(engine.create(host={"Binds": [f"{volume['Name']}:/v:ro", "/etc:/e"]}))["Mounts"]
    by_target = {mount["Destination"]: mount for mount in seen}
    has_fields(
        by_target["/v"],
        {"Type": "volume", "Name": volume["Name"], "Driver": "local", "RW": False, "Source": volume["Mountpoint"]},
    )
    has_fields(by_target["/e"], {"Type": "bind", "Source": "/etc", "RW": True, "Propagation": "rprivate"})
