"""Pull, push, login, search and distribution against a registry of the suite's own."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

from .. import image
from ..assertions import contains, equal, expect, refused, status
from ..engine import Engine
from ..hub import CONFIG, LAYER, PASSWORD, USER, Hub, credentials, digest, hub
from ..registry import check

PULL = "POST /images/create"
PUSH = "POST /images/{name}/push"
SEARCH = "GET /images/search"
INSPECT = "GET /distribution/{name}/json"
AUTH = "POST /auth"
ANONYMOUS = {"X-Registry-Auth": "e30="}
KNOWN = credentials(username=USER, password=PASSWORD)
Body = Callable[[Engine, Hub, str], None]


def with_hub(body: Body) -> Callable[[Engine], None]:
    """A check with a registry to itself, and the name of a repository there."""

    def run(engine: Engine) -> None:
        with hub(engine.setup.registry_address) as found:
            body(engine, found, f"{found.host}/suite/{engine.name()}")

    run.__name__, run.__module__ = body.__name__, body.__module__
    return run


def path(name: str) -> str:
    return name.partition("/")[2]


def offer(engine: Engine, there: Hub, name: str, tag: str = "1", **changes: Any) -> str:
    """Put an image nobody else has into the registry; its manifest's digest. ``changes``: to the manifest."""
    tar = image.small_layer(tag, f"{name}{engine.name()}")
    config, layer = image.image_config([tar], {}), gzip.compress(tar, mtime=0)
    there.blobs |= {digest(config): config, digest(layer): layer}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": CONFIG, "digest": digest(config), "size": len(config)},
        "layers": [{"mediaType": LAYER, "digest": digest(layer), "size": len(layer)}],
        **changes,
    }
    return there.put(path(name), tag, json.dumps(manifest).encode())


def pulled(engine: Engine, name: str, tag: str, headers: dict[str, str] | None = None) -> list[Any]:
    """What a pull says; the image is removed later."""
    query = {"fromImage": name, **({"tag": tag} if tag else {})}
    response = engine.client.post("/images/create", query, headers=headers or ANONYMOUS)
    engine.remove_later(f"/images/{name}{'@' if ':' in tag else ':'}{tag or 'latest'}", force=1)
    return status(response, 200).json_lines()


def pushed(engine: Engine, name: str, headers: dict[str, str] | None = None, **query: Any) -> list[Any]:
    return status(engine.client.post(f"/images/{name}/push", query, headers=headers or ANONYMOUS), 200).json_lines()


def statuses(lines: list[Any]) -> list[str]:
    return [line.get("status", "") for line in lines]


def tagged(engine: Engine, name: str, tag: str = "1") -> None:
    status(engine.client.post(f"/images/{engine.image}/tag", {"repo": name, "tag": tag}), 201)
    engine.remove_later(f"/images/{name}:{tag}", force=1)


@check(PULL)
@with_hub
def pull_by_tag(engine: Engine, there: Hub, name: str) -> None:
    found = offer(engine, there, name)
    lines = pulled(engine, name, "1")
    equal(lines[0], {"status": f"Pulling from {path(name)}", "id": "1"}, "first line")
    for step in ("Pulling fs layer", "Download complete", "Pull complete"):
        contains(statuses(lines), step, "statuses")
    equal(statuses(lines)[-2:], [f"Digest: {found}", f"Status: Downloaded newer image for {name}:1"], "last lines")
    described = status(engine.client.get(f"/images/{name}:1/json"), 200).json()
    equal((described["RepoTags"], described["RepoDigests"]), ([f"{name}:1"], [f"{name}@{found}"]), "names")
    equal(statuses(pulled(engine, name, "1"))[-1], f"Status: Image is up to date for {name}:1", "again")


@check(PULL)
@with_hub
def pull_by_digest(engine: Engine, there: Hub, name: str) -> None:
    found = offer(engine, there, name)
    lines = pulled(engine, name, found)
    equal(statuses(lines)[-1], f"Status: Downloaded newer image for {name}@{found}", "last line")
    equal(status(engine.client.get(f"/images/{name}@{found}/json"), 200).json()["RepoTags"], [], "tags")


@check(PULL)
@with_hub
def pull_every_tag(engine: Engine, there: Hub, name: str) -> None:
    for tag in ("1", "2"):
        offer(engine, there, name, tag)
        engine.remove_later(f"/images/{name}:{tag}", force=1)
    equal(statuses(pulled(engine, name, ""))[-1], f"Status: Downloaded newer image for {name}", "last line")
    rows = status(engine.client.get("/images/json", {"filters": {"reference": [name]}}), 200).json()
    equal(sorted(tag for row in rows for tag in row["RepoTags"]), [f"{name}:1", f"{name}:2"], "tags")


@check(PULL)
@with_hub
def pull_what_is_not_there(engine: Engine, there: Hub, name: str) -> None:
    response = engine.client.post("/images/create", {"fromImage": name, "tag": "1"}, headers=ANONYMOUS)
    refused(response, 404, f"manifest for {name}:1 not found: manifest unknown: manifest unknown")


@check(PULL)
@with_hub
def pull_of_a_wrong_blob(engine: Engine, there: Hub, name: str) -> None:
    offer(engine, there, name)
    blob = there.manifest(path(name), "1")["layers"][0]["digest"]
    good = there.blobs[blob]
    there.blobs[blob] = good[:-1] + bytes([good[-1] ^ 1])
    text = f"filesystem layer verification failed for digest {blob}"
    equal(pulled(engine, name, "1")[-1], {"errorDetail": {"message": text}, "error": text}, "last line")
    refused(engine.client.get(f"/images/{name}:1/json"), 404, "No such image")
    there.blobs[blob] = good
    equal(statuses(pulled(engine, name, "1"))[-1], f"Status: Downloaded newer image for {name}:1", "with the right one")


@check(PULL)
@with_hub
def pull_of_an_artifact(engine: Engine, there: Hub, name: str) -> None:
    kind = "application/vnd.oci.image.manifest.v1+json"
    there.blobs[digest(b"{}")] = b"{}"
    config = {"mediaType": "application/vnd.example.chart+json", "digest": digest(b"{}"), "size": 2}
    there.put(path(name), "1", json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}).encode(), kind)
    contains(pulled(engine, name, "1")[-1]["error"], "unsupported media type application/vnd.example.chart+json", "error")


@check(PULL)
@with_hub
def pull_with_other_layers_than_the_config_says(engine: Engine, there: Hub, name: str) -> None:
    other = offer(engine, there, name, "other")
    offer(engine, there, name, "1", layers=there.manifest(path(name), other)["layers"])
    equal(pulled(engine, name, "1")[-1]["error"], "layers from manifest don't match image configuration", "error")


@check(PULL)
@with_hub
def pull_with_a_password(engine: Engine, there: Hub, name: str) -> None:
    offer(engine, there, name)
    there.asks = "basic"
    response = engine.client.post("/images/create", {"fromImage": name, "tag": "1"}, headers=ANONYMOUS)
    refused(response, 500, "no basic auth credentials")
    contains(statuses(pulled(engine, name, "1", KNOWN))[-1], "Downloaded newer image", "last line")


@check(PULL)
@with_hub
def pull_with_a_token(engine: Engine, there: Hub, name: str) -> None:
    offer(engine, there, name)
    there.asks = "bearer"
    contains(statuses(pulled(engine, name, "1", KNOWN))[-1], "Downloaded newer image", "last line")
    expect(there.count("GET /token") >= 1, "a token was bought")


@check(PUSH)
@with_hub
def push_and_again(engine: Engine, there: Hub, name: str) -> None:
    tagged(engine, name)
    lines = pushed(engine, name, tag="1")
    equal(lines[0], {"status": f"The push refers to repository [{name}]"}, "first line")
    contains(statuses(lines), "Preparing", "statuses")
    contains(statuses(lines), "Pushed", "statuses")
    kind, content = there.manifests[path(name), "1"]
    equal(lines[-2], {"status": f"1: digest: {digest(content)} size: {len(content)}"}, "the digest's line")
    aux = {"Tag": "1", "Digest": digest(content), "Size": len(content)}
    equal(lines[-1], {"progressDetail": {}, "aux": aux}, "last line")
    manifest = json.loads(content)
    equal((kind, manifest["config"]["digest"]), (manifest["mediaType"], engine.setup.image_id), "manifest")
    for blob in (manifest["config"], *manifest["layers"]):
        equal(len(there.blobs[blob["digest"]]), blob["size"], blob["mediaType"])
    contains(statuses(pushed(engine, name, tag="1")), "Layer already exists", "again")


@check(PUSH)
@with_hub
def push_every_tag(engine: Engine, there: Hub, name: str) -> None:
    for tag in ("1", "2"):
        tagged(engine, name, tag)
    pushed(engine, name)
    equal(sorted(tag for _, tag in there.manifests if ":" not in tag), ["1", "2"], "tags")


@check(PUSH)
@with_hub
def push_of_a_tag_that_is_not_there(engine: Engine, there: Hub, name: str) -> None:
    tagged(engine, name)
    equal(pushed(engine, name, tag="2")[-1]["error"], f"tag does not exist: {name}:2", "error")


@check(PUSH)
@with_hub
def push_keeps_what_was_pulled(engine: Engine, there: Hub, name: str) -> None:
    found = offer(engine, there, name)
    pulled(engine, name, "1")
    contains(statuses(pushed(engine, name, tag="1")), "Layer already exists", "statuses")
    equal(json.loads(there.manifests[path(name), "1"][1])["layers"], there.manifest(path(name), found)["layers"], "layers")


@check(PUSH)
@with_hub
def push_with_a_password(engine: Engine, there: Hub, name: str) -> None:
    tagged(engine, name)
    there.asks = "basic"
    contains(pushed(engine, name, tag="1")[-1]["error"], "no basic auth credentials", "error")
    equal(pushed(engine, name, KNOWN, tag="1")[-1]["aux"]["Tag"], "1", "with it")


@check(INSPECT, since="1.30")
@with_hub
def distribution(engine: Engine, there: Hub, name: str) -> None:
    found = offer(engine, there, name)
    answer = status(engine.client.get(f"/distribution/{name}:1/json", headers=ANONYMOUS), 200).json()
    kind, content = there.manifests[path(name), "1"]
    equal(answer["Descriptor"], {"mediaType": kind, "digest": found, "size": len(content)}, "Descriptor")
    equal([(item["os"], item["architecture"]) for item in answer["Platforms"]], [("linux", "amd64")], "Platforms")
    equal(there.count("GET /v2/" + path(name) + "/blobs/" + there.manifest(path(name), "1")["layers"][0]["digest"]), 0, "layers")


@check(INSPECT, since="1.30")
@with_hub
def distribution_of_what_is_not_there(engine: Engine, there: Hub, name: str) -> None:
    expect(engine.client.get(f"/distribution/{name}:1/json", headers=ANONYMOUS).status in (401, 404, 500), "no success")


@check(AUTH)
@with_hub
def login_with_a_password(engine: Engine, there: Hub, name: str) -> None:
    there.asks = "basic"
    body = {"username": USER, "password": PASSWORD, "serveraddress": there.host}
    equal(status(engine.client.post("/auth", body=body), 200).json()["Status"], "Login Succeeded", "Status")
    wrong = engine.client.post("/auth", body={**body, "password": "wrong"})
    refused(wrong, (401, 500), f"login attempt to http://{there.host}/v2/ failed with status: 401 Unauthorized")


@check(AUTH)
@with_hub
def login_with_a_token_server(engine: Engine, there: Hub, name: str) -> None:
    there.asks = "bearer"
    body = {"username": USER, "password": PASSWORD, "serveraddress": there.host}
    equal(status(engine.client.post("/auth", body=body), 200).json()["Status"], "Login Succeeded", "Status")
    refused(engine.client.post("/auth", body={**body, "password": "wrong"}), 401, "unauthorized: incorrect username or password")


@check(SEARCH)
@with_hub
def search_an_index(engine: Engine, there: Hub, name: str) -> None:
    there.results = [
        {"name": "a", "description": "first", "star_count": 5, "is_official": True, "is_automated": True},
        {"name": "b", "description": "second", "star_count": 1, "is_official": False},
    ]

    def names(**filters: list[str]) -> list[str]:
        query = {"term": f"{there.host}/x", "filters": {key.replace("_", "-"): value for key, value in filters.items()}}
        return [row["name"] for row in status(engine.client.get("/images/search", query), 200).json()]

    equal(names(), ["a", "b"], "all")
    equal(names(stars=["2"]), ["a"], "stars=2")
    equal((names(is_official=["true"]), names(is_official=["false"])), (["a"], ["b"]), "is-official")


@check(SEARCH)
@with_hub
def search_refuses(engine: Engine, there: Hub, name: str) -> None:
    query = {"term": f"{there.host}/x", "filters": {"stars": ["many"]}}
    refused(engine.client.get("/images/search", query), 400, "invalid filter 'stars=many'")
