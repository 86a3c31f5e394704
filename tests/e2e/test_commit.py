"""docker commit: an image of what a container has become."""

from collections.abc import Iterator

import pytest

from tests.support.docker import Docker

IMAGE = "busybox:latest"


@pytest.fixture
def tag(docker: Docker, unique: str) -> Iterator[str]:
    yield f"{unique}:1"
    docker.clean()
    docker.run("rmi", "-f", f"{unique}:1")


def test_files_survive(docker: Docker, tag: str) -> None:
    script = "echo x > /kept; ln /kept /hard; ln -s kept /soft; chmod 4711 /kept; rm /bin/awk; rm -r /var; mkdir /var; touch /var/n"
    container = docker("run", "-d", "--network", "none", IMAGE, "sh", "-c", f"{script}; sleep 1000")
    docker("exec", container, "sh", "-c", "while ! test -e /var/n; do sleep 0.1; done")
    docker("commit", container, tag)
    look = "cat /hard; readlink /soft; stat -c '%a %h' /kept; ls /bin/awk 2>/dev/null; ls /var"
    assert docker("run", "--rm", "--network", "none", tag, "sh", "-c", look).splitlines() == ["x", "kept", "4711 2", "n"]
    assert docker.state(container) == "running"


def test_only_its_own_changes(docker: Docker, tag: str) -> None:
    container = docker("run", "-d", "--network", "none", IMAGE, "sleep", "1000")
    docker("exec", container, "touch", "/mine")
    docker("commit", container, tag)
    fresh = docker("create", tag, "true")
    assert docker("diff", fresh) == ""
    assert docker("history", "--format", "{{.Size}}", tag).splitlines()[0] == "0B"


def test_instructions(docker: Docker, tag: str) -> None:
    container = docker("create", "-e", "A=1", IMAGE, "sleep", "5")
    changes = ["-c", 'CMD ["echo", "changed"]', "-c", "ENV B=2", "-c", "LABEL x=y", "-c", "EXPOSE 80 81/udp"]
    docker("commit", "-a", "me", "-m", "why", *changes, container, tag)
    image = docker.inspect(tag, "image")
    assert (image["Author"], image["Comment"], image["Config"]["Labels"]["x"]) == ("me", "why", "y")
    assert image["Config"]["ExposedPorts"] == {"80/tcp": {}, "81/udp": {}}
    assert {"A=1", "B=2"} <= set(image["Config"]["Env"])
    assert docker("run", "--rm", "--network", "none", tag) == "changed"


@pytest.mark.parametrize("started", [False, True])
def test_nothing_written(docker: Docker, tag: str, started: bool) -> None:
    container = docker("create", IMAGE, "true")
    if started:
        docker("start", "-a", container)
    docker("commit", container, tag)
    image, parent = docker.inspect(tag, "image"), docker.inspect(IMAGE, "image")
    assert image["RootFS"]["Layers"] == parent["RootFS"]["Layers"]
    assert image["Id"] != parent["Id"]


def test_saved_and_loaded(docker: Docker, tag: str, tmp_path: object) -> None:
    container = docker("run", "-d", "--network", "none", IMAGE, "sleep", "1000")
    docker("exec", container, "sh", "-c", "echo saved > /f")
    id = docker("commit", container, tag)
    docker("save", "-o", f"{tmp_path}/image.tar", tag)
    docker("rmi", tag)
    docker("load", "-q", "-i", f"{tmp_path}/image.tar")
    assert docker.inspect(tag, "image")["Id"] == id
    assert docker("run", "--rm", "--network", "none", tag, "cat", "/f") == "saved"


def test_refused(docker: Docker) -> None:
    assert "No such container: nope" in docker.fails("commit", "nope")
    container = docker("create", IMAGE, "true")
    assert "is not a valid change command" in docker.fails("commit", "-c", "RUN x", container)
    assert "must be lowercase" in docker.fails("commit", container, "Upper")
