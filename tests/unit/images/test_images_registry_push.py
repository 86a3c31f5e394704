"""Pushes to a registry that has some of it, fails, or refuses; and questions to one."""

import gzip
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from compat_engine.config import Config, Settings
from compat_engine.errors import EngineError, Internal, Unauthorized
from compat_engine.images.images import Image, Images
from compat_engine.images.reference import Reference, parse
from compat_engine.images.registry.auth import ANONYMOUS, Credentials
from compat_engine.images.registry.login import inspect, login
from compat_engine.images.registry.pull import Wanted, pull
from compat_engine.images.registry.push import Offered, push
from compat_engine.images.registry.registries import Registries
from compat_engine.images.registry.search import search
from compat_engine.store.records import Records
from compat_engine.store.tree import Tree
from tests.support.fake_registry import FakeRegistry, basic, fake_registry
from tests.support.tars import COMPRESSORS, Item, body, digest, docker_archive, oci_layout, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
AMD64 = ("linux", "amd64", "")
ONE, TWO = tar(Item("one", b"1" * 100_000)), tar(Item("two", b"2"))


class Store:
    """A store with a registry client; `said` is what the last push said."""

    def __init__(self, directory: Path, images: Images) -> None:
        self.images = images
        self.registries = Registries(Settings(Config()), images.library, pause=0.01)
        self.said: list[dict[str, Any]] = []

    async def load(self, archive: bytes) -> None:
        async for _ in self.images.load(body(archive)):
            pass

    async def tag(self, word: str, name: str) -> None:
        await self.images.tag(self.images.find(word), parse(name))

    async def push(self, name: str, credentials: Credentials = ANONYMOUS) -> None:
        self.said.clear()

        def pushed(reference: Reference, image: Image) -> None:
            assert self.images.find(str(reference)).id == image.id

        await push(self.registries, Offered(parse(name), None, credentials), pushed, self.said.append)

    async def pull(self, name: str) -> None:
        await pull(self.registries, Wanted(parse(name), AMD64, ANONYMOUS), lambda reference, image: None, lambda line: None)

    async def fails(self, name: str, kind: type[EngineError] = Internal) -> str:
        with pytest.raises(kind) as caught:
            await self.push(name)
        return str(caught.value)

    def steps(self) -> list[str]:
        """What was said of layers without bars, as "id status"."""
        return [f"{line['id']} {line['status']}" for line in self.said if "id" in line and "progress" not in line]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    tree = Tree(tmp_path / "data", tmp_path / "exec")
    tree.data.mkdir()
    records = Records(tree.database)
    images = await Images.open(tree, records)
    store = Store(tmp_path, images)
    yield store
    await store.registries.close()
    await images.close()
    records.close()


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with fake_registry() as registry:
        yield registry


def short(layer: bytes) -> str:
    return digest(layer)[7:19]


async def test_a_loaded_image_goes_as_gzip_and_is_known_the_next_time(store: Store, registry: FakeRegistry) -> None:
    name = f"{registry.host}/a/b:1"
    await store.load(docker_archive(ONE, TWO, tags=(name,)))
    await store.push(name)
    manifest = json.loads(registry.manifests["a/b", "1"][1])
    assert [layer["mediaType"] for layer in manifest["layers"]] == ["application/vnd.docker.image.rootfs.diff.tar.gzip"] * 2
    found = digest(registry.manifests["a/b", "1"][1])
    size = len(registry.manifests["a/b", "1"][1])
    assert store.said[0] == {"status": f"The push refers to repository [{registry.host}/a/b]"}
    assert store.steps()[:2] == [f"{short(TWO)} Preparing", f"{short(ONE)} Preparing"]
    assert sorted(store.steps()[2:]) == sorted([f"{short(TWO)} Pushed", f"{short(ONE)} Pushed"])
    assert store.said[-2:] == [
        {"status": f"1: digest: {found} size: {size}"},
        {"progressDetail": {}, "aux": {"Tag": "1", "Digest": found, "Size": size}},
    ]
    assert store.images.digests(store.images.find(name).id) == [f"{registry.host}/a/b@{found}"]
    registry.seen.clear()
    await store.push(name)
    assert sorted(store.steps()[2:]) == sorted([f"{short(TWO)} Layer already exists", f"{short(ONE)} Layer already exists"])
    assert registry.count("POST") == registry.count("PATCH") == 0
    await store.tag(name, f"{registry.host}/c:2")
    registry_blobs = dict(registry.blobs)
    registry.on_any = only_mounts
    await store.push(f"{registry.host}/c:2")
    assert store.steps()[2:] == [f"{short(TWO)} Mounted from a/b", f"{short(ONE)} Mounted from a/b"]
    assert registry.blobs == registry_blobs


async def only_mounts(request: web.BaseRequest) -> web.StreamResponse | None:
    """A registry that has no layer in this repository yet."""
    if request.method == "HEAD" and "/blobs/" in request.path:
        return web.Response(status=404)
    return None


@pytest.mark.parametrize("compress", ["gzip", "zstd", "plain"])
async def test_a_pulled_image_goes_on_as_it_came(store: Store, registry: FakeRegistry, compress: str) -> None:
    found = registry.add("a/b", "1", ONE, TWO, compress=COMPRESSORS[compress])
    await store.pull(f"{registry.host}/a/b:1")
    async with fake_registry() as other:
        await store.tag(f"{registry.host}/a/b:1", f"{other.host}/x:2")
        await store.push(f"{other.host}/x:2")
        assert digest(other.manifests["x", "2"][1]) == found
        assert other.blobs == registry.blobs


async def test_plain_layers_of_an_archive_are_packed_though_it_has_a_manifest(store: Store, registry: FakeRegistry) -> None:
    name = f"{registry.host}/a/b:1"
    archive, manifest = oci_layout(ONE, TWO, name=name, compress="plain")
    await store.load(archive)
    for _ in range(2):
        await store.push(name)
        pushed = json.loads(registry.manifests["a/b", "1"][1])
        assert [layer["mediaType"][-4:] for layer in pushed["layers"]] == ["gzip"] * 2
    archive, manifest = oci_layout(ONE, TWO, name=name.replace(":1", ":2"), compress="gzip", author="somebody")
    await store.load(archive)
    await store.push(name.replace(":1", ":2"))
    assert digest(registry.manifests["a/b", "2"][1]) == manifest


async def test_all_tags_and_none(store: Store, registry: FakeRegistry) -> None:
    names = (f"{registry.host}/a/b:1", f"{registry.host}/a/b:2")
    await store.load(docker_archive(ONE, tags=names))
    await store.push(f"{registry.host}/a/b")
    assert [line["aux"]["Tag"] for line in store.said if "aux" in line] == ["1", "2"]
    assert await store.fails(f"{registry.host}/a/b:3") == f"tag does not exist: {registry.host}/a/b:3"
    missing = f"{registry.host}/nothing"
    assert await store.fails(missing) == f"An image does not exist locally with the tag: {missing}"


async def test_an_upload_that_breaks_is_tried_again(store: Store, registry: FakeRegistry) -> None:
    name = f"{registry.host}/a/b:1"
    await store.load(docker_archive(ONE, tags=(name,)))
    left = 3

    async def fail(request: web.BaseRequest) -> web.StreamResponse | None:
        nonlocal left
        if request.method != "PATCH" or not left:
            return None
        left -= 1
        if left == 1:
            assert request.transport is not None
            request.transport.close()
        return web.Response(status=503)

    registry.on_any = fail
    await store.push(name)
    assert left == 0
    assert f"{short(ONE)} Retrying in 1 second" in store.steps()


class Breaking:
    """Cuts the first upload off after `length` bytes of it, and answers the requests of `lies` (method: status) as they say, once."""

    def __init__(self, registry: FakeRegistry, length: int, **lies: int) -> None:
        self._registry, self._length, self._lies = registry, length, lies

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse | None:
        if "/blobs/uploads/" not in request.path:
            return None
        if request.method == "PATCH" and self._length:
            length, self._length = self._length, 0
            self._registry.uploads[request.path.rpartition("/")[2]] += await request.content.readexactly(length)
            assert request.transport is not None
            request.transport.close()
            return web.Response(status=503)
        if request.method in self._lies and not self._length:
            return web.Response(status=self._lies.pop(request.method), headers={"Range": "0-9"})
        return None


NOISE = tar(Item("noise", os.urandom(600_000)), Item("zeros", bytes(50_000)))


@pytest.mark.parametrize("packed", [True, False])
async def test_an_upload_goes_on_where_it_broke_off(store: Store, registry: FakeRegistry, packed: bool) -> None:
    name, length = f"{registry.host}/a/b:1", 345_678
    archive = docker_archive(NOISE, tags=(name,)) if packed else oci_layout(NOISE, name=name, compress="gzip")[0]
    await store.load(archive)
    registry.on_any = Breaking(registry, length)
    await store.push(name)
    assert registry.count("POST") == 2  # the layer's and the configuration's
    first, second = (headers for seen, headers in zip(registry.seen, registry.headers, strict=True) if seen.startswith("PATCH"))
    if packed:
        assert "Content-Range" not in second  # nobody knows how much it will be
    else:
        size = int(first["Content-Length"])
        assert (second["Content-Range"], second["Content-Length"]) == (f"{length}-{size - 1}", str(size - length))
    [layer] = registry.layers("a/b", "1")
    assert gzip.decompress(registry.blobs[layer]) == NOISE
    last = [line for line in store.said if "progress" in line][-1]
    assert last["progressDetail"]["current"] == (len(NOISE) if packed else size)


@pytest.mark.parametrize("lies", [{"GET": 404}, {"GET": 200}, {"PATCH": 416}, {"PATCH": 404}, {"GET": 204}, {"PUT": 400}])
async def test_an_upload_that_cannot_go_on_starts_anew(store: Store, registry: FakeRegistry, lies: dict[str, int]) -> None:
    name = f"{registry.host}/a/b:1"
    await store.load(oci_layout(NOISE, name=name, compress="gzip")[0])
    registry.on_any = Breaking(registry, 345_678, **lies)
    await store.push(name)
    assert registry.count("POST") == 3
    [layer] = registry.layers("a/b", "1")
    assert gzip.decompress(registry.blobs[layer]) == NOISE


async def test_a_registry_that_never_gets_on_is_given_up(store: Store, registry: FakeRegistry) -> None:
    """It takes a lot each time, but not the rest."""
    name = f"{registry.host}/a/b:1"
    await store.load(docker_archive(tar(Item("noise", os.urandom(3 << 20))), tags=(name,)))

    async def fail(request: web.BaseRequest) -> web.StreamResponse | None:
        if request.method != "PATCH":
            return None
        odd = registry.count("PATCH") % 2
        return await Breaking(registry, 2 << 20)(request) if odd else web.Response(status=416)

    registry.on_any = fail
    assert await store.fails(name)
    assert registry.count("PATCH") < 10


async def test_who_may_not_push(store: Store, registry: FakeRegistry) -> None:
    name = f"{registry.host}/a/b:1"
    await store.load(docker_archive(ONE, tags=(name,)))

    async def guard(request: web.BaseRequest) -> web.StreamResponse | None:
        given = request.headers.get("Authorization")
        if given == basic("me", "secret"):
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    registry.on_any = guard
    assert await store.fails(name) == "no basic auth credentials"
    with pytest.raises(Unauthorized, match="unauthorized: "):
        await store.push(name, Credentials("me", "wrong"))
    await store.push(name, Credentials("me", "secret"))
    server = f"https://{registry.host}/v1/"
    assert await login(store.registries, Credentials("me", "secret", server=server)) == ""
    with pytest.raises(Internal, match=r"login attempt to http://127.0.0.1:.*/v2/ failed with status: 401 Unauthorized"):
        await login(store.registries, Credentials("me", "wrong", server=server))


async def test_an_upload_taken_elsewhere_gets_no_credentials(store: Store, registry: FakeRegistry) -> None:
    name = f"{registry.host}/a/b:1"
    await store.load(docker_archive(ONE, tags=(name,)))
    async with fake_registry() as storage:
        storage.blobs, storage.uploads = registry.blobs, registry.uploads

        async def guard(request: web.BaseRequest) -> web.StreamResponse | None:
            if request.headers.get("Authorization") != basic("me", "secret"):
                return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
            if request.method != "POST":
                return None
            id = str(len(registry.uploads))
            registry.uploads[id] = bytearray()
            location = f"http://localhost:{storage.port}/v2/a/b/blobs/uploads/{id}?state=x%2Fy"
            return web.Response(status=202, headers={"Location": location})

        registry.on_any = guard
        await store.push(name, Credentials("me", "secret"))
        assert storage.count("PATCH") == 1 and storage.count("PUT") == 2
        assert not any("Authorization" in headers for headers in storage.headers)


async def test_login_with_a_token_server(store: Store, registry: FakeRegistry) -> None:
    async def guard(request: web.BaseRequest) -> web.StreamResponse | None:
        if request.path == "/token":
            if request.headers.get("Authorization") != basic("me", "secret"):
                return web.json_response({"details": "incorrect username or password"}, status=401)
            assert request.query["offline_token"] == "true"
            return web.json_response({"token": "t", "refresh_token": "the identity"})
        if request.headers.get("Authorization") == "Bearer t":
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{registry.host}/token",service="s"'})

    registry.on_any = guard
    assert await login(store.registries, Credentials("me", "secret", server=registry.host)) == "the identity"
    with pytest.raises(Unauthorized, match=r'Get "http://.*/v2/": unauthorized: incorrect username or password'):
        await login(store.registries, Credentials("me", "wrong", server=registry.host))


async def test_inspecting_what_is_there(store: Store, registry: FakeRegistry) -> None:
    found = {platform: registry.add("a/b", platform[1], ONE, platform=platform) for platform in (AMD64, ("linux", "arm", "v7"))}
    index = registry.index("a/b", "all", found)
    answer = await inspect(store.registries, parse(f"{registry.host}/a/b:all"), ANONYMOUS)
    assert answer["Descriptor"]["digest"] == index
    assert answer["Platforms"] == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm", "variant": "v7"},
    ]
    answer = await inspect(store.registries, parse(f"{registry.host}/a/b:arm"), ANONYMOUS)
    assert answer["Platforms"] == [{"architecture": "arm", "os": "linux", "variant": "v7"}]


async def test_search(store: Store, registry: FakeRegistry) -> None:
    async def index(request: web.BaseRequest) -> web.StreamResponse | None:
        assert dict(request.query) == {"q": "bus y", "n": "7"}
        return web.json_response({"results": [{"name": "busybox", "star_count": 3, "is_automated": True, "other": 1}]})

    registry.on_any = index
    answer = await search(store.registries, f"{registry.host}/bus y", 7, ANONYMOUS)
    assert answer == [{"name": "busybox", "description": "", "is_official": False, "star_count": 3, "is_automated": False}]
    registry.on_any = None
    with pytest.raises(Internal, match="Unexpected status code 404"):
        await search(store.registries, f"{registry.host}/x", 7, ANONYMOUS)

    async def page(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(text="<html>")

    registry.on_any = page
    with pytest.raises(Internal, match="error decoding registry search results"):
        await search(store.registries, f"{registry.host}/x", 7, ANONYMOUS)


@pytest.mark.parametrize("status, reason", [(404, "404 Not Found"), (500, "500 Internal Server Error")])
async def test_login_where_there_is_none(store: Store, registry: FakeRegistry, status: int, reason: str) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(status=status)

    registry.on_any = answer
    with pytest.raises(Internal, match=f"login attempt to http://{registry.host}/v2/ failed with status: {reason}"):
        await login(store.registries, Credentials("me", "secret", server=registry.host))


STEPS = {
    "HEAD": "/v2/a/b/blobs/",
    "POST": "/v2/a/b/blobs/uploads/",
    "PATCH": "/v2/a/b/blobs/uploads/",
    "PUT": "/v2/a/b/blobs/uploads/",
    "PUT manifest": "/v2/a/b/manifests/",
}


@pytest.mark.parametrize("step", STEPS)
async def test_a_token_that_ends_in_the_middle(store: Store, registry: FakeRegistry, step: str) -> None:
    name = f"{registry.host}/a/b:1"
    await store.load(docker_archive(ONE, tags=(name,)))
    sold, ended = 0, False

    async def guard(request: web.BaseRequest) -> web.StreamResponse | None:
        nonlocal sold, ended
        if request.path == "/token":
            sold += 1
            return web.json_response({"token": f"t{sold}", "expires_in": 300})
        given = request.headers.get("Authorization")
        if given and request.method == step.split()[0] and request.path.startswith(STEPS[step]) and not ended:
            await request.read()
            ended, given = True, ""
        if given == f"Bearer t{sold}":
            return None
        challenge = f'Bearer realm="http://{registry.host}/token",error="invalid_token"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    registry.on_any = guard
    await store.push(name)
    assert (sold, ended, ("a/b", "1") in registry.manifests) == (2, True, True)
