"""Images as archives: load, save, import, and the export of a container."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

from .. import image
from ..assertions import contains, equal, expect, has_fields, matches, refused, status
from ..engine import Engine
from ..registry import Body, check, each
from .images import inspect, two_layers

SAVE = "GET /images/{name}/get"
LOAD = "POST /images/load"
IMPORT = "POST /images/create"


# load


@check(LOAD)
def load(engine: Engine) -> None:
    name, identity = two_layers(engine)
    equal(inspect(engine, name)["Id"], identity, "Id")


@check(LOAD)
def load_compressed(engine: Engine) -> None:
    name = f"{engine.name()}:1"
    data = image.compressed(image.archive(name, [image.small_layer("file", name)]))
    equal(engine.load(data), [name], "loaded")


@check(LOAD)
def load_in_chunks(engine: Engine) -> None:
    name = f"{engine.name()}:1"
    data = image.archive(name, [image.small_layer("file", name)])
    chunks = iter([data[i : i + 1000] for i in range(0, len(data), 1000)])
    answer = status(engine.client.post("/images/load", body=chunks, headers={"Content-Type": "application/x-tar"}), 200)
    engine.remove_later(f"/images/{name}", force=1)
    contains(answer.body.decode(), f"Loaded image: {name}", "answer")


@check(LOAD)
def load_without_a_name(engine: Engine) -> None:
    layers = [image.small_layer("file", engine.name())]
    equal(engine.load(image.archive(None, layers)), [image.image_id(layers)], "loaded id")
    seen = inspect(engine, image.image_id(layers))
    equal(seen["RepoTags"], [], "RepoTags")


@check(LOAD)
def load_twice_is_the_same_image(engine: Engine) -> None:
    name = f"{engine.name()}:1"
    data = image.archive(name, [image.small_layer("file", name)])
    equal(engine.load(data), engine.load(data), "loaded")


@check(LOAD)
def load_moves_a_name(engine: Engine) -> None:
    name = f"{engine.name()}:1"
    first, second = [image.small_layer("file", name + "a")], [image.small_layer("file", name + "b")]
    engine.load(image.archive(name, first))
    engine.remove_later(f"/images/{image.image_id(first)}")
    engine.load(image.archive(name, second))
    equal(inspect(engine, name)["Id"], image.image_id(second), "Id")
    equal(inspect(engine, image.image_id(first))["RepoTags"], [], "RepoTags of the first")


@check(LOAD)
def loaded_container_sees_all_layers(engine: Engine) -> None:
    name = f"{engine.name()}:1"
    layers = [
        image.root_layer(engine.setup.busybox, name),
        image.small_layer("etc/marker", "upper"),
        image.small_layer("etc/new", "new"),
    ]
    engine.load(image.archive(name, layers))
    equal(engine.inside("cat /etc/marker /etc/new", Image=name), "uppernew", "files")


@check(LOAD)
def whiteouts_hide_files(engine: Engine) -> None:
    name = f"{engine.name()}:1"
    layers = [
        image.root_layer(engine.setup.busybox, name),
        image.small_layer("data/.wh.seed", ""),
        image.small_layer("home/.wh..wh..opq", ""),
    ]
    engine.load(image.archive(name, layers))
    equal(engine.inside("ls -A /data /home | tr '\\n' ' '", Image=name), "/data:  /home:", "listing")


def bad_archive(data: bytes) -> Body:
    def run(engine: Engine) -> None:
        answer = status(engine.client.post("/images/load", body=data, headers={"Content-Type": "application/x-tar"}), 200)
        last = answer.json_lines()[-1]
        expect("error" in last and "errorDetail" in last, f"an error in the stream, got {last}")

    return run


each(LOAD, "bad_archive", [("junk", bad_archive(b"junk")), ("empty", bad_archive(b""))])


# save and import


def archive_of(engine: Engine, path: str, **query: Any) -> tarfile.TarFile:
    answer = status(engine.client.get(path, query), 200)
    equal(answer.headers.get("content-type"), "application/x-tar", "content-type")
    return tarfile.open(fileobj=io.BytesIO(answer.body))


def manifest_of(tar: tarfile.TarFile) -> list[Any]:
    file = tar.extractfile("manifest.json")
    return list(json.load(file)) if file else []


@check(SAVE)
def save(engine: Engine) -> None:
    name, identity = two_layers(engine)
    tar = archive_of(engine, f"/images/{name}/get")
    (entry,) = manifest_of(tar)
    equal(entry["RepoTags"], [name], "RepoTags")
    contains(entry["Config"], identity[7:], "Config")
    equal(len(entry["Layers"]), 2, "layers")
    for layer in entry["Layers"]:
        expect(tar.getmember(layer).size > 0, f"{layer} is in the archive")


@check(SAVE)
def saved_image_can_be_loaded(engine: Engine) -> None:
    name, identity = two_layers(engine)
    data = status(engine.client.get(f"/images/{name}/get"), 200).body
    status(engine.client.delete(f"/images/{name}"), 200)
    equal(engine.load(data), [name], "loaded")
    equal(inspect(engine, name)["Id"], identity, "Id")


@check("GET /images/get")
def save_several(engine: Engine) -> None:
    (one, _), (other, _) = two_layers(engine), two_layers(engine)
    manifest = manifest_of(archive_of(engine, "/images/get", names=[one, other]))
    equal(sorted(entry["RepoTags"][0] for entry in manifest), sorted([one, other]), "RepoTags")


@check(SAVE)
def save_missing(engine: Engine) -> None:
    refused(engine.client.get("/images/conformance-none/get"), 404, "No such image: conformance-none")


@check(IMPORT)
def import_a_root(engine: Engine) -> None:
    name = engine.name()
    query = {"fromSrc": "-", "repo": name, "tag": "1", "message": "made by hand", "changes": ['CMD ["cat","/file"]', "ENV A=1"]}
    answer = status(engine.client.post("/images/create", query, body=image.small_layer("file", "x")), 200)
    engine.remove_later(f"/images/{name}:1", force=1)
    matches("sha256:[0-9a-f]{64}", answer.json_lines()[-1]["status"], "last status")
    seen = inspect(engine, f"{name}:1")
    has_fields(seen, {"Id": answer.json_lines()[-1]["status"], "Comment": "made by hand"}, "image")
    has_fields(seen["Config"], {"Cmd": ["cat", "/file"], "Env": ["A=1"]}, "Config")


@check("GET /containers/{id}/export")
def export(engine: Engine) -> None:
    container = engine.finish("sh", "-c", "echo x > /made").id
    answer = status(engine.client.get(f"/containers/{container}/export"), 200)
    names = tarfile.TarFile(fileobj=io.BytesIO(answer.body)).getnames()
    contains(names, "made", "names")
    contains(names, "bin/busybox", "names")
