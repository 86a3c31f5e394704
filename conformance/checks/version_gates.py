"""What differs between API versions: a client of an old version sees what it always saw."""

from __future__ import annotations

from typing import Any

from ..assertions import Skipped, contains, equal, excludes, expect, has_fields, has_keys, refused, status
from ..engine import Engine
from ..registry import check

CREATE = "POST /containers/create"
INSPECT = "GET /containers/{id}/json"
IMAGE = "GET /images/{name}/json"
NONE = {"NetworkMode": "none"}
BUILD_FIELDS = ("Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image")


def image(engine: Engine) -> Any:
    return status(engine.client.get(f"/images/{engine.image}/json"), 200).json()


def image_row(engine: Engine) -> Any:
    rows = status(engine.client.get("/images/json"), 200).json()
    (row,) = [row for row in rows if row["Id"] == engine.setup.image_id]
    return row


# images


@check(IMAGE, until="1.44")
def container_config_of_an_image(engine: Engine) -> None:
    has_keys(image(engine), ("ContainerConfig",), "image")


@check(IMAGE, since="1.45")
def no_container_config_of_an_image(engine: Engine) -> None:
    for key in ("Container", "ContainerConfig"):
        excludes(image(engine), key, "image")


@check(IMAGE, until="1.43")
def virtual_size_of_an_image(engine: Engine) -> None:
    seen = image(engine)
    equal(seen["VirtualSize"], seen["Size"], "VirtualSize")


@check(IMAGE, until="1.49")
def image_config_with_container_fields(engine: Engine) -> None:
    has_keys(image(engine)["Config"], BUILD_FIELDS, "Config")


@check(IMAGE, since="1.50")
def image_config_without_container_fields(engine: Engine) -> None:
    config = image(engine)["Config"]
    for key in BUILD_FIELDS:
        excludes(config, key, "Config")


@check("GET /images/json", until="1.50")
def containers_of_an_image_are_not_counted(engine: Engine) -> None:
    equal(image_row(engine)["Containers"], -1, "Containers")


@check("GET /images/json", since="1.51")
def containers_of_an_image_are_counted(engine: Engine) -> None:
    engine.create()
    expect(image_row(engine)["Containers"] >= 2, "the shared container and this one")


# info and networks


@check("GET /info", until="1.49")
def bridge_filter_fields(engine: Engine) -> None:
    has_keys(status(engine.client.get("/info"), 200).json(), ("BridgeNfIptables", "BridgeNfIp6tables"), "info")


@check("GET /info", since="1.50")
def no_bridge_filter_fields(engine: Engine) -> None:
    excludes(status(engine.client.get("/info"), 200).json(), "BridgeNfIptables", "info")


@check("GET /info", since="1.49")
def firewall_backend(engine: Engine) -> None:
    has_keys(status(engine.client.get("/info"), 200).json()["FirewallBackend"], ("Driver",), "FirewallBackend")


@check("GET /networks/{id}", since="1.48")
def ipv4_of_a_network(engine: Engine) -> None:
    equal(status(engine.client.get("/networks/bridge"), 200).json()["EnableIPv4"], True, "EnableIPv4")


@check("GET /networks", until="1.27")
def list_of_networks_with_containers(engine: Engine) -> None:
    container = engine.run()
    (row,) = [row for row in engine.client.get("/networks").json() if row["Name"] == "bridge"]
    contains(row["Containers"], container, "Containers")


@check(INSPECT, since="1.48")
def gateway_priority_of_an_endpoint(engine: Engine) -> None:
    has_fields(engine.inspect(engine.run())["NetworkSettings"]["Networks"]["bridge"], {"GwPriority": 0}, "endpoint")


@check(INSPECT, since="1.44")
def dns_names_of_an_endpoint(engine: Engine) -> None:
    has_keys(engine.inspect(engine.create())["NetworkSettings"]["Networks"]["bridge"], ("DNSNames",), "endpoint")


# creation


@check(INSPECT, until="1.39")
def ipc_mode_is_shareable(engine: Engine) -> None:
    equal(engine.inspect(engine.create())["HostConfig"]["IpcMode"], "shareable", "IpcMode")


@check(INSPECT, since="1.40")
def ipc_mode_is_private(engine: Engine) -> None:
    equal(engine.inspect(engine.create())["HostConfig"]["IpcMode"], "private", "IpcMode")


@check(CREATE, since="1.43")
def annotations_of_a_container(engine: Engine) -> None:
    seen = engine.inspect(engine.create(host={"Annotations": {"a.b": "c"}}))
    equal(seen["HostConfig"]["Annotations"], {"a.b": "c"}, "Annotations")


@check("GET /containers/json", since="1.46")
def annotations_in_the_list(engine: Engine) -> None:
    container = engine.create(host={"Annotations": {"a.b": "c"}})
    (row,) = engine.rows(all=1, filters={"id": [container]})
    equal(row["HostConfig"].get("Annotations"), {"a.b": "c"}, "Annotations")


@check(CREATE, since="1.46")
def tmpfs_mount_options(engine: Engine) -> None:
    mount = {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"Options": [["noexec"]]}}
    contains(engine.inside("grep ' /t ' /proc/self/mounts", {"Mounts": [mount]}), "noexec", "options")


@check(CREATE, until="1.44")
def no_subpath_before_1_45(engine: Engine) -> None:
    mount = {"Type": "volume", "Source": engine.volume()["Name"], "Target": "/x", "VolumeOptions": {"Subpath": "a"}}
    answer = engine.post_create({"Image": engine.image, "HostConfig": {"Mounts": [mount]}})
    refused(answer, 400, "VolumeOptions.Subpath needs API v1.45 or newer")


@check(CREATE, until="1.47")
def no_image_mounts_before_1_48(engine: Engine) -> None:
    mount = {"Type": "image", "Source": engine.image, "Target": "/x"}
    status(engine.post_create({"Image": engine.image, "HostConfig": {"Mounts": [mount]}}), 400)


@check(CREATE, since="1.48")
def image_mounts(engine: Engine) -> None:
    mount = {"Type": "image", "Source": engine.image, "Target": "/x"}
    response = engine.post_create(
        {"Image": engine.image, "Cmd": ["cat", "/x/etc/marker"], "HostConfig": {"Mounts": [mount], **NONE}}
    )
    if response.status in (400, 501):
        raise Skipped(f"the engine refuses image mounts clearly: {response.message}")
    container = status(response, 201).json()["Id"]
    engine.start(container)
    equal(engine.wait(container), 0, "exit code")


# what a request may ask for


@check("POST /containers/{id}/stop", until="1.41")
def signal_of_a_stop_is_ignored(engine: Engine) -> None:
    container = engine.run("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done", host=NONE)
    engine.until_logged(container, "ready")
    status(engine.client.post(f"/containers/{container}/stop", {"signal": "KILL", "t": 10}), 204)
    equal(engine.state(container)["ExitCode"], 7, "ExitCode")


@check("POST /containers/{id}/wait", until="1.29")
def wait_without_conditions(engine: Engine) -> None:
    container = engine.run("sleep", "0.5", host=NONE)
    equal(engine.wait(container), 0, "exit code")
    expect(not engine.state(container)["Running"], "it ends with the container")
