"""A registry of the suite's own (OCI distribution spec 1.1, as much as an engine asks for), one for each check that needs it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
USER, PASSWORD = "conformance", "secret"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def credentials(**config: str) -> dict[str, str]:
    """The header clients send them in."""
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(config).encode()).decode()}


@dataclass
class Hub:
    """What the registry holds. asks: "basic" or "bearer" when it wants to know who is there; token: the one it takes."""

    host: str = ""
    asks: str = ""
    token: str = "first"
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)  # of a search
    requests: list[str] = field(default_factory=list)

    def put(self, repository: str, name: str, content: bytes, kind: str = MANIFEST) -> str:
        for known in (name, digest(content)):
            self.manifests[repository, known] = (kind, content)
        return digest(content)

    def manifest(self, repository: str, name: str) -> Any:
        return json.loads(self.manifests[repository, name][1])

    def count(self, start: str) -> int:
        return sum(line.startswith(start) for line in self.requests)


@contextmanager
def hub(address: str) -> Iterator[Hub]:
    """A registry on an address of this host, where the engine finds it, until the context ends."""
    found = Hub()

    class Handler(_Handler):
        hub = found

    with ThreadingHTTPServer((address, 0), Handler) as server:
        server.daemon_threads = True
        found.host = f"{address}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):  # all methods, told apart by path
            return self._any
        raise AttributeError(name)

    def _any(self) -> None:
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.body = self._body()
        self.hub.requests.append(f"{self.command} {parts.path}")
        if parts.path == "/token":
            self._token()
        elif not self._welcome():
            scheme = {"bearer": f'Bearer realm="http://{self.hub.host}/token",service="suite"', "basic": 'Basic realm="suite"'}
            self._error(401, "UNAUTHORIZED", {"WWW-Authenticate": scheme[self.hub.asks]})
        elif parts.path == "/v1/search":
            self._json(200, {"results": self.hub.results})
        else:
            self._registry(parts.path.removeprefix("/v2/"))

    def _registry(self, path: str) -> None:
        if not path or path == "/v1/_ping":
            self._json(200, {})
        elif path.endswith("/tags/list"):
            repository = path.removesuffix("/tags/list")
            names = sorted(name for of, name in self.hub.manifests if of == repository and ":" not in name)
            self._json(200, {"name": repository, "tags": names}) if names else self._error(404, "NAME_UNKNOWN")
        elif "/blobs/uploads/" in path:
            self._upload(*path.split("/blobs/uploads/"))
        else:
            repository, kind, name = path.rsplit("/", 2)
            self._manifest(repository, name) if kind == "manifests" else self._blob(name)

    def _manifest(self, repository: str, name: str) -> None:
        if self.command == "PUT":
            kind = self.headers.get("Content-Type", "")
            self._send(201, b"", {"Docker-Content-Digest": self.hub.put(repository, name, self.body, kind)})
        elif (repository, name) in self.hub.manifests:
            kind, content = self.hub.manifests[repository, name]
            self._send(200, content, {"Content-Type": kind, "Docker-Content-Digest": digest(content)})
        else:
            self._error(404, "MANIFEST_UNKNOWN")

    def _blob(self, name: str) -> None:
        if name in self.hub.blobs:
            self._send(200, self.hub.blobs[name], {"Content-Type": "application/octet-stream", "Docker-Content-Digest": name})
        else:
            self._error(404, "BLOB_UNKNOWN")

    def _upload(self, repository: str, id: str) -> None:
        uploads = self.hub.uploads
        if self.command == "POST":
            if self.query.get("mount") in self.hub.blobs:
                name = self.query["mount"]
                self._send(201, b"", {"Location": f"/v2/{repository}/blobs/{name}", "Docker-Content-Digest": name})
                return
            id = f"{len(uploads)}-{threading.get_ident()}"
            uploads[id] = b""
        uploads[id] += self.body
        if self.command == "PUT":
            name = digest(uploads[id])
            if name != self.query["digest"]:
                self._error(400, "DIGEST_INVALID")
                return
            self.hub.blobs[name] = uploads[id]
            self._send(201, b"", {"Location": f"/v2/{repository}/blobs/{name}", "Docker-Content-Digest": name})
        else:
            place = {"Location": f"http://{self.hub.host}/v2/{repository}/blobs/uploads/{id}", "Docker-Upload-UUID": id}
            self._send(202, b"", {**place, "Range": f"0-{max(len(uploads[id]) - 1, 0)}"})

    def _welcome(self) -> bool:
        given = self.headers.get("Authorization", "")
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return given == {"": given, "basic": f"Basic {pair}", "bearer": f"Bearer {self.hub.token}"}[self.hub.asks]

    def _token(self) -> None:
        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") == f"Basic {pair}":
            self._json(200, {"token": self.hub.token, "expires_in": 300})
        else:
            self._json(401, {"details": "incorrect username or password"})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _error(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        error = {"code": code, "message": code.lower().replace("_", " "), "detail": {"of": self.path}}
        self._json(status, {"errors": [error]}, headers)

    def _json(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
