"""Pulls from a registry that fails, lies or dawdles: what is in the store afterwards, and what was asked of the registry."""

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from compat_engine.config import Config, Settings
from compat_engine.errors import EngineError, Internal, NotFound
from compat_engine.images.images import Image, Images
from compat_engine.images.library import check_fits
from compat_engine.images.reference import Reference, parse
from compat_engine.images.registry import http
from compat_engine.images.registry.auth import ANONYMOUS, Credentials
from compat_engine.images.registry.pull import Wanted, pull
from compat_engine.images.registry.registries import Registries
from compat_engine.kernel.mounts import MNT_DETACH, MS_REMOUNT, mount, umount2
from compat_engine.store.records import Records
from compat_engine.store.tree import Tree
from tests.support.fake_registry import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, FakeRegistry, basic, cut, fake_registry, ranged
from tests.support.tars import COMPRESSORS, Item, digest, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
AMD64 = ("linux", "amd64", "")
ONE, TWO = tar(Item("one", b"1")), tar(Item("two", b"2"))
NOISE = tar(Item("noise", random.Random(1).randbytes(3 << 20)))  # compresses to more than a megabyte


@dataclass
class Puller:
    """A store with a registry client; `said` is what the last pull said."""

    directory: Path
    config: Config = field(default_factory=Config)
    said: list[dict[str, Any]] = field(default_factory=list)

    async def open(self) -> "Puller":
        self.tree = Tree(self.directory / "data", self.directory / "exec")
        self.tree.data.mkdir(exist_ok=True)
        self.records = Records(self.tree.database)
        self.images = await Images.open(self.tree, self.records)
        self.registries = Registries(Settings(self.config), self.images.library, pause=0.01)
        return self

    async def close(self) -> None:
        await self.registries.close()
        await self.images.close()
        self.records.close()

    async def pull(self, name: str, platform: tuple[str, str, str] = AMD64, credentials: Credentials = ANONYMOUS) -> Image | None:
        self.said.clear()
        found: list[Image] = []

        def pulled(_: Reference, image: Image) -> None:
            found.append(image)

        await pull(self.registries, Wanted(parse(name), platform, credentials), pulled, self.said.append)
        return found[-1] if found else None

    async def fails(self, name: str, kind: type[EngineError] = Internal, **more: Any) -> str:
        """The message of a pull that must fail; nothing of it may be in the store."""
        before = {image.id for image in self.images.all()}
        with pytest.raises(kind) as caught:
            await self.pull(name, **more)
        assert {image.id for image in self.images.all()} == before
        assert os.listdir(self.tree.tmp) == []
        return str(caught.value)

    def statuses(self, digest: str) -> list[str]:
        """What was said of one layer, repetitions left out."""
        lines = [line["status"] for line in self.said if line.get("id") == digest[7:19]]
        return [line for number, line in enumerate(lines) if number == 0 or lines[number - 1] != line]

    def partial(self, digest: str) -> Path:
        return self.tree.downloads / digest.removeprefix("sha256:")


@pytest.fixture
async def puller(tmp_path: Path) -> AsyncIterator[Puller]:
    puller = await Puller(tmp_path).open()
    yield puller
    await puller.close()


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with fake_registry() as registry:
        yield registry


async def test_an_image_arrives_whole(puller: Puller, registry: FakeRegistry) -> None:
    digest = registry.add("a/b", "1", ONE, TWO)
    name = f"{registry.host}/a/b"
    image = await puller.pull(f"{name}:1")
    assert image is not None and puller.images.find(f"{name}:1") == image
    assert puller.images.digests(image.id) == [f"{name}@{digest}"]
    top = Path(puller.images.directories(image)[0])
    assert (top / "two").read_bytes() == b"2"
    assert puller.said[0] == {"status": "Pulling from a/b", "id": "1"}
    assert puller.said[-2:] == [{"status": f"Digest: {digest}"}, {"status": f"Status: Downloaded newer image for {name}:1"}]
    steps = ["Pulling fs layer", "Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pull complete"]
    assert puller.statuses(registry.layers("a/b", "1")[0]) == steps
    assert os.listdir(puller.tree.downloads) == [] == os.listdir(puller.tree.tmp)


async def test_what_is_known_is_not_asked_for_again(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", ONE)
    await puller.pull(f"{registry.host}/a/b:1")
    registry.seen.clear()
    await puller.pull(f"{registry.host}/a/b:1")
    assert registry.seen == ["GET /v2/", "HEAD /v2/a/b/manifests/1"]
    assert puller.said[-1]["status"].startswith("Status: Image is up to date")
    registry.add("a/b", "2", ONE, TWO)
    registry.seen.clear()
    await puller.pull(f"{registry.host}/a/b:2")
    assert registry.count("GET /v2/a/b/blobs") == 2  # the configuration and the layer that is new
    assert puller.statuses(registry.layers("a/b", "2")[0]) == ["Already exists"]


async def test_all_tags(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", ONE)
    registry.add("a/b", "2", TWO)
    await puller.pull(f"{registry.host}/a/b")
    assert sorted(tag for image in puller.images.all() for tag in puller.images.tags(image.id)) == [
        f"{registry.host}/a/b:1",
        f"{registry.host}/a/b:2",
    ]
    assert "name unknown" in await puller.fails(f"{registry.host}/a/c", NotFound)


@pytest.mark.parametrize("compress", COMPRESSORS)
async def test_every_compression(puller: Puller, registry: FakeRegistry, compress: str) -> None:
    registry.add("a/b", "1", ONE, TWO, compress=COMPRESSORS[compress])
    assert await puller.pull(f"{registry.host}/a/b:1")


async def test_one_layer_twice(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", ONE, TWO, ONE)
    image = await puller.pull(f"{registry.host}/a/b:1")
    assert image is not None and [len(os.listdir(path)) for path in puller.images.directories(image)] == [1, 1, 1]


async def test_a_wrong_digest_changes_nothing(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", ONE, NOISE)
    layer = registry.layers("a/b", "1")[1]
    registry.blobs[layer] = registry.blobs[layer][:-9] + b"different"
    assert await puller.fails(f"{registry.host}/a/b:1") == f"filesystem layer verification failed for digest {layer}"
    assert not puller.partial(layer).exists()
    assert puller.images.all() == []


@pytest.mark.parametrize("size, text", [(-5, "longer"), (5, "shorter")])
async def test_a_wrong_size(puller: Puller, registry: FakeRegistry, size: int, text: str) -> None:
    registry.add("a/b", "1", ONE)
    manifest = json.loads(registry.manifests["a/b", "1"][1])
    manifest["layers"][0]["size"] += size
    registry.put("a/b", "1", OCI_MANIFEST, json.dumps(manifest).encode())
    assert text in await puller.fails(f"{registry.host}/a/b:1")


async def test_other_content_than_the_configuration_says(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", ONE)
    registry.add("a/b", "2", TWO)
    manifest, other = (json.loads(registry.manifests["a/b", tag][1]) for tag in ("1", "2"))
    manifest["layers"] = other["layers"]
    registry.put("a/b", "1", OCI_MANIFEST, json.dumps(manifest).encode())
    assert "layers from manifest don't match image configuration" in await puller.fails(f"{registry.host}/a/b:1")
    manifest["layers"] = []
    registry.put("a/b", "1", OCI_MANIFEST, json.dumps(manifest).encode())
    assert "layers from manifest don't match image configuration" in await puller.fails(f"{registry.host}/a/b:1")


async def test_a_broken_line_is_taken_up_where_it_broke(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", NOISE)
    ranges: list[str] = []

    async def break_off(request: web.BaseRequest, content: bytes) -> web.StreamResponse | None:
        if len(content) < 1 << 20:
            return None
        ranges.append(request.headers.get("Range", ""))
        return await cut(request, content, 1 << 20) if len(ranges) == 1 else ranged(request, content)

    registry.on_blob = break_off
    assert await puller.pull(f"{registry.host}/a/b:1")
    assert ranges == ["", f"bytes={1 << 20}-"]
    assert any(line["status"].startswith("Retrying in") for line in puller.said)


async def test_a_registry_that_knows_no_ranges(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", NOISE)
    answers = 0

    async def whole(request: web.BaseRequest, content: bytes) -> web.StreamResponse | None:
        nonlocal answers
        if len(content) < 1 << 20:
            return None
        answers += 1
        return await cut(request, content, 1 << 20) if answers == 1 else web.Response(body=content)

    registry.on_blob = whole
    assert await puller.pull(f"{registry.host}/a/b:1")
    assert answers == 2


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_failures_that_pass(puller: Puller, registry: FakeRegistry, status: int) -> None:
    registry.add("a/b", "1", ONE)
    layer = registry.layers("a/b", "1")[0]
    left = 4

    async def refuse(request: web.BaseRequest, content: bytes) -> web.StreamResponse | None:
        nonlocal left
        if layer not in request.path or not left:
            return None
        left -= 1
        return web.Response(status=status)

    registry.on_blob = refuse
    assert await puller.pull(f"{registry.host}/a/b:1")
    assert left == 0


async def test_failures_that_stay(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", ONE)
    layer = registry.layers("a/b", "1")[0]

    async def refuse(request: web.BaseRequest, content: bytes) -> web.StreamResponse | None:
        return web.Response(status=503) if layer in request.path else None

    registry.on_blob = refuse
    assert await puller.fails(f"{registry.host}/a/b:1") == "received unexpected HTTP status: 503 Service Unavailable"
    assert registry.count(f"GET /v2/a/b/blobs/{layer}") == 5
    del registry.blobs[layer]
    assert await puller.fails(f"{registry.host}/a/b:1") == "unknown blob"


async def test_a_restart_goes_on_from_what_is_there(tmp_path: Path, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", NOISE)
    layer = registry.layers("a/b", "1")[0]
    stopped = asyncio.Event()

    async def dawdle(request: web.BaseRequest, content: bytes) -> web.StreamResponse | None:
        if layer not in request.path:
            return None
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[: 2 << 20])
        await stopped.wait()
        return response

    registry.on_blob = dawdle
    first = await Puller(tmp_path).open()
    task = asyncio.create_task(first.pull(f"{registry.host}/a/b:1"))
    while not first.partial(layer).exists() or first.partial(layer).stat().st_size < 2 << 20:
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert os.listdir(first.tree.tmp) == []
    await first.close()
    stopped.set()
    registry.on_blob = None
    second = await Puller(tmp_path).open()
    try:
        assert second.partial(layer).stat().st_size == 2 << 20
        assert await second.pull(f"{registry.host}/a/b:1")
        assert registry.headers[-1]["Range"] == f"bytes={2 << 20}-"
        assert not second.partial(layer).exists()
    finally:
        await second.close()


async def test_a_spoilt_remainder_is_thrown_away(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", NOISE)
    layer = registry.layers("a/b", "1")[0]
    puller.partial(layer).write_bytes(b"\x1f\x8bnot what it was")
    assert await puller.pull(f"{registry.host}/a/b:1")
    assert registry.count(f"GET /v2/a/b/blobs/{layer}") == 2


async def test_two_pulls_share_their_downloads(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", ONE, NOISE)
    registry.add("a/b", "2", NOISE, ONE)
    names = [f"{registry.host}/a/b:1", f"{registry.host}/a/b:1", f"{registry.host}/a/b:2"]
    images = await asyncio.gather(*(puller.pull(name) for name in names))
    assert images[0] == images[1] != images[2]
    for layer in registry.layers("a/b", "1"):
        assert registry.count(f"GET /v2/a/b/blobs/{layer}") == 1
    for image in images:
        assert image is not None and [os.listdir(path) for path in puller.images.directories(image)]


async def test_who_leaves_stops_the_download_unless_another_waits(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", NOISE)
    layer = registry.layers("a/b", "1")[0]
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: web.BaseRequest, content: bytes) -> web.StreamResponse | None:
        if layer in request.path:
            begun.set()
            await go_on.wait()
        return None

    registry.on_blob = slow
    first, second = (asyncio.create_task(puller.pull(f"{registry.host}/a/b:1")) for _ in range(2))
    await begun.wait()
    await asyncio.sleep(0.1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    go_on.set()
    assert await second
    assert registry.count(f"GET /v2/a/b/blobs/{layer}") == 1


async def endless_headers(request: web.BaseRequest) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 200 OK\r\nX-Endless: ")
    while not request.transport.is_closing():
        request.transport.write(b"x")
        await asyncio.sleep(0.05)
    return web.Response()


async def trickle(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100000", "Content-Type": OCI_MANIFEST})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


async def silence(request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(3600)
    return web.Response()


WAYS = {way.__name__: way for way in (endless_headers, trickle, silence)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("step", ["GET /v2/", "HEAD manifest", "GET manifest", "configuration", "layer"])
async def test_a_slow_registry_holds_nobody_up(puller: Puller, registry: FakeRegistry, step: str, way: str) -> None:
    """Who waits for it is gone at once when he wants to be, with all he began; others pull meanwhile."""
    registry.add("slow", "1", ONE)
    registry.add("quick", "1", TWO)
    raw = json.loads(registry.manifests["slow", "1"][1])
    paths = {
        "GET /v2/": "GET /v2/",
        "HEAD manifest": "HEAD /v2/slow/manifests/1",
        "GET manifest": f"GET /v2/slow/manifests/{digest(registry.manifests['slow', '1'][1])}",
        "configuration": f"GET /v2/slow/blobs/{raw['config']['digest']}",
        "layer": f"GET /v2/slow/blobs/{raw['layers'][0]['digest']}",
    }
    reached = asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse | None:
        if f"{request.method} {request.path}" != paths[step] or reached.is_set():
            return None
        reached.set()
        return await WAYS[way](request)

    registry.on_any = slow
    pull = asyncio.create_task(puller.pull(f"{registry.host}/slow:1"))
    async with asyncio.timeout(20):
        await reached.wait()
        await asyncio.sleep(0.2)
        assert await puller.pull(f"{registry.host}/quick:1")
        assert pull.done() == (way == "trickle" and step in ("GET /v2/", "HEAD manifest"))  # whose bodies nobody reads
        pull.cancel()
        await asyncio.gather(pull, return_exceptions=True)
    assert os.listdir(puller.tree.tmp) == []
    assert await puller.pull(f"{registry.host}/slow:1")


async def test_a_registry_that_falls_silent_is_asked_again(
    puller: Puller, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_SILENCE", 0.3)
    registry.add("a/b", "1", NOISE)
    left = 2

    async def stall(request: web.BaseRequest, content: bytes) -> web.StreamResponse | None:
        nonlocal left
        if not left or len(content) < 1000:
            return None
        left -= 1
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[:1000])
        return await silence(request)

    registry.on_blob = stall
    assert await puller.pull(f"{registry.host}/a/b:1")
    assert "Retrying in 1 second" in puller.statuses(registry.layers("a/b", "1")[0])
    registry.on_any = silence
    assert "context deadline exceeded" in await puller.fails(f"{registry.host}/a/b:2")


async def test_no_more_downloads_at_once_than_allowed(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", *(tar(Item(str(number), b"x" * number)) for number in range(8)))
    running = most = 0

    async def count(request: web.BaseRequest, content: bytes) -> web.StreamResponse | None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return None

    registry.on_blob = count
    assert await puller.pull(f"{registry.host}/a/b:1")
    assert most == 3
    assert any(line["status"] == "Waiting" for line in puller.said)


async def test_platforms(puller: Puller, registry: FakeRegistry) -> None:
    platforms = [("linux", "amd64", ""), ("linux", "arm64", "v8"), ("linux", "arm", "v5"), ("linux", "arm", "v7")]
    found = {}
    for number, platform in enumerate(platforms):
        found[platform] = registry.add("a/b", str(number), tar(Item("f", str(platform).encode())), platform=platform)
    index = registry.index("a/b", "all", found)
    name = f"{registry.host}/a/b:all"
    asked = {("linux", "amd64", ""): 0, ("linux", "arm64", ""): 1, ("linux", "arm", "v6"): 2, ("linux", "arm", "v7"): 3}
    for wanted, number in asked.items():
        image = await puller.pull(name, wanted)
        assert image is not None and image.platform == platforms[number]
        assert puller.images.digests(image.id) == [f"{registry.host}/a/b@{index}"]
    assert "no matching manifest for linux/s390x in the manifest list entries" in await puller.fails(
        name, platform=("linux", "s390x", "")
    )


async def test_an_image_of_another_platform_than_its_index_says(puller: Puller, registry: FakeRegistry) -> None:
    arm = ("linux", "arm64", "")
    registry.index("a/b", "wrong", {arm: registry.add("a/b", "1", ONE)})
    name = f"{registry.host}/a/b:wrong"
    await puller.pull(name, arm)
    image = await puller.pull(name, arm)  # known by its digest now
    assert image is not None and image.platforms == (AMD64, arm)
    assert check_fits(image, name, "linux/arm64") is check_fits(image, name, "linux/amd64") is image
    with pytest.raises(NotFound, match="wanted linux/s390x, actual: linux/amd64"):
        check_fits(image, name, "linux/s390x")
    loaded = Image.load(image.id, image.dump(), image.config, puller.images.library.layers)
    assert loaded == image


async def test_what_is_no_image_is_refused(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "chart", config_type="application/vnd.cncf.helm.config.v1+json")
    assert "unsupported media type application/vnd.cncf.helm" in await puller.fails(f"{registry.host}/a/b:chart")
    registry.put("a/b", "text", OCI_MANIFEST, b"no JSON")
    assert "no JSON" in await puller.fails(f"{registry.host}/a/b:text")
    registry.put("a/b", "odd", OCI_MANIFEST, json.dumps({"config": {"mediaType": OCI_CONFIG}, "layers": []}).encode())
    assert "malformed" in await puller.fails(f"{registry.host}/a/b:odd")
    digest = registry.add("a/b", "1", ONE)
    registry.manifests["a/b", digest] = (OCI_MANIFEST, b"{}")
    assert "manifest verification failed" in await puller.fails(f"{registry.host}/a/b@{digest}")
    registry.add("a/b", "win", ONE, platform=("windows", "amd64", ""))
    assert 'operating system "windows" cannot be used' in await puller.fails(f"{registry.host}/a/b:win")


async def test_redirects_take_no_credentials_along(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", ONE)
    async with fake_registry() as storage:
        storage.blobs = registry.blobs

        async def elsewhere(request: web.BaseRequest, content: bytes) -> web.StreamResponse | None:
            return web.Response(status=307, headers={"Location": f"http://localhost:{storage.port}{request.path}?sig=a%2Fb"})

        async def guard(request: web.BaseRequest) -> web.StreamResponse | None:
            if request.headers.get("Authorization") == basic("me", "secret"):
                return None
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

        registry.on_blob, registry.on_any = elsewhere, guard
        assert await puller.pull(f"{registry.host}/a/b:1", credentials=Credentials("me", "secret"))
        assert storage.count("GET") == 2
        assert not any("Authorization" in headers for headers in storage.headers)


async def test_tokens_are_bought_and_renewed(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", ONE, TWO)
    sold: list[dict[str, str]] = []
    uses = 0

    async def guard(request: web.BaseRequest) -> web.StreamResponse | None:
        nonlocal uses
        if request.path == "/token":
            assert request.headers.get("Authorization") == basic("me", "secret")
            sold.append(dict(request.query))
            return web.json_response({"token": f"t{len(sold)}", "expires_in": 300})
        uses += 1
        if sold and request.headers.get("Authorization") == f"Bearer t{len(sold)}" and uses != 5:
            return None
        challenge = f'Bearer realm="http://{registry.host}/token",service="the service",scope="repository:a/b:pull"'
        return web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401, headers={"WWW-Authenticate": challenge})

    registry.on_any = guard
    assert await puller.pull(f"{registry.host}/a/b:1", credentials=Credentials("me", "secret"))
    assert sold == [{"service": "the service", "scope": "repository:a/b:pull", "account": "me"}] * 2


async def test_an_identity_token_buys_a_token(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", ONE)

    async def guard(request: web.BaseRequest) -> web.StreamResponse | None:
        if request.path == "/token":
            form = await request.post()
            assert (request.method, form["grant_type"], form["refresh_token"]) == ("POST", "refresh_token", "the identity")
            return web.json_response({"access_token": "t"})
        if request.headers.get("Authorization") == "Bearer t":
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{registry.host}/token"'})

    registry.on_any = guard
    assert await puller.pull(f"{registry.host}/a/b:1", credentials=Credentials(identity_token="the identity"))


async def test_denied(puller: Puller, registry: FakeRegistry) -> None:
    async def guard(request: web.BaseRequest) -> web.StreamResponse | None:
        if request.path == "/token":
            return web.json_response({"token": "t"})
        if request.headers.get("Authorization"):
            challenge = f'Bearer realm="http://{registry.host}/token",scope="repository:a/b:pull",error="insufficient_scope"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{registry.host}/token"'})

    registry.on_any = guard
    hint = "repository does not exist or may require 'docker login'"
    reason = "denied: requested access to the resource is denied"
    assert (
        await puller.fails(f"{registry.host}/a/b:1", NotFound) == f"pull access denied for {registry.host}/a/b, {hint}: {reason}"
    )


async def test_mirrors_first_then_the_registry(tmp_path: Path, registry: FakeRegistry) -> None:
    digest = registry.add("a/b", "1", ONE)
    async with fake_registry() as mirror:
        mirrors = (f"{registry.host}=http://127.0.0.1:1", f"{registry.host}=http://{mirror.host}/under")
        puller = await Puller(tmp_path, Config(registry_mirrors=mirrors)).open()
        try:
            name = f"{registry.host}/a/b:1"
            assert await puller.pull(name)
            assert mirror.seen and registry.count("GET /v2/a/b/blobs") == 2
            registry.seen.clear()

            async def under(request: web.BaseRequest) -> web.StreamResponse | None:
                assert request.query.get("ns") == registry.host or request.path == "/under/v2/"
                return await registry.handle(request.clone(rel_url=request.path.removeprefix("/under")))

            mirror.on_any = under
            image = await puller.pull(f"{registry.host}/a/b@{digest}")
            assert image is not None
            assert all("HEAD" in line or line == "GET /v2/" for line in registry.seen)
        finally:
            await puller.close()


async def test_hosts_toml(tmp_path: Path, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", ONE)
    directory = tmp_path / "certs.d" / "nowhere.example"
    directory.mkdir(parents=True)
    table = f'[host."http://{registry.host}"]\ncapabilities = ["pull", "resolve"]\n[host."http://{registry.host}".header]\nx-a = "b"\n'
    (directory / "hosts.toml").write_text(table)
    puller = await Puller(tmp_path, Config(certs_dirs=(tmp_path / "certs.d",))).open()
    try:
        image = await puller.pull("nowhere.example/a/b:1")
        assert image is not None and puller.images.tags(image.id) == ["nowhere.example/a/b:1"]
        assert registry.headers[-1]["x-a"] == "b"
        (directory / "hosts.toml").write_text("[host.")
        assert "hosts.toml" in await puller.fails("nowhere.example/a/b:1")
    finally:
        await puller.close()


async def test_nobody_there(puller: Puller) -> None:
    text = 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'
    assert await puller.fails("127.0.0.1:1/a:1") == text


async def test_a_full_disk(tmp_path: Path, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", ONE, NOISE)
    mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=4m")
    try:
        puller = await Puller(tmp_path).open()
        try:
            text = await puller.fails(f"{registry.host}/a/b:1")
            assert text == "failed to register layer: no space left on device"
            assert not puller.partial(registry.layers("a/b", "1")[1]).exists()
            mount(None, str(tmp_path), "tmpfs", MS_REMOUNT, "size=64m")
            assert await puller.pull(f"{registry.host}/a/b:1")
        finally:
            await puller.close()
    finally:
        umount2(str(tmp_path), MNT_DETACH)  # a worker may be about to end


async def test_a_tag_that_moves_between_two_requests(puller: Puller, registry: FakeRegistry) -> None:
    first = registry.add("a/b", "1", ONE)

    async def moved(request: web.BaseRequest) -> web.StreamResponse | None:
        if request.method != "HEAD":
            return None
        registry.add("a/b", "1", TWO)
        return web.Response(headers={"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": first})

    registry.on_any = moved
    assert await puller.pull(f"{registry.host}/a/b:1")
    assert {"status": f"Digest: {first}"} in puller.said


async def test_an_index_in_an_index(puller: Puller, registry: FakeRegistry) -> None:
    inner = registry.index("a/b", "x", {("linux", "amd64", ""): registry.add("a/b", "y", ONE)})
    entry = {"mediaType": OCI_INDEX, "digest": inner, "size": 1, "platform": {"os": "linux", "architecture": "amd64"}}
    content = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    registry.put("a/b", "1", OCI_INDEX, content)
    assert await puller.pull(f"{registry.host}/a/b:1")


@pytest.mark.parametrize("status", [400, 403, 404, 429, 503])
async def test_what_the_base_answers_does_not_matter(puller: Puller, registry: FakeRegistry, status: int) -> None:
    registry.add("a/b", "1", ONE)

    async def refuse(request: web.BaseRequest) -> web.StreamResponse | None:
        return web.Response(status=status) if request.path == "/v2/" else None

    registry.on_any = refuse
    assert await puller.pull(f"{registry.host}/a/b:1")


async def test_blobs_that_are_no_archives(puller: Puller, registry: FakeRegistry) -> None:
    content = b"neither gzip nor tar" * 100
    digest = registry.add("a/b", "1", content, compress=COMPRESSORS["plain"])
    assert digest and await puller.fails(f"{registry.host}/a/b:1") == "failed to register layer: archive/tar: invalid tar header"
    registry.add("a/b", "1", ONE, compress=lambda tar: COMPRESSORS["gzip"](tar)[:-20])
    assert "failed to register layer: cannot decompress archive: " in await puller.fails(f"{registry.host}/a/b:1")
    assert list(puller.tree.downloads.iterdir()) == []


async def test_a_configuration_that_cannot_be_had(puller: Puller, registry: FakeRegistry) -> None:
    registry.add("a/b", "1", ONE)
    config = json.loads(registry.manifests["a/b", "1"][1])["config"]["digest"]
    content = registry.blobs.pop(config)
    assert await puller.fails(f"{registry.host}/a/b:1") == "error pulling image configuration: unknown blob"
    registry.blobs[config] = content + b" "
    text = f"error pulling image configuration: image config verification failed for digest {config}"
    assert await puller.fails(f"{registry.host}/a/b:1") == text
    registry.blobs[config] = content
    assert await puller.pull(f"{registry.host}/a/b:1")
