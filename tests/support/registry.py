"""Debian's docker-registry as a test uses it: a process of its own on a loopback port, plain, with TLS or with a password file."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.docker import PATIENCE
from tests.support.ports import free_port

PROGRAM = shutil.which("docker-registry") or ""
USER, PASSWORD = "user", "secret"
_HASH = "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"  # bcrypt of PASSWORD


@dataclass(frozen=True)
class Registry:
    host: str
    directory: Path
    log: Path

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def manifest(self, repository: str, tag: str) -> dict[str, object]:
        """As the registry has it, without asking it."""
        link = self.data / f"docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/current/link"
        digest = link.read_text().removeprefix("sha256:")
        blob = self.data / f"docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data"
        found: dict[str, object] = json.loads(blob.read_text())
        return found

    def requests(self, method: str, part: str) -> int:
        """How many there were of a kind."""
        return sum(f'"{method} ' in line and part in line for line in self.log.read_text().splitlines())


@contextmanager
def registry(
    directory: Path,
    tls: bool = False,
    clients: bool = False,
    password: bool = False,
    address: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[Registry]:
    """tls: with the certificate of `certificates(directory)`, clients: which they must show one of, too; password: USER and PASSWORD are asked for; port 0: a free one."""
    port = port or free_port(address)
    http: dict[str, object] = {"addr": f"{address}:{port}"}
    if tls:
        authorities = {"clientcas": [str(directory / "ca.crt")]} if clients else {}
        http["tls"] = {"certificate": str(directory / "server.crt"), "key": str(directory / "server.key"), **authorities}
    config: dict[str, object] = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}, "delete": {"enabled": True}},
        "http": http,
    }
    if password:
        (directory / "htpasswd").write_text(f"{USER}:{_HASH}\n")
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
    (directory / "config.yml").write_text(json.dumps(config))
    log = directory / "registry.log"
    with log.open("wb") as output:
        environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}
        process = subprocess.Popen(
            [PROGRAM, "serve", str(directory / "config.yml")], stdout=output, stderr=output, env=environment
        )
    try:
        _wait(address, port, process, log)
        yield Registry(f"{address}:{port}", directory, log)
    finally:
        process.kill()
        process.wait()


def certificates(directory: Path, address: str) -> Path:
    """server.crt and server.key for an address, signed by the authority whose certificate is returned."""

    def run(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test authority")
    run("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (directory / "names").write_text(f"subjectAltName=IP:{address}")
    signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    run("x509", "-req", "-in", "server.csr", "-out", "server.crt", *signing)
    return directory / "ca.crt"


def _wait(address: str, port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 60 * PATIENCE
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, "the registry does not start"
        try:
            socket.create_connection((address, port), 10).close()
            return
        except OSError:
            time.sleep(0.02)
