"""Volumes of the local driver: create, list, inspect, remove and prune."""

from __future__ import annotations

from typing import Any

from ..assertions import contains, equal, excludes, expect, has_fields, is_id, is_time, one_of, refused, status
from ..engine import Engine
from ..registry import Body, check, each

CREATE = "POST /volumes/create"
LIST = "GET /volumes"
INSPECT = "GET /volumes/{name}"
REMOVE = "DELETE /volumes/{name}"
PRUNE = "POST /volumes/prune"


def names(engine: Engine, **filters: Any) -> list[str]:
    answer = status(engine.client.get("/volumes", {"filters": filters}), 200).json()
    return [volume["Name"] for volume in answer["Volumes"] or []]


@check(CREATE)
def create(engine: Engine) -> None:
    name = engine.name()
    volume = engine.volume(Name=name, Labels={"a": "b"})
    has_fields(volume, {"Name": name, "Driver": "local", "Scope": "local", "Labels": {"a": "b"}}, "volume")
    contains(volume["Mountpoint"], name, "Mountpoint")


@check(CREATE, since="1.31")
def created_at(engine: Engine) -> None:
    is_time(engine.volume()["CreatedAt"], "CreatedAt")


@check(CREATE)
def create_is_idempotent(engine: Engine) -> None:
    volume = engine.volume(Labels={"a": "b"})
    again = status(engine.client.post("/volumes/create", body={"Name": volume["Name"]}), 201).json()
    equal(again, volume, "the same volume")


@check(CREATE)
def create_without_a_name(engine: Engine) -> None:
    volume = status(engine.client.post("/volumes/create", body={}), 201).json()
    engine.remove_later(f"/volumes/{volume['Name']}")
    is_id(volume["Name"], "Name")


@check(CREATE, since="1.42")
def anonymous_label(engine: Engine) -> None:
    volume = status(engine.client.post("/volumes/create", body={}), 201).json()
    engine.remove_later(f"/volumes/{volume['Name']}")
    equal(volume["Labels"], {"com.docker.volume.anonymous": ""}, "Labels")


@check(CREATE)
def tmpfs_options(engine: Engine) -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000"}
    volume = engine.volume(DriverOpts=options)
    equal(volume["Options"], options, "Options")
    seen = engine.inside("df -k /v | tail -1 | awk '{print $1, $2}'; stat -c %u /v", {"Binds": [f"{volume['Name']}:/v"]})
    equal(seen, "tmpfs 1024\n1000", "the mounted volume")


def rejects(body: Any, message: str, statuses: int | tuple[int, ...] = 400) -> Body:
    def run(engine: Engine) -> None:
        refused(engine.client.post("/volumes/create", body=body), statuses, message)

    return run


each(
    CREATE,
    "create_refused",
    [
        ("bad name", rejects({"Name": "a b"}, "includes invalid characters for a local volume name")),
        ("short name", rejects({"Name": "a"}, "volume name is too short")),
        ("bad option", rejects({"Name": "conformance-x", "DriverOpts": {"bogus": "1"}}, "invalid option")),
        ("device without type", rejects({"Name": "conformance-x", "DriverOpts": {"device": "x"}}, "missing required option")),
    ],
)


@check(CREATE)
def create_needs_json(engine: Engine) -> None:
    answer = engine.client.post("/volumes/create", body=b"{}", headers={"Content-Type": "text/plain"})
    refused(answer, 400, "unsupported Content-Type header (text/plain)")


@check(LIST)
def list_all(engine: Engine) -> None:
    volume = engine.volume()
    answer = status(engine.client.get("/volumes"), 200).json()
    equal(set(answer), {"Volumes", "Warnings"}, "keys")
    contains([row["Name"] for row in answer["Volumes"]], volume["Name"], "names")


@check(LIST)
def list_none(engine: Engine) -> None:
    answer = status(engine.client.get("/volumes", {"filters": {"name": [engine.name()]}}), 200).json()
    equal(answer["Volumes"], [], "Volumes")


@check(LIST)
def filter_name(engine: Engine) -> None:
    base = engine.name()
    engine.volume(Name=f"{base}-one"), engine.volume(Name=f"{base}-two")
    equal(sorted(names(engine, name=[base])), [f"{base}-one", f"{base}-two"], "a part of the name")
    equal(names(engine, name=[f"{base}-one"]), [f"{base}-one"], "the whole name")


@check(LIST, since="1.25")
def filter_label(engine: Engine) -> None:
    key = engine.name()
    volume = engine.volume(Labels={key: "1"})["Name"]
    for word in (key, f"{key}=1"):
        equal(names(engine, label=[word]), [volume], f"label={word}")
        equal(names(engine, label={word: True}), [volume], f"label={word} in the other form")


@check(LIST)
def filter_dangling(engine: Engine) -> None:
    used, unused = engine.volume()["Name"], engine.volume()["Name"]
    engine.create(host={"Binds": [f"{used}:/v"]})
    dangling, others = names(engine, dangling=["true"]), names(engine, dangling=["false"])
    expect(unused in dangling and used not in dangling, "dangling=true")
    expect(used in others and unused not in others, "dangling=false")


@check(LIST)
def filter_driver(engine: Engine) -> None:
    volume = engine.volume()["Name"]
    contains(names(engine, driver=["local"]), volume, "driver=local")
    excludes(names(engine, driver=["no-such"]), volume, "driver=no-such")


@check(LIST)
def filter_refusals(engine: Engine) -> None:
    refused(engine.client.get("/volumes", {"filters": {"bogus": ["x"]}}), 400, "invalid filter 'bogus'")
    refused(engine.client.get("/volumes", {"filters": {"dangling": ["x"]}}), 400, "invalid filter 'dangling=[x]'")


@check(INSPECT)
def inspect(engine: Engine) -> None:
    volume = engine.volume()
    equal(status(engine.client.get(f"/volumes/{volume['Name']}"), 200).json(), volume, "as create answered")


@check(INSPECT)
def inspect_missing(engine: Engine) -> None:
    refused(engine.client.get("/volumes/conformance-none"), 404, "get conformance-none: no such volume")


@check(REMOVE)
def remove(engine: Engine) -> None:
    name = engine.volume()["Name"]
    equal(status(engine.client.delete(f"/volumes/{name}"), 204).body, b"", "body")
    refused(engine.client.delete(f"/volumes/{name}"), 404, "no such volume")


@check(REMOVE, since="1.25")
def remove_missing_by_force(engine: Engine) -> None:
    status(engine.client.delete("/volumes/conformance-none", {"force": 1}), 204)


@check(REMOVE)
def remove_in_use(engine: Engine) -> None:
    name = engine.volume()["Name"]
    container = engine.create(host={"Binds": [f"{name}:/v"]})
    for query in ({}, {"force": 1}):
        answer = engine.client.delete(f"/volumes/{name}", query)
        refused(answer, 409, "volume is in use")
        contains(answer.message, container, "message")


@check(PRUNE, since="1.42")
def prune_anonymous_ones_only(engine: Engine) -> None:
    label = engine.name()
    named = engine.volume(Labels={label: ""})["Name"]
    one_of(status(engine.prune("volumes", {"label": [label]}), 200).json()["VolumesDeleted"], (None, []), "VolumesDeleted")
    answer = status(engine.prune("volumes", {"label": [label], "all": ["true"]}), 200).json()
    equal(answer["VolumesDeleted"], [named], "VolumesDeleted with all=true")
    expect(isinstance(answer["SpaceReclaimed"], int), "SpaceReclaimed is a number")


@check(PRUNE, since="1.25", until="1.41")
def prune_before_1_42(engine: Engine) -> None:
    label = engine.name()
    named = engine.volume(Labels={label: ""})["Name"]
    equal(status(engine.prune("volumes", {"label": [label]}), 200).json()["VolumesDeleted"], [named], "VolumesDeleted")


@check(PRUNE, since="1.42")
def prune_leaves_those_in_use(engine: Engine) -> None:
    label = engine.name()
    name = engine.volume(Labels={label: ""})["Name"]
    engine.create(host={"Binds": [f"{name}:/v"]})
    status(engine.prune("volumes", {"label": [label], "all": ["true"]}), 200)
    status(engine.client.get(f"/volumes/{name}"), 200)


# volumes and containers


@check("POST /containers/create")
def named_volume_is_made_by_create(engine: Engine) -> None:
    name = engine.name()
    engine.remove_later(f"/volumes/{name}", force=1)
    engine.create(host={"Binds": [f"{name}:/v"]})
    status(engine.client.get(f"/volumes/{name}"), 200)


@check("POST /containers/create")
def data_outlives_the_container(engine: Engine) -> None:
    binds = {"Binds": [f"{engine.volume()['Name']}:/v"]}
    engine.inside("echo kept > /v/file", binds)
    equal(engine.inside("cat /v/file", binds), "kept", "content")


@check("POST /containers/create")
def copy_up_from_the_image(engine: Engine) -> None:
    binds = {"Binds": [f"{engine.volume()['Name']}:/data"]}
    equal(
        engine.inside("cat /data/seed; stat -c %u:%a /data; stat -c %u:%a /data/seed", binds),
        "seed\n1000:750\n1000:640",
        "content and owners",
    )


@check("POST /containers/create")
def no_copy_up_with_nocopy(engine: Engine) -> None:
    equal(engine.inside("ls -A /data", {"Binds": [f"{engine.volume()['Name']}:/data:nocopy"]}), "", "the volume is empty")


@check("POST /containers/create")
def no_copy_up_into_a_used_volume(engine: Engine) -> None:
    name = engine.volume()["Name"]
    engine.inside("echo x > /v/own", {"Binds": [f"{name}:/v"]})
    equal(engine.inside("ls -A /data", {"Binds": [f"{name}:/data"]}), "own", "content")


@check("POST /containers/create")
def anonymous_volumes_go_with_the_container(engine: Engine) -> None:
    container = engine.create(Volumes={"/anon": {}})
    (mount,) = engine.inspect(container)["Mounts"]
    has_fields(mount, {"Type": "volume", "Destination": "/anon", "RW": True}, "mount")
    is_id(mount["Name"], "Name")
    status(engine.client.delete(f"/containers/{container}", {"v": 1}), 204)
    status(engine.client.get(f"/volumes/{mount['Name']}"), 404)


@check("DELETE /containers/{id}")
def anonymous_volumes_stay_without_v(engine: Engine) -> None:
    container = engine.create(Volumes={"/anon": {}})
    name = engine.inspect(container)["Mounts"][0]["Name"]
    status(engine.client.delete(f"/containers/{container}"), 204)
    status(engine.client.delete(f"/volumes/{name}"), 204)


@check("DELETE /containers/{id}")
def named_volumes_stay_with_v(engine: Engine) -> None:
    name = engine.volume()["Name"]
    status(engine.client.delete(f"/containers/{engine.create(host={'Binds': [f'{name}:/v']})}", {"v": 1}), 204)
    status(engine.client.get(f"/volumes/{name}"), 200)


@check("POST /containers/create")
def volumes_from(engine: Engine) -> None:
    name = engine.volume()["Name"]
    other = engine.create(host={"Binds": [f"{name}:/v"]})
    container = engine.create(host={"VolumesFrom": [f"{other}:ro"]})
    has_fields(engine.inspect(container)["Mounts"][0], {"Name": name, "Destination": "/v", "RW": False}, "mount")


@check("POST /containers/create", since="1.45")
def subpath(engine: Engine) -> None:
    name = engine.volume()["Name"]
    engine.inside("mkdir /v/sub; echo inner > /v/sub/file", {"Binds": [f"{name}:/v"]})
    mount = {"Type": "volume", "Source": name, "Target": "/s", "VolumeOptions": {"Subpath": "sub"}}
    equal(engine.inside("cat /s/file", {"Mounts": [mount]}), "inner", "content")
