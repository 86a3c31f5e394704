"""What cases share and not every run needs: a corpus of images and a registry, made when first asked for."""

import hashlib
import http.client
import json
import tempfile
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from benchmarks.corpus import Corpus, Image
from tests.support.registry import Registry, registry

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


class Fixtures(ExitStack):
    """Closing it removes all. address: where every engine reaches the registry."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    @cached_property
    def directory(self) -> Path:
        return Path(self.enter_context(tempfile.TemporaryDirectory(prefix="compat-bench-", dir="/var/tmp")))

    @cached_property
    def corpus(self) -> Corpus:
        return Corpus(self.directory)

    @cached_property
    def registry(self) -> Registry:
        (self.directory / "registry").mkdir()
        return self.enter_context(registry(self.directory / "registry", address=self._address))

    def publish(self, image: Image, repository: str, tag: str) -> str:
        """Puts the image into the registry; what to pull."""
        parts = [(_CONFIG, image.config), *((_LAYER, layer) for layer in image.layers)]
        config, *layers = [{"mediaType": kind, "size": len(content), "digest": _digest(content)} for kind, content in parts]
        for _, content in parts:
            self._upload(repository, content)
        manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": layers}
        self._request("PUT", f"/v2/{repository}/manifests/{tag}", json.dumps(manifest).encode(), _MANIFEST)
        return f"{self.registry.host}/{repository}:{tag}"

    def _upload(self, repository: str, content: bytes) -> None:
        place = self._request("POST", f"/v2/{repository}/blobs/uploads/", b"")
        joint = "&" if "?" in place else "?"
        self._request("PUT", f"{place}{joint}digest={_digest(content)}", content)

    def _request(self, method: str, path: str, body: bytes, kind: str = "application/octet-stream") -> str:
        """The Location of the answer."""
        connection = http.client.HTTPConnection(self.registry.host, timeout=120)
        try:
            connection.request(method, path.removeprefix(f"http://{self.registry.host}"), body, {"Content-Type": kind})
            answer = connection.getresponse()
            answer.read()
            if answer.status >= 300:
                raise OSError(f"the registry answers {method} {path} with {answer.status}")
            return answer.getheader("Location") or ""
        finally:
            connection.close()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
