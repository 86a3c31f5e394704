"""/images over HTTP with a real store: statuses, texts, both filter forms, streams. Needs root."""

import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from compat_engine.images.images import Images
from tests.api.conftest import Api
from tests.support.tars import Item, body, digest, docker_archive, read, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
LAYER = tar(Item("f", b"content"))
ARCHIVE = docker_archive(LAYER, tags=("one:1", "one:2", "a/b/c:3"), config={"Labels": {"k": "v"}, "Env": ["A=b"]})
ID = digest(read(ARCHIVE)["config.json"])


@pytest.fixture
async def images(api: Api) -> AsyncIterator[Api]:
    store = await Images.open(api.engine.tree, api.engine.records)
    api.engine.images = store
    async for _ in store.load(body(ARCHIVE)):
        pass
    yield api
    await store.close()


def filtered(**filters: Any) -> str:
    return f"/images/json?filters={quote(json.dumps(filters))}"


@pytest.mark.parametrize("name", ["one:1", "a/b/c:3", "docker.io/library/one:2", ID, ID[7:], ID[7:19]])
async def test_names_with_slashes_tags_and_ids(images: Api, name: str) -> None:
    found = (await images.call("GET", f"/images/{name}/json")).json
    assert found["Id"] == ID
    assert found["RepoTags"] == ["a/b/c:3", "one:1", "one:2"]
    assert found["RootFS"] == {"Type": "layers", "Layers": [digest(LAYER)]}
    assert os.path.isfile(f"{found['GraphDriver']['Data']['UpperDir']}/f")


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/images/nosuch/json", 404, "No such image: nosuch:latest"),
        ("DELETE", "/images/nosuch", 404, "No such image: nosuch:latest"),
        ("GET", "/images/nosuch/get", 404, "No such image: nosuch"),
        ("POST", "/images/one:1/tag?repo=sha256", 400, "refusing to create an ambiguous tag using digest algorithm as name"),
        ("POST", "/images/one:1/tag?repo=X", 400, "invalid reference format: repository name (library/X) must be lowercase"),
        ("GET", filtered(nosuch=["x"]), 400, "invalid filter 'nosuch'"),
        ("GET", filtered(dangling=["x"]), 400, "invalid filter 'dangling=[x]'"),
        ("GET", filtered(reference=["["]), 400, "syntax error in pattern"),
        ("POST", "/images/create?fromSrc=-&changes=FOO", 400, "FOO is not a valid change command"),
        (
            *("POST", "/images/create?fromSrc=-&platform=bogus", 400),
            '"bogus": unknown operating system or architecture: invalid argument',
        ),
        ("POST", "/images/create?fromSrc=-&platform=windows/amd64", 400, "operating system is not supported"),
        ("DELETE", "/v1.50/images/one:1?platforms={}&platforms={}", 400, "multiple platforms are not supported"),
    ],
)
async def test_refusals(images: Api, method: str, path: str, status: int, message: str) -> None:
    answer = await images.call(method, path)
    assert (answer.status, answer.message) == (status, message)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"reference": ["one"]}, ["one:1", "one:2"]),
        ({"reference": {"one:[2-9]": True}}, ["one:2"]),
        ({"reference": ["a/*"]}, None),
        ({"reference": ["a/*/*"]}, ["a/b/c:3"]),
        ({"label": ["k=v"]}, ["a/b/c:3", "one:1", "one:2"]),
        ({"label": ["k=x"]}, None),
        ({"dangling": ["true"]}, None),
        ({"until": ["2023-01-01T00:00:00Z"]}, None),
        ({"since": ["one:1"]}, None),
    ],
)
async def test_filters(images: Api, filters: dict[str, Any], found: list[str] | None) -> None:
    listed = (await images.call("GET", filtered(**filters))).json
    assert [image["RepoTags"] for image in listed] == ([] if found is None else [found])


async def test_load_save_remove(images: Api) -> None:
    saved = await images.call("GET", "/images/get?names=one:1&names=a/b/c:3")
    assert saved.headers["Content-Type"] == "application/x-tar"
    assert json.loads(read(saved.body)["manifest.json"])[0]["RepoTags"] == ["one:1", "a/b/c:3"]
    assert (await images.call("DELETE", "/images/one:2")).json == [{"Untagged": "one:2"}]
    gone = (await images.call("DELETE", f"/images/{ID}?force=1")).json
    assert gone == [{"Untagged": "a/b/c:3"}, {"Untagged": "one:1"}, {"Deleted": ID}, {"Deleted": digest(LAYER)}]
    loaded = await images.call("POST", "/images/load", saved.body, Content_Type="application/x-tar")
    assert loaded.headers["Transfer-Encoding"] == "chunked"
    assert loaded.body == b'{"stream":"Loaded image: one:1\\n"}\r\n{"stream":"Loaded image: a/b/c:3\\n"}\r\n'


async def test_a_container_keeps_its_image(images: Api) -> None:
    container = await images.container()
    await images.engine.containers.erase(container)
    images.engine.containers.forget(container)
    record = replace(container.record, image=ID)
    with images.engine.containers.reserve("c", record.id):
        await images.engine.containers.add(record, lambda: None)
    refused = await images.call("DELETE", f"/images/{ID}")
    assert (refused.status, "must be forced" in refused.message) == (409, True)
    pruned = (await images.call("POST", f"/images/prune?filters={quote(json.dumps({'dangling': ['false']}))}")).json
    assert not any("Deleted" in item for item in pruned["ImagesDeleted"] or [])


async def test_import(images: Api) -> None:
    answer = await images.call(
        "POST", "/images/create?fromSrc=-&repo=new&tag=9&message=m", LAYER, Content_Type="application/x-tar"
    )
    id = answer.json["status"]
    assert (await images.call("GET", "/images/new:9/history")).json[0] | {"Created": 0} == {
        "Comment": "m", "Created": 0, "CreatedBy": "", "Id": id, "Size": 7, "Tags": ["new:9"],
    }  # fmt: skip


async def test_manifests_from_the_version_that_has_them(images: Api) -> None:
    [entry] = (await images.call("GET", "/v1.47/images/json?manifests=1")).json
    [manifest] = entry["Manifests"]
    assert (manifest["Kind"], manifest["Available"]) == ("image", True)
    assert manifest["ImageData"]["Platform"] == {"architecture": "amd64", "os": "linux"}
    assert manifest["Size"]["Total"] == manifest["Size"]["Content"] + entry["Size"]
    assert "Manifests" not in (await images.call("GET", "/v1.46/images/json?manifests=1")).json[0]
    assert "Manifests" not in (await images.call("GET", "/v1.47/images/json")).json[0]
    assert (await images.call("GET", "/v1.48/images/one:1/json?manifests=1")).json["Manifests"] == [manifest]


@pytest.mark.parametrize("path", ["/images/one:1/history", "/images/one:1/get", "/images/get?names=one:1", "/images/one:1/json"])
async def test_another_platform_is_refused_from_the_version_that_asks(images: Api, path: str) -> None:
    asked = f"{path}{'&' if '?' in path else '?'}platform={quote(json.dumps({'os': 'linux', 'architecture': 'arm64'}))}"
    refused = await images.call("GET", f"/v1.49{asked}")
    wanted = "was found but does not match the specified platform: wanted linux/arm64, actual: linux/amd64"
    assert (refused.status, wanted in refused.message) == (404, True)
    assert (await images.call("GET", f"/v1.47{asked}")).status == 200


async def test_removing_an_image_of_another_platform(images: Api) -> None:
    asked = f"/images/one:1?platforms={quote(json.dumps({'os': 'linux', 'architecture': 'arm64'}))}"
    refused = await images.call("DELETE", f"/v1.50{asked}")
    assert (refused.status, "wanted linux/arm64, actual: linux/amd64" in refused.message) == (404, True)
    assert (await images.call("DELETE", f"/v1.49{asked}")).json == [{"Untagged": "one:1"}]
    older = quote(json.dumps({"os": "linux", "architecture": "amd64", "variant": "v3"}))
    assert (await images.call("GET", f"/v1.49/images/one:2/json?platform={older}")).status == 200


async def test_load_for_a_platform(images: Api) -> None:
    other = docker_archive(LAYER, tags=("arm:1",), architecture="arm64")
    asked = f"/v1.48/images/load?platform={quote(json.dumps({'os': 'linux', 'architecture': 'amd64'}))}"
    refused = await images.call("POST", asked, other, Content_Type="application/x-tar")
    assert (refused.status, b"no image for platform linux/amd64 in the archive" in refused.body) == (200, True)
    assert b"arm:1" in (await images.call("POST", asked.replace("amd64", "arm64"), other, Content_Type="application/x-tar")).body
