"""Files of containers as archives: cp in both directions, diff, commit."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from typing import Any

from ..assertions import contains, equal, expect, has_fields, is_id, one_of, refused, status
from ..client import Response
from ..engine import Engine
from ..registry import Body, check, each

HEAD = "HEAD /containers/{id}/archive"
GET = "GET /containers/{id}/archive"
PUT = "PUT /containers/{id}/archive"
CHANGES = "GET /containers/{id}/changes"
COMMIT = "POST /commit"
_DIRECTORY, _SYMLINK = 1 << 31, 1 << 27


def tar(*members: tuple[str, bytes, str]) -> bytes:
    """Members as (name, tarfile's type, content or link)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, text in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.uid, entry.gid, entry.mtime = kind, 7, 8, 1_600_000_000
            entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o640
            content = text.encode() if kind == tarfile.REGTYPE else b""
            entry.size, entry.linkname = len(content), "" if content else text
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def file(name: str = "new", content: str = "content") -> bytes:
    return tar((name, tarfile.REGTYPE, content))


def put(engine: Engine, container: str, path: str, data: bytes, **query: Any) -> Response:
    headers = {"Content-Type": "application/x-tar"}
    return engine.client.request("PUT", f"/containers/{container}/archive", {"path": path, **query}, body=data, headers=headers)


def stat_of(response: Response) -> Any:
    return json.loads(base64.b64decode(response.headers["x-docker-container-path-stat"]))


def members(engine: Engine, container: str, path: str) -> dict[str, tarfile.TarInfo]:
    answer = status(engine.client.get(f"/containers/{container}/archive", {"path": path}), 200)
    equal(answer.headers.get("content-type"), "application/x-tar", "content-type")
    return {member.name: member for member in tarfile.open(fileobj=io.BytesIO(answer.body))}


# looking


@check(HEAD)
def stat_of_a_file(engine: Engine) -> None:
    container = engine.create()
    status(put(engine, container, "/", file()), 200)
    found = stat_of(status(engine.client.request("HEAD", f"/containers/{container}/archive", {"path": "/new"}), 200))
    expected = {"name": "new", "size": 7, "mode": 0o640, "mtime": "2020-09-13T12:26:40Z", "linkTarget": ""}
    equal(found, expected, "stat")


@check(HEAD)
def stat_of_directories_and_links(engine: Engine) -> None:
    container = engine.create()
    status(put(engine, container, "/", tar(("d", tarfile.DIRTYPE, ""), ("l", tarfile.SYMTYPE, "d"))), 200)

    def seen(path: str) -> Any:
        return stat_of(status(engine.client.request("HEAD", f"/containers/{container}/archive", {"path": path}), 200))

    has_fields(seen("/d"), {"name": "d", "mode": _DIRECTORY | 0o755}, "directory")
    has_fields(seen("d/."), {"name": ".", "mode": _DIRECTORY | 0o755}, "what is in a directory")
    has_fields(seen("/l"), {"name": "l", "mode": _SYMLINK | 0o777, "linkTarget": "/d"}, "link")
    has_fields(seen("/l/"), {"name": "l", "mode": _DIRECTORY | 0o755, "linkTarget": ""}, "what a link names")
    equal(seen("/")["name"], "/", "name of the root")


@check(HEAD)
def stat_refused(engine: Engine) -> None:
    path = f"/containers/{engine.shared}/archive"
    status(engine.client.request("HEAD", path, {"path": "/nope"}), 404)
    status(engine.client.request("HEAD", path), 400)
    status(engine.client.request("HEAD", "/containers/conformance-none/archive", {"path": "/"}), 404)


# out


@check(GET)
def get_a_directory(engine: Engine) -> None:
    container = engine.create()
    data = tar(("d", tarfile.DIRTYPE, ""), ("d/f", tarfile.REGTYPE, "x"), ("d/h", tarfile.LNKTYPE, "d/f"))
    status(put(engine, container, "/", data), 200)
    found = members(engine, container, "/d")
    equal(list(found), ["d", "d/f", "d/h"], "names")
    equal((found["d/h"].type, found["d/h"].linkname), (tarfile.LNKTYPE, "d/f"), "hard link")
    equal((found["d/f"].uid, found["d/f"].gid, found["d/f"].mtime), (7, 8, 1_600_000_000), "owner and time")
    equal(list(members(engine, container, "/d/.")), [".", "./f", "./h"], "names of what is in it")


@check(GET)
def get_refused(engine: Engine) -> None:
    path = f"/containers/{engine.shared}/archive"
    refused(engine.client.get(path, {"path": "/nope"}), 404, "Could not find the file /nope in container")
    refused(engine.client.get(path), 400, "path")


@check(GET)
def get_sees_volumes(engine: Engine) -> None:
    name = engine.volume()["Name"]
    engine.inside("echo x > /v/f", {"Binds": [f"{name}:/v"]})
    expect("v/f" in members(engine, engine.create(host={"Binds": [f"{name}:/v"]}), "/v"), "the file in the volume")


# in


@check(PUT)
def put_into_a_running_container(engine: Engine) -> None:
    container = engine.run_light()
    status(put(engine, container, "/tmp", file()), 200)
    equal(engine.exec_output(container, "stat", "-c", "%u:%g %a %Y", "/tmp/new"), ("7:8 640 1600000000\n", 0), "the file")


@check(PUT)
def put_into_a_volume_before_the_start(engine: Engine) -> None:
    container = engine.create("cat", "/v/new", host={"Binds": [f"{engine.volume()['Name']}:/v"]})
    status(put(engine, container, "/v", file()), 200)
    engine.start(container)
    equal(engine.wait(container), 0, "exit code of cat")


@check(PUT)
def put_compressed(engine: Engine) -> None:
    container = engine.create()
    status(put(engine, container, "/", gzip.compress(file())), 200)
    expect("new" in members(engine, container, "/new"), "the file")


@check(PUT)
def put_implies_directories(engine: Engine) -> None:
    container = engine.create()
    status(put(engine, container, "/", file("a/b/c")), 200)
    found = members(engine, container, "/a")["a/b"]
    equal((found.mode, found.uid, found.gid), (0o755, 0, 0), "mode and owner")


@check(PUT)
def put_keeps_kinds_when_asked(engine: Engine) -> None:
    container = engine.create()
    status(put(engine, container, "/", tar(("d", tarfile.DIRTYPE, ""), ("f", tarfile.REGTYPE, "x"))), 200)
    over_directory = put(engine, container, "/", file("d"), noOverwriteDirNonDir=1)
    refused(over_directory, (400, 500), 'cannot overwrite directory "/d" with non-directory "/"')
    over_file = put(engine, container, "/", tar(("f", tarfile.DIRTYPE, "")), noOverwriteDirNonDir=1)
    refused(over_file, (400, 500), 'cannot overwrite non-directory "/f" with directory "/"')
    status(put(engine, container, "/", file("d")), 200)


def rejects(path: str, data: bytes, statuses: int | tuple[int, ...], message: str, **host: Any) -> Body:
    def run(engine: Engine) -> None:
        refused(put(engine, engine.create(host=host), path, data), statuses, message)

    return run


each(
    PUT,
    "put_refused",
    [
        ("missing directory", rejects("/nope", file(), 404, "Could not find the file /nope in container")),
        ("not a directory", rejects("/etc/passwd", file(), (400, 500), "extraction point is not a directory")),
        ("no path", rejects("", file(), 400, "path")),
        ("junk", rejects("/", b"junk" * 300, (400, 500), "invalid tar header")),
        ("cut off", rejects("/tmp", file(content="x" * 5000)[:2000], (400, 500), "unexpected EOF")),
        ("above", rejects("/tmp", file("../x"), (400, 500), '"../x" is outside of "/tmp"')),
        ("link above", rejects("/tmp", tar(("l", tarfile.SYMTYPE, "../x")), (400, 500), 'invalid symlink "/tmp/l"')),
        ("hard link above", rejects("/tmp", tar(("h", tarfile.LNKTYPE, "../x")), (400, 500), "invalid hardlink")),
        ("read-only", rejects("/tmp", file(), (400, 403, 500), "container rootfs is marked read-only", ReadonlyRootfs=True)),
    ],
)


@check(PUT)
def put_into_a_read_only_volume(engine: Engine) -> None:
    container = engine.create(host={"Binds": [f"{engine.volume()['Name']}:/v:ro"]})
    refused(put(engine, container, "/v", file()), (400, 403, 500), "mounted volume is marked read-only")


@check(PUT)
def links_stay_inside(engine: Engine) -> None:
    """A link's absolute target is the container's, for writing through it too."""
    container = engine.create()
    data = tar(("l", tarfile.SYMTYPE, "/etc"), ("l/through", tarfile.REGTYPE, "x"))
    status(put(engine, container, "/tmp", data), 200)
    expect("through" in members(engine, container, "/etc/through"), "the file")


@check(PUT, since="1.30")
def put_for_the_container_s_user(engine: Engine) -> None:
    container = engine.create(User="root")
    status(put(engine, container, "/", file(), copyUIDGID=1), 200)
    found = members(engine, container, "/new")["new"]
    equal((found.uid, found.gid), (0, 0), "owner")


@check("GET /events")
def copy_events(engine: Engine) -> None:
    container = engine.create()
    since = engine.now()
    status(put(engine, container, "/", file()), 200)
    members(engine, container, "/new")
    status(engine.client.get(f"/containers/{container}/export"), 200)
    seen = [event["Action"] for event in engine.events(since, filters={"container": [container]})]
    equal(seen, ["extract-to-dir", "archive-path", "export"], "actions")


# diff


@check(CHANGES)
def changes_of_every_kind(engine: Engine) -> None:
    script = "mkdir /a; touch /a/b; rm -r /home; mkdir /home; touch /home/c; rm -r /data; chmod 711 /tmp"
    container = engine.finish("sh", "-c", script).id
    rows = status(engine.client.get(f"/containers/{container}/changes"), 200).json()
    seen = {row["Path"]: row["Kind"] for row in rows}
    equal(seen, {"/a": 1, "/a/b": 1, "/home": 0, "/home/c": 1, "/home/worker": 2, "/data": 2, "/tmp": 0}, "changes")


@check(CHANGES)
def changes_leave_volumes_out(engine: Engine) -> None:
    container = engine.finish("touch", "/tmp/x", host={"Binds": [f"{engine.volume()['Name']}:/tmp"]}).id
    one_of(status(engine.client.get(f"/containers/{container}/changes"), 200).json(), (None, []), "changes")


# commit


def commit(engine: Engine, container: str, body: Any = None, **query: Any) -> Any:
    """The new image, inspected; removed later."""
    answer = status(engine.client.post("/commit", {"container": container, **query}, body=body), 201).json()
    engine.remove_later(f"/images/{answer['Id']}", force=1)
    is_id(answer["Id"].removeprefix("sha256:"), "Id")
    return status(engine.client.get(f"/images/{answer['Id']}/json"), 200).json()


@check(COMMIT)
def commit_a_container(engine: Engine) -> None:
    container = engine.finish("sh", "-c", "echo kept > /kept; rm /etc/marker").id
    name = engine.name()
    image = commit(engine, container, repo=name, tag="v1", comment="why", author="who")
    has_fields(image, {"RepoTags": [f"{name}:v1"], "Comment": "why", "Author": "who", "Parent": engine.setup.image_id}, "image")
    equal(engine.inside("cat /kept; ls /etc/marker 2>/dev/null || echo gone", Image=f"{name}:v1"), "kept\ngone", "files")
    step = status(engine.client.get(f"/images/{name}:v1/history"), 200).json()[0]
    has_fields(step, {"Comment": "why", "CreatedBy": "sh -c echo kept > /kept; rm /etc/marker"}, "history")


@check(COMMIT)
def commit_with_changes(engine: Engine) -> None:
    container = engine.create("sleep", "9", Env=["A=1"], Labels={"a": "b"})
    changes = ["ENV B=2", "CMD foo\nEXPOSE 80", "LABEL c=d", "USER nobody", "WORKDIR /w", "VOLUME /v", "ONBUILD RUN x"]
    found = commit(engine, container, changes=changes)["Config"]
    has_fields(found, {"Cmd": ["/bin/sh", "-c", "foo"], "ExposedPorts": {"80/tcp": {}}, "Labels": {"a": "b", "c": "d"}}, "Config")
    has_fields(found, {"User": "nobody", "WorkingDir": "/w", "Volumes": {"/v": {}}, "OnBuild": ["RUN x"]}, "Config")
    expect({"A=1", "B=2"} <= set(found["Env"]), f"Env: {found['Env']}")


@check(COMMIT)
def commit_with_another_config(engine: Engine) -> None:
    container = engine.create("sleep", "9", Env=["A=1"])
    found = commit(engine, container, body={"Cmd": ["x"], "Env": ["Q=1"], "User": "u"})["Config"]
    has_fields(found, {"Cmd": ["x"], "User": "u"}, "Config")
    expect({"A=1", "Q=1"} <= set(found["Env"]), f"Env: {found['Env']}")


@check(COMMIT)
def commit_entrypoint_resets_command(engine: Engine) -> None:
    found = commit(engine, engine.create("sleep", "9"), changes='ENTRYPOINT ["/x"]')["Config"]
    equal((found["Entrypoint"], found.get("Cmd")), (["/x"], None), "Entrypoint and Cmd")


@check(COMMIT)
def commit_pauses(engine: Engine) -> None:
    container = engine.run_light()
    since = engine.now()
    commit(engine, container)
    commit(engine, container, pause=0)
    seen = [event["Action"] for event in engine.events(since, filters={"container": [container]})]
    equal(seen, ["pause", "commit", "unpause", "commit"], "actions")
    equal(engine.state(container)["Status"], "running", "Status")


@check(COMMIT)
def commit_refused(engine: Engine) -> None:
    container = engine.create()
    refused(engine.client.post("/commit", {"container": "conformance-none"}), 404, "No such container: conformance-none")
    refused(engine.client.post("/commit", {"container": container, "repo": "Bad"}), 400, "must be lowercase")
    for line in ("BAD x", "RUN x", "COPY a b"):
        refused(engine.client.post("/commit", {"container": container, "changes": line}), 400, "is not a valid change command")


@check(COMMIT)
def commit_event_names_the_image(engine: Engine) -> None:
    container = engine.create()
    since = engine.now()
    image = commit(engine, container, comment="c")
    (event,) = [event for event in engine.events(since, filters={"container": [container]}) if event["Action"] == "commit"]
    has_fields(event["Actor"]["Attributes"], {"imageID": image["Id"], "comment": "c", "imageRef": ""}, "attributes")
    contains(event["Actor"]["ID"], container, "actor")
