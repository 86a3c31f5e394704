"""A registry in the test's own process, which tells the truth until a test makes it lie."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.tars import COMPRESSORS, digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
Lie = Callable[[web.BaseRequest, bytes], Awaitable[web.StreamResponse | None]]


@dataclass
class FakeRegistry:
    """blobs by digest, manifests by (repository, tag or digest). `seen` are the requests, as "METHOD path"."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    on_blob: Lie | None = None
    on_any: Callable[[web.BaseRequest], Awaitable[web.StreamResponse | None]] | None = None
    uploads: dict[str, bytearray] = field(default_factory=dict)
    port: int = 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def add(
        self,
        repository: str,
        tag: str,
        *tars: bytes,
        compress: Callable[[bytes], bytes] = COMPRESSORS["gzip"],
        platform: tuple[str, str, str] = ("linux", "amd64", ""),
        config_type: str = OCI_CONFIG,
    ) -> str:
        """An image of these layers; returns its manifest's digest."""
        raw: dict[str, Any] = {"os": platform[0], "architecture": platform[1], "config": {}}
        raw["rootfs"] = {"type": "layers", "diff_ids": [digest(tar) for tar in tars]}
        config = json.dumps({**raw, **({"variant": platform[2]} if platform[2] else {})}).encode()
        layers = [self._blob(compress(tar), OCI_LAYER) for tar in tars]
        manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": self._blob(config, config_type), "layers": layers}
        return self.put(repository, tag, OCI_MANIFEST, json.dumps(manifest).encode())

    def index(self, repository: str, tag: str, platforms: dict[tuple[str, str, str], str]) -> str:
        """An index of images put here before, platform -> digest."""
        entries = []
        for (system, architecture, variant), found in platforms.items():
            size = len(self.manifests[repository, found][1])
            named = {"os": system, "architecture": architecture, **({"variant": variant} if variant else {})}
            entries.append({"mediaType": OCI_MANIFEST, "digest": found, "size": size, "platform": named})
        content = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
        return self.put(repository, tag, OCI_INDEX, content)

    def put(self, repository: str, tag: str, media_type: str, content: bytes) -> str:
        for name in (tag, digest(content)):
            self.manifests[repository, name] = (media_type, content)
        return digest(content)

    def layers(self, repository: str, tag: str) -> list[str]:
        return [layer["digest"] for layer in json.loads(self.manifests[repository, tag][1])["layers"]]

    def count(self, start: str) -> int:
        return sum(request.startswith(start) for request in self.seen)

    def _blob(self, content: bytes, media_type: str) -> dict[str, Any]:
        self.blobs[digest(content)] = content
        return {"mediaType": media_type, "digest": digest(content), "size": len(content)}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.path}")
        self.headers.append(dict(request.headers))
        if self.on_any is not None and (answer := await self.on_any(request)) is not None:
            return answer
        path = request.path.removeprefix("/v2/")
        if not path:
            return web.json_response({})
        if path.endswith("/tags/list"):
            repository = path.removesuffix("/tags/list")
            tags = [name for of, name in self.manifests if of == repository and ":" not in name]
            return web.json_response({"name": repository, "tags": tags}) if tags else _error(404, "NAME_UNKNOWN")
        if "/blobs/uploads/" in path:
            return await self._upload(request, *path.split("/blobs/uploads/"))
        repository, kind, name = path.rsplit("/", 2)
        return await (self._manifest(request, repository, name) if kind == "manifests" else self._get_blob(request, name))

    async def _manifest(self, request: web.BaseRequest, repository: str, name: str) -> web.StreamResponse:
        if request.method == "PUT":
            found = self.put(repository, name, request.content_type, await request.read())
            return web.Response(status=201, headers={"Docker-Content-Digest": found})
        if (repository, name) not in self.manifests:
            return _error(404, "MANIFEST_UNKNOWN")
        media_type, content = self.manifests[repository, name]
        return web.Response(body=content, headers={"Content-Type": media_type, "Docker-Content-Digest": digest(content)})

    async def _get_blob(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        content = self.blobs.get(name)
        if content is None:
            return _error(404, "BLOB_UNKNOWN")
        if self.on_blob is not None and request.method == "GET" and (answer := await self.on_blob(request, content)) is not None:
            return answer
        return ranged(request, content)

    async def _upload(self, request: web.BaseRequest, repository: str, id: str) -> web.StreamResponse:
        if request.method == "POST":
            if request.query.get("mount") in self.blobs:
                return web.Response(status=201)
            id = str(len(self.uploads))
            self.uploads[id] = bytearray()
            return web.Response(status=202, headers={"Location": f"/v2/{repository}/blobs/uploads/{id}?state=x%2Fy"})
        assert request.query["state"] == "x/y", request.query
        if id not in self.uploads:
            return _error(404, "BLOB_UPLOAD_UNKNOWN")
        held = self.uploads[id]
        if int(request.headers.get("Content-Range", str(len(held))).partition("-")[0]) != len(held):
            return web.Response(status=416)
        async for piece in request.content.iter_any():
            held += piece
        if request.method in ("PATCH", "GET"):
            headers = {"Location": str(request.rel_url), "Range": f"0-{max(len(held) - 1, 0)}", "Docker-Upload-UUID": id}
            return web.Response(status=202 if request.method == "PATCH" else 204, headers=headers)
        content = bytes(self.uploads.pop(id))
        if digest(content) != request.query["digest"]:
            return _error(400, "DIGEST_INVALID")
        self.blobs[digest(content)] = content
        return web.Response(status=201)


@asynccontextmanager
async def fake_registry() -> AsyncIterator[FakeRegistry]:
    registry = FakeRegistry()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", registry.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    registry.port = runner.addresses[0][1]
    try:
        yield registry
    finally:
        await runner.cleanup()


def ranged(request: web.BaseRequest, content: bytes) -> web.Response:
    start = request.http_range.start or 0
    if start >= len(content) and start:
        return web.Response(status=416)
    headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
    return web.Response(status=206 if start else 200, body=content[start:], headers=headers)


async def cut(request: web.BaseRequest, content: bytes, length: int) -> web.StreamResponse:
    """Promises all of the content and breaks off after `length` bytes of it."""
    response = web.StreamResponse(headers={"Content-Length": str(len(content))})
    await response.prepare(request)
    await response.write(content[:length])
    assert request.transport is not None
    request.transport.close()
    return response


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _error(status: int, code: str) -> web.Response:
    message = code.lower().replace("_", " ")
    return web.json_response({"errors": [{"code": code, "message": message, "detail": {"of": "it"}}]}, status=status)
