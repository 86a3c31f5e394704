"""Images: load, save, import, list, inspect, history, tag, remove and prune."""

from __future__ import annotations

from typing import Any

from .. import image
from ..assertions import contains, equal, expect, has_fields, has_keys, is_time, matches, one_of, refused, status
from ..engine import Engine
from ..registry import Body, check, each

LIST = "GET /images/json"
INSPECT = "GET /images/{name}/json"
HISTORY = "GET /images/{name}/history"
TAG = "POST /images/{name}/tag"
REMOVE = "DELETE /images/{name}"
PRUNE = "POST /images/prune"
NO_SUCH = "No such image: conformance-none:latest"


def two_layers(engine: Engine, **config: Any) -> tuple[str, str]:
    """Load an image of two small layers; its name and id."""
    name = f"{engine.name()}:1"
    layers = [image.small_layer("one", name), image.small_layer("two", name)]
    equal(engine.load(image.archive(name, layers, config)), [name], "loaded")
    return name, image.image_id(layers, config)


def inspect(engine: Engine, name: str) -> Any:
    return status(engine.client.get(f"/images/{name}/json"), 200).json()


# list


def rows(engine: Engine, **query: Any) -> list[Any]:
    return list(status(engine.client.get("/images/json", query), 200).json())


@check(LIST)
def list_row(engine: Engine) -> None:
    name, identity = two_layers(engine, Labels={"color": "red"})
    found = [row for row in rows(engine) if row["Id"] == identity]
    equal(len(found), 1, "rows")
    has_fields(found[0], {"RepoTags": [name], "ParentId": "", "Labels": {"color": "red"}, "SharedSize": -1}, "row")
    one_of(found[0]["RepoDigests"], ([],) if engine.version >= (1, 43) else ([], None), "RepoDigests")
    equal(found[0]["Created"], 1704164645, "Created")
    expect(found[0]["Size"] > 0, "Size")


@check(LIST, since="1.25")
def filter_reference(engine: Engine) -> None:
    tag = engine.tag()
    repository = tag.partition(":")[0]
    for pattern in (tag, repository, repository[:-1] + "*", f"{repository}:*"):
        found = [name for row in rows(engine, filters={"reference": [pattern]}) for name in row["RepoTags"]]
        contains(found, tag, f"reference={pattern}")
    equal(rows(engine, filters={"reference": ["conformance-none"]}), [], "an unknown name")


@check(LIST)
def filter_label(engine: Engine) -> None:
    key = engine.name()
    _, identity = two_layers(engine, Labels={key: "v"})
    for word in (key, f"{key}=v"):
        equal([row["Id"] for row in rows(engine, filters={"label": [word]})], [identity], f"label={word}")
    equal(rows(engine, filters={"label": {f"{key}=w": True}}), [], "another value")


@check(LIST)
def filter_dangling(engine: Engine) -> None:
    layers = [image.small_layer("file", engine.name())]
    engine.load(image.archive(None, layers))
    identity = image.image_id(layers)
    contains([row["Id"] for row in rows(engine, filters={"dangling": ["true"]})], identity, "dangling")
    expect(identity not in [row["Id"] for row in rows(engine, filters={"dangling": ["false"]})], "not among the named ones")


@check(LIST, since="1.43")
def untagged_row(engine: Engine) -> None:
    layers = [image.small_layer("file", engine.name())]
    engine.load(image.archive(None, layers))
    found = [row for row in rows(engine) if row["Id"] == image.image_id(layers)]
    has_fields(found[0], {"RepoTags": [], "RepoDigests": []}, "row")


@check(LIST, until="1.42")
def untagged_row_before_1_43(engine: Engine) -> None:
    layers = [image.small_layer("file", engine.name())]
    engine.load(image.archive(None, layers))
    found = [row for row in rows(engine) if row["Id"] == image.image_id(layers)]
    has_fields(found[0], {"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}, "row")


@check(LIST, until="1.43")
def virtual_size_before_1_44(engine: Engine) -> None:
    found = [row for row in rows(engine) if row["Id"] == engine.setup.image_id]
    equal(found[0]["VirtualSize"], found[0]["Size"], "VirtualSize")


@check(LIST, since="1.44")
def no_virtual_size(engine: Engine) -> None:
    found = [row for row in rows(engine) if row["Id"] == engine.setup.image_id]
    expect("VirtualSize" not in found[0], "VirtualSize is gone")


@check(LIST, since="1.42")
def shared_size(engine: Engine) -> None:
    found = [row for row in rows(engine, **{"shared-size": 1}) if row["Id"] == engine.setup.image_id]
    expect(found[0]["SharedSize"] >= 0, "SharedSize is computed")


def rejects_filter(filters: Any, statuses: int | tuple[int, ...], message: str) -> Body:
    def run(engine: Engine) -> None:
        refused(engine.client.get("/images/json", {"filters": filters}), statuses, message)

    return run


each(
    LIST,
    "filter_refused",
    [
        ("unknown key", rejects_filter({"bogus": ["x"]}, 400, "invalid filter 'bogus'")),
        ("not json", rejects_filter("x", 400, "invalid filter")),
        ("dangling", rejects_filter({"dangling": ["x"]}, 400, "invalid filter 'dangling=[x]'")),
        ("before", rejects_filter({"before": ["conformance-none"]}, 404, NO_SUCH)),
    ],
)


# inspect, history, tag


@check(INSPECT)
def inspect_fields(engine: Engine) -> None:
    name, identity = two_layers(
        engine, Env=["A=1"], Entrypoint=["e"], WorkingDir="/w", User="u", Labels={"l": "1"}, ExposedPorts={"1/tcp": {}}
    )
    seen = inspect(engine, name)
    has_fields(seen, {"Id": identity, "RepoTags": [name], "RepoDigests": [], "Architecture": "amd64", "Os": "linux"}, "image")
    is_time(seen["Created"], "Created")
    has_keys(seen, ("Size", "GraphDriver", "Metadata"), "image")
    config = {"Env": ["A=1"], "Entrypoint": ["e"], "Cmd": ["sh"], "WorkingDir": "/w", "User": "u", "Labels": {"l": "1"}}
    has_fields(seen["Config"], config | {"ExposedPorts": {"1/tcp": {}}}, "Config")


@check(INSPECT)
def inspect_layers(engine: Engine) -> None:
    name, _ = two_layers(engine)
    seen = inspect(engine, name)["RootFS"]
    equal((seen["Type"], len(seen["Layers"])), ("layers", 2), "RootFS")
    for layer in seen["Layers"]:
        matches("sha256:[0-9a-f]{64}", layer, "layer")


@check(INSPECT)
def inspect_by_any_name(engine: Engine) -> None:
    name, identity = two_layers(engine)
    bare = identity.removeprefix("sha256:")
    for word in (name, identity, bare, bare[:12], f"docker.io/library/{name}", f"library/{name}"):
        equal(inspect(engine, word)["Id"], identity, f"Id by {word}")


@check(INSPECT)
def inspect_missing(engine: Engine) -> None:
    refused(engine.client.get("/images/conformance-none/json"), 404, NO_SUCH)
    refused(engine.client.get("/images/some.registry:5000/a/b:c/json"), 404, "No such image: some.registry:5000/a/b:c")


@check(INSPECT)
def inspect_invalid_name(engine: Engine) -> None:
    refused(engine.client.get("/images/UPPER/json"), 400, "must be lowercase")


@check(HISTORY)
def history(engine: Engine) -> None:
    name, identity = two_layers(engine)
    seen = status(engine.client.get(f"/images/{name}/history"), 200).json()
    equal([row["CreatedBy"] for row in seen], ["layer 2", "layer 1"], "CreatedBy, the newest first")
    equal([row["Id"] for row in seen], [identity, "<missing>"], "Ids")
    equal([row["Tags"] for row in seen], [[name], None], "Tags")
    has_keys(seen[0], ("Created", "Size", "Comment"), "row")


@check(HISTORY)
def history_of_a_missing_image(engine: Engine) -> None:
    refused(engine.client.get("/images/conformance-none/history"), 404, NO_SUCH)


@check(TAG)
def tag(engine: Engine) -> None:
    name = engine.tag("v2")
    equal(inspect(engine, name)["Id"], engine.setup.image_id, "Id")
    contains(inspect(engine, engine.image)["RepoTags"], name, "RepoTags")


@check(TAG)
def tag_is_latest_by_default(engine: Engine) -> None:
    name = engine.name()
    equal(status(engine.client.post(f"/images/{engine.image}/tag", {"repo": name}), 201).body, b"", "body")
    engine.remove_later(f"/images/{name}:latest")
    contains(inspect(engine, name)["RepoTags"], f"{name}:latest", "RepoTags")


@check(TAG)
def tag_with_a_registry(engine: Engine) -> None:
    name = f"registry.example:5000/a/{engine.name()}"
    status(engine.client.post(f"/images/{engine.image}/tag", {"repo": name, "tag": "1"}), 201)
    engine.remove_later(f"/images/{name}:1")
    equal(inspect(engine, f"{name}:1")["Id"], engine.setup.image_id, "Id")


@check(TAG)
def tag_refusals(engine: Engine) -> None:
    refused(engine.client.post("/images/conformance-none/tag", {"repo": "x"}), 404, NO_SUCH)
    refused(engine.client.post(f"/images/{engine.image}/tag", {"repo": "UPPER"}), 400, "must be lowercase")
    refused(engine.client.post(f"/images/{engine.image}/tag", {"repo": "x", "tag": "a b"}), 400, "invalid tag format")


# remove and prune


@check(REMOVE)
def remove_untags(engine: Engine) -> None:
    name = engine.tag()
    equal(status(engine.client.delete(f"/images/{name}"), 200).json(), [{"Untagged": name}], "answer")
    equal(inspect(engine, engine.image)["Id"], engine.setup.image_id, "the image is still there")


@check(REMOVE)
def remove_the_last_tag(engine: Engine) -> None:
    name, identity = two_layers(engine)
    answer = status(engine.client.delete(f"/images/{name}"), 200).json()
    contains(answer, {"Untagged": name}, "answer")
    contains(answer, {"Deleted": identity}, "answer")
    status(engine.client.get(f"/images/{identity}/json"), 404)


@check(REMOVE)
def remove_missing(engine: Engine) -> None:
    refused(engine.client.delete("/images/conformance-none"), 404, NO_SUCH)


@check(REMOVE)
def remove_in_use(engine: Engine) -> None:
    name, identity = two_layers(engine)
    container = engine.create(Image=name)
    answer = engine.client.delete(f"/images/{name}")
    refused(answer, 409, f'conflict: unable to remove repository reference "{name}" (must force) - container {container[:12]}')
    contains(answer.message, f"is using its referenced image {identity[7:19]}", "message")


@check(REMOVE)
def remove_in_use_by_force(engine: Engine) -> None:
    name, _ = two_layers(engine)
    container = engine.create(Image=name)
    contains(status(engine.client.delete(f"/images/{name}", {"force": 1}), 200).json(), {"Untagged": name}, "answer")
    equal(engine.inspect(container)["Config"]["Image"], name, "the container keeps the name")


@check(REMOVE)
def remove_by_id_in_use_by_a_running_container(engine: Engine) -> None:
    bare = engine.setup.image_id[7:]
    answer = engine.client.delete(f"/images/{engine.setup.image_id}", {"force": 1})
    refused(answer, 409, f"conflict: unable to delete {bare[:12]} (cannot be forced) - image is being used by running container")


@check(REMOVE)
def remove_by_id_with_several_names(engine: Engine) -> None:
    name, identity = two_layers(engine)
    engine.tag(source=name)
    refused(engine.client.delete(f"/images/{identity}"), 409, "image is referenced in multiple repositories")


@check(PRUNE, since="1.25")
def prune(engine: Engine) -> None:
    label = engine.name()
    layers = [image.small_layer("file", label)]
    engine.load(image.archive(None, layers, {"Labels": {label: "1"}}))
    answer = status(engine.prune("images", {"label": [label]}), 200).json()
    contains(answer["ImagesDeleted"], {"Deleted": image.image_id(layers, {"Labels": {label: "1"}})}, "ImagesDeleted")
    expect(answer["SpaceReclaimed"] > 0, "SpaceReclaimed")


@check(PRUNE, since="1.25")
def prune_leaves_named_ones(engine: Engine) -> None:
    label = engine.name()
    _, identity = two_layers(engine, Labels={label: "1"})
    one_of(status(engine.prune("images", {"label": [label]}), 200).json()["ImagesDeleted"], (None, []), "ImagesDeleted")
    answer = status(engine.prune("images", {"label": [label], "dangling": ["false"]}), 200).json()
    contains(answer["ImagesDeleted"], {"Deleted": identity}, "ImagesDeleted with dangling=false")
