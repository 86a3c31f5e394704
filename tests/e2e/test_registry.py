"""push, pull, login and their kin through the docker CLI and docker-py, against Debian's docker-registry on loopback."""

import contextlib
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import docker as docker_py
import pytest

from tests.support.daemon import Daemon, own_daemon
from tests.support.docker import Docker, eventually
from tests.support.ports import free_port
from tests.support.registry import PASSWORD, PROGRAM, USER, Registry, certificates, registry
from tests.support.tars import Item, docker_archive, tar

pytestmark = [
    pytest.mark.skipif(not PROGRAM, reason="docker-registry is not installed"),
    pytest.mark.skipif("COMPAT_TEST_HOST" in os.environ, reason="another engine may not share this host's loopback"),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def name(docker: Docker, plain: Registry, unique: str) -> Iterator[str]:
    """A repository nobody has used; its images are gone afterwards."""
    name = f"{plain.host}/test/{unique}"
    yield name
    for line in docker("images", "--digests", "--format", "{{.Tag}} {{.Digest}}", name).splitlines():
        tag, digest = line.split()
        docker.run("rmi", f"{name}@{digest}" if tag == "<none>" else f"{name}:{tag}")


def load(docker: Docker, directory: Path, *layers: bytes, tag: str) -> None:
    (directory / "image.tar").write_bytes(docker_archive(*layers, tags=(tag,)))
    docker("load", "-q", "-i", str(directory / "image.tar"))


def digests(docker: Docker, image: str) -> list[str]:
    found: list[str] = docker.inspect(image, "image")["RepoDigests"]
    return found


def test_push_remove_pull_run(docker: Docker, plain: Registry, name: str, tmp_path: Path) -> None:
    load(docker, tmp_path, tar(Item("a", b"1")), tar(Item("b", b"2")), tag=f"{name}:1")
    id = docker.inspect(f"{name}:1", "image")["Id"]
    pushed = docker("push", f"{name}:1")
    digest = pushed.partition("digest: ")[2].split()[0]
    assert digests(docker, f"{name}:1") == [f"{name}@{digest}"]
    assert docker("push", f"{name}:1").count("Layer already exists") == 2
    docker("rmi", f"{name}:1")
    pulled = docker("pull", f"{name}:1")
    assert pulled.splitlines()[0] == f"1: Pulling from {name.partition('/')[2]}"
    assert pulled.count("Pull complete") == 2
    assert pulled.splitlines()[-3:] == [f"Digest: {digest}", f"Status: Downloaded newer image for {name}:1", f"{name}:1"]
    assert docker.inspect(f"{name}:1", "image")["Id"] == id
    assert f"Status: Image is up to date for {name}:1" in docker("pull", f"{name}:1")
    docker("tag", f"{name}:1", f"{name}/other:2")
    assert f"2: digest: {digest}" in docker("push", f"{name}/other:2")
    docker("rmi", f"{name}/other:2")


def test_run_pulls_what_is_missing(docker: Docker, name: str) -> None:
    docker("tag", "busybox", f"{name}:sh")
    docker("push", "-q", f"{name}:sh")
    docker("rmi", f"{name}:sh")
    digest = docker("pull", "-q", f"{name}:sh")
    assert digest == f"{name}:sh"
    assert docker("run", "--rm", f"{name}:sh", "echo", "there") == "there"
    by_digest = digests(docker, f"{name}:sh")[0]
    docker("rmi", f"{name}:sh")
    assert docker("run", "--rm", by_digest, "echo", "again") == "again"
    docker("rmi", by_digest)


def test_all_tags(docker: Docker, plain: Registry, name: str) -> None:
    for tag in ("1", "2", "3"):
        docker("tag", "busybox", f"{name}:{tag}")
    docker("push", "-a", "-q", name)
    docker("rmi", *(f"{name}:{tag}" for tag in ("1", "2", "3")))
    docker("pull", "-a", "-q", name)
    assert sorted(docker("images", "--format", "{{.Tag}}", name).split()) == ["1", "2", "3"]


def test_mounted_from_a_neighbour(docker: Docker, plain: Registry, name: str, tmp_path: Path) -> None:
    load(docker, tmp_path, tar(Item("a", random.Random(name).randbytes(1000))), tag=f"{name}:1")
    docker("push", "-q", f"{name}:1")
    docker("tag", f"{name}:1", f"{name}-b:1")
    assert f"Mounted from {name.partition('/')[2]}" in docker("push", f"{name}-b:1")
    docker("rmi", f"{name}-b:1")


def test_what_is_not_there(docker: Docker, plain: Registry, name: str) -> None:
    assert f"manifest for {name}:1 not found: manifest unknown: manifest unknown" in docker.fails("pull", f"{name}:1")
    assert f"repository {name} not found: name unknown" in docker.fails("pull", "-a", name)
    assert f"An image does not exist locally with the tag: {name}" in docker.fails("push", f"{name}:1")
    assert "connection refused" in docker.fails("pull", "127.0.0.1:1/x")
    assert "Unexpected status code 404" in docker.fails("search", f"{plain.host}/x")
    assert "manifest unknown" in docker.fails("run", f"{name}:1", code=125)


def test_distribution_and_events(docker: Docker, name: str, client: docker_py.DockerClient) -> None:
    docker("tag", "busybox", f"{name}:1")
    since = str(time.time())
    docker("push", "-q", f"{name}:1")
    docker("pull", "-q", f"{name}:1")
    data = client.images.get_registry_data(f"{name}:1")
    assert f"{name}@{data.id}" in digests(docker, f"{name}:1")
    assert data.has_platform("linux/amd64") or data.attrs["Platforms"]
    events = docker("events", "--since", since, "--until", str(time.time()), "--filter", "type=image", "--format", "{{json .}}")
    seen = [
        (event["Action"], event["Actor"]["ID"], event["Actor"]["Attributes"]["name"])
        for event in map(json.loads, events.splitlines())
    ]
    assert [event for event in seen if name in event[1]] == [("push", f"{name}:1", name), ("pull", f"{name}:1", name)]


def test_docker_py(client: docker_py.DockerClient, docker: Docker, name: str) -> None:
    client.images.get("busybox").tag(name, "py")
    lines = list(client.images.push(name, "py", stream=True, decode=True))
    assert lines[-1]["aux"]["Tag"] == "py"
    client.images.remove(f"{name}:py")
    assert client.images.pull(name, "py").tags == [f"{name}:py"] or f"{name}:py" in client.images.get(f"{name}:py").tags
    with pytest.raises(docker_py.errors.NotFound, match="manifest unknown"):
        client.images.pull(name, "other")


def test_login(docker: Docker, tmp_path: Path, unique: str) -> None:
    (tmp_path / "r").mkdir()
    with registry(tmp_path / "r", password=True) as private:
        name = f"{private.host}/{unique}:1"
        docker("tag", "busybox", name)
        assert "no basic auth credentials" in docker.fails("push", name)
        wrong = docker.run("login", "-u", USER, "--password-stdin", private.host, input="wrong")
        assert "401 Unauthorized" in wrong.stderr
        assert "Login Succeeded" in docker("login", "-u", USER, "--password-stdin", private.host, input=PASSWORD)
        docker("push", "-q", name)
        docker("rmi", name)
        assert docker("pull", "-q", name) == name
        docker("logout", private.host)
        assert "no basic auth credentials" in docker.fails("pull", name)
        docker("rmi", name)


def cli(daemon: Daemon, directory: Path) -> Docker:
    return Docker(daemon.host, "compat-test=registry", str(directory))


def test_certificates(tmp_path: Path, unique: str) -> None:
    daemon = own_daemon("r", 2, settings={"certs-dirs": [str(tmp_path / "certs.d")]})
    address = daemon.bip.partition("/")[0]  # an address of this host that is not loopback, which would be trusted anyway
    try:
        daemon.start()
        daemon.load_busybox()
        docker = cli(daemon, tmp_path)
        authority = certificates(tmp_path, address)
        with registry(tmp_path, tls=True, address=address) as secure:
            name = f"{secure.host}/{unique}:1"
            docker("tag", "busybox", name)
            text = "tls: failed to verify certificate: x509: certificate signed by unknown authority"
            assert f'Get "https://{secure.host}/v2/": {text}' in docker.fails("push", name)
            (tmp_path / "certs.d" / secure.host).mkdir(parents=True)
            (tmp_path / "certs.d" / secure.host / "ca.crt").write_bytes(authority.read_bytes())
            docker("push", "-q", name)
            assert docker("pull", "-q", name) == name
        with registry(tmp_path, tls=True, clients=True, address=address) as exclusive:
            name = f"{exclusive.host}/{unique}:1"
            trusted = tmp_path / "certs.d" / exclusive.host
            trusted.mkdir()
            (trusted / "ca.crt").write_bytes(authority.read_bytes())
            assert f'Get "https://{exclusive.host}/v2/": remote error: tls: ' in docker.fails("pull", name)
            for kind, suffix in (("crt", "cert"), ("key", "key")):
                (trusted / f"client.{suffix}").write_bytes((tmp_path / f"server.{kind}").read_bytes())
            assert docker("pull", "-q", name) == name
    finally:
        left = daemon.destroy()
    assert not left


def test_a_mirror_of_docker_io(tmp_path: Path, unique: str) -> None:
    port = free_port("127.0.0.1")
    daemon = own_daemon("r", 3, settings={"registry-mirrors": [f"http://127.0.0.1:{port}"]})
    try:
        daemon.start()
        daemon.load_busybox()
        docker = cli(daemon, tmp_path)
        with registry(tmp_path, port=port) as mirror:
            docker("tag", "busybox", f"{mirror.host}/library/{unique}:1")
            docker("push", "-q", f"{mirror.host}/library/{unique}:1")
            docker("pull", "-q", f"{unique}:1")
            assert docker.inspect(f"{unique}:1", "image")["RepoTags"].count(f"{unique}:1") == 1
            assert json.loads(docker("info", "--format", "{{json .RegistryConfig.Mirrors}}")) == [f"http://127.0.0.1:{port}/"]
    finally:
        left = daemon.destroy()
    assert not left


def test_kill_9_in_the_middle_of_a_pull(engine_daemon: Daemon, plain: Registry, tmp_path: Path, unique: str) -> None:
    docker = cli(engine_daemon, tmp_path)
    name = f"{plain.host}/test/{unique}:1"
    content = random.Random(unique)
    load(docker, tmp_path, *(tar(Item(str(number), content.randbytes(30 << 20))) for number in range(3)), tag=name)
    id = docker.inspect(name, "image")["Id"]
    docker("push", "-q", name, timeout=120)
    docker("rmi", name)
    for _ in range(2):
        pulling = docker.start("pull", name)
        eventually(lambda: partial(engine_daemon))
        engine_daemon.kill9()
        pulling.communicate(timeout=60)
        engine_daemon.start()
        if pulling.returncode:
            assert docker("images", "-q", name) == ""
        else:  # it was faster than we
            docker("rmi", name)
    assert docker("pull", "-q", name, timeout=120) == name
    assert docker.inspect(name, "image")["Id"] == id
    assert list(held(engine_daemon)) == []


def partial(daemon: Daemon) -> bool:
    """A download is under way."""
    with contextlib.suppress(FileNotFoundError):  # it has just been finished
        return any(path.stat().st_size for path in held(daemon))
    return False


def held(daemon: Daemon) -> Iterator[Path]:
    """Downloads that are not finished."""
    return (daemon.data / "downloads").iterdir()
