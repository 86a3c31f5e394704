"""The same engine through docker-py: what does not need the CLI, and what the CLI does not show."""

import gc
import io
import tarfile
from collections.abc import Iterator
from typing import Any

import docker as docker_py
import pytest

from tests.support import busybox_image

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # docker-py's own


class Box:
    """Containers made through docker-py, removed at the end."""

    def __init__(self, client: docker_py.DockerClient, label: str) -> None:
        self.client, self.label = client, label

    def run(self, *command: str, **options: Any) -> Any:
        return self.client.containers.run("busybox", list(command), detach=True, labels=[self.label], **options)

    def create(self, *command: str, **options: Any) -> Any:
        return self.client.containers.create("busybox", list(command), labels=[self.label], **options)


@pytest.fixture
def box(client: docker_py.DockerClient, unique: str) -> Iterator[Box]:
    yield Box(client, unique)
    for container in client.containers.list(all=True, filters={"label": unique}):
        container.remove(force=True, v=True)
    gc.collect()  # sockets docker-py forgets are to be found here, not in a test of another file


def test_run_returns_the_output(client: docker_py.DockerClient) -> None:
    assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"


def test_run_raises_what_went_wrong(client: docker_py.DockerClient) -> None:
    with pytest.raises(docker_py.errors.ContainerError) as failed:
        client.containers.run("busybox", ["sh", "-c", "echo oh >&2; exit 3"], remove=True)
    assert (failed.value.exit_status, failed.value.stderr) == (3, b"oh\n")


def test_missing_things_are_not_found(client: docker_py.DockerClient) -> None:
    for get in (client.containers.get, client.images.get, client.volumes.get, client.networks.get):
        with pytest.raises(docker_py.errors.NotFound):
            get("no-such-thing")


def test_states(box: Box) -> None:
    container = box.run("sleep", "60", name=box.label)
    assert container.name == box.label
    seen = []
    for verb in ("pause", "unpause", "kill", "start", "restart", "stop"):
        getattr(container, verb)(**({"timeout": 0} if verb in ("restart", "stop") else {}))
        container.reload()
        seen.append(container.status)
    assert seen == ["paused", "running", "exited", "running", "running", "exited"]
    container.rename(f"{box.label}-new")
    container.reload()
    assert container.name == f"{box.label}-new"


def test_wait(box: Box) -> None:
    assert box.run("sh", "-c", "exit 4").wait()["StatusCode"] == 4


def test_wait_for_removal(box: Box) -> None:
    container = box.run("sleep", "60")
    api = box.client.api
    url = f"{api.base_url}/containers/{container.id}/wait"
    with api.post(url, params={"condition": "removed"}, stream=True) as waiting:  # its head says that it waits
        container.remove(force=True)
        assert waiting.json()["StatusCode"] == 137


def test_logs(box: Box) -> None:
    container = box.run("sh", "-c", "echo out; echo err >&2; echo more")
    container.wait()
    assert container.logs(stdout=True, stderr=False) == b"out\nmore\n"
    assert container.logs(stdout=False, stderr=True) == b"err\n"
    assert b"".join(container.logs(stream=True, follow=True, tail=1)) in (b"more\n", b"err\n")
    assert b"Z out\n" in container.logs(timestamps=True)


def test_attach(box: Box) -> None:
    container = box.create("sh", "-c", "echo one; echo two")
    stream = container.attach(stream=True, logs=True)
    container.start()
    assert b"".join(stream) == b"one\ntwo\n"


def test_attach_socket_both_ways(box: Box) -> None:
    container = box.create("cat", stdin_open=True, tty=True)
    socket = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    socket._sock.sendall(b"text\n")
    got = b""
    while got.count(b"text\r\n") < 2:
        got += socket._sock.recv(1000)
    socket._sock.close()
    socket.close()


def test_exec(box: Box) -> None:
    container = box.run("sleep", "60")
    done = container.exec_run(["sh", "-c", "echo out; echo err >&2; exit 2"], demux=True, environment={"A": "1"}, workdir="/tmp", user="33")
    assert (done.exit_code, done.output) == (2, (b"out\n", b"err\n"))
    api = box.client.api
    id = api.exec_create(container.id, ["sleep", "60"])["Id"]
    assert api.exec_inspect(id)["Running"] is False
    api.exec_start(id, detach=True)
    found = api.exec_inspect(id)
    assert (found["Running"], found["ExitCode"], found["ContainerID"]) == (True, None, container.id)
    assert found["ProcessConfig"]["entrypoint"] == "sleep"


def test_top(box: Box) -> None:
    answer = box.run("sleep", "61").top(ps_args="-o pid,args")
    assert answer["Titles"] == ["PID", "COMMAND"]
    assert answer["Processes"][0][1] == "sleep 61"


def test_ports_and_labels_and_limits(box: Box) -> None:
    container = box.run("sleep", "60", ports={"80/tcp": ("127.0.0.1", None)}, mem_limit="32m", nano_cpus=500_000_000, pids_limit=50)
    container.reload()
    assert container.ports["80/tcp"][0]["HostIp"] == "127.0.0.1"
    host = container.attrs["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (32 << 20, 500_000_000, 50)
    assert container.labels == {box.label: ""}


def test_volumes(box: Box) -> None:
    volume = box.client.volumes.create(box.label, labels={"a": "b"})
    try:
        assert box.client.containers.run(
            "busybox", ["sh", "-c", "echo x > /v/f; cat /v/f"], remove=True, volumes={box.label: {"bind": "/v", "mode": "rw"}}
        ) == b"x\n"  # fmt: skip
        assert volume in box.client.volumes.list(filters={"label": "a=b"})
        assert volume.attrs["Mountpoint"].endswith(f"/{box.label}/_data")
    finally:
        volume.remove()


def test_images(client: docker_py.DockerClient, unique: str) -> None:
    image = client.images.load(busybox_image.archive(f"{unique}:1"))[0]
    try:
        assert f"{unique}:1" in image.tags
        assert image.id == busybox_image.image_id()
        with tarfile.open(fileobj=io.BytesIO(b"".join(image.save(named=f"{unique}:1")))) as tar:
            assert "manifest.json" in tar.getnames()
        assert image.history()[0]["CreatedBy"] == "busybox of the host"
        assert image.tag(unique, "2")
        assert {f"{unique}:1", f"{unique}:2"} <= set(client.images.get(unique + ":2").tags)
    finally:
        client.images.remove(f"{unique}:1")
        client.images.remove(f"{unique}:2", force=True)


def test_events(box: Box) -> None:
    stream = box.client.events(decode=True, filters={"label": box.label, "type": "container"})
    container = box.run("true")
    container.wait()
    assert [next(stream)["Action"] for _ in range(3)] == ["create", "start", "die"]
    stream.close()


def test_stats(box: Box) -> None:
    found = box.run("sleep", "60").stats(stream=False)
    assert found["memory_stats"]["usage"] > 0
    assert found["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert found["networks"]["eth0"]["rx_bytes"] >= 0


def test_system(client: docker_py.DockerClient) -> None:
    assert client.ping()
    assert client.version()["Os"] == "linux"
    assert client.info()["Driver"] == "overlay2"
    assert {network.name for network in client.networks.list()} >= {"bridge", "host", "none"}
    assert "Volumes" in client.df()


def test_every_api_version_answers(engine_host: str) -> None:
    for version in ("1.24", "1.30", "1.41"):
        with_version = docker_py.DockerClient(base_url=engine_host, version=version)
        assert with_version.containers.run("busybox", ["echo", version], remove=True) == version.encode() + b"\n"
        with_version.close()
