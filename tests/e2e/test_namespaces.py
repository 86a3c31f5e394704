"""Which namespaces a container shares, and with whom."""

import os

import pytest

from tests.support.docker import Docker


def own(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


@pytest.mark.parametrize("kind", ["mnt", "pid", "net", "uts", "ipc", "cgroup"])
def test_each_is_new_by_default(docker: Docker, kind: str) -> None:
    seen = docker("run", "--rm", "busybox", "readlink", f"/proc/self/ns/{kind}")
    assert seen.startswith(f"{kind}:[")
    if kind != "cgroup":  # Docker's default on cgroup v1 is the host's
        assert seen != own(kind)


@pytest.mark.parametrize(
    ("option", "kind"),
    [("--pid=host", "pid"), ("--ipc=host", "ipc"), ("--uts=host", "uts"), ("--network=host", "net"), ("--cgroupns=host", "cgroup")],
)
def test_the_host_s_on_request(docker: Docker, option: str, kind: str) -> None:
    assert docker("run", "--rm", option, "busybox", "readlink", f"/proc/self/ns/{kind}") == own(kind)


def test_private_cgroup_namespace_shows_a_root(docker: Docker) -> None:
    lines = docker("run", "--rm", "--cgroupns=private", "busybox", "cat", "/proc/self/cgroup").splitlines()
    assert lines
    assert all(line.endswith(":/") for line in lines)


@pytest.mark.parametrize(("option", "kind"), [("--pid", "pid"), ("--network", "net"), ("--ipc", "ipc")])
def test_another_container_s(docker: Docker, unique: str, option: str, kind: str) -> None:
    docker("run", "-d", "--name", unique, "--ipc", "shareable", "busybox", "sleep", "60")
    theirs = docker("exec", unique, "readlink", f"/proc/1/ns/{kind}")
    assert docker("run", "--rm", option, f"container:{unique}", "busybox", "readlink", f"/proc/self/ns/{kind}") == theirs


def test_shared_ipc_shares_dev_shm(docker: Docker, unique: str) -> None:
    docker("run", "-d", "--name", unique, "--ipc", "shareable", "busybox", "sh", "-c", "echo hello > /dev/shm/f; sleep 60")
    docker("exec", unique, "sh", "-c", "until test -s /dev/shm/f; do sleep 0.1; done")
    assert docker("run", "--rm", "--ipc", f"container:{unique}", "busybox", "cat", "/dev/shm/f") == "hello"


def test_private_ipc_cannot_be_joined(docker: Docker, unique: str) -> None:
    docker("run", "-d", "--name", unique, "--ipc", "private", "busybox", "sleep", "60")
    assert "non-shareable IPC" in docker.fails("run", "--rm", "--ipc", f"container:{unique}", "busybox", "true", code=125)


def test_ipc_none_has_no_dev_shm(docker: Docker) -> None:
    assert docker.run("run", "--rm", "--ipc", "none", "busybox", "grep", " /dev/shm ", "/proc/mounts").returncode == 1


def test_joining_a_stopped_container_is_refused(docker: Docker, unique: str) -> None:
    docker("create", "--name", unique, "busybox")
    assert "cannot join network of a non running container" in docker.fails("run", "--rm", "--network", f"container:{unique}", "busybox", "true")


def test_joining_an_unknown_container_is_refused(docker: Docker) -> None:
    assert "No such container: nosuch" in docker.fails("run", "--rm", "--pid", "container:nosuch", "busybox", "true", code=125)


def test_pid_namespace_sees_only_its_own(docker: Docker) -> None:
    assert docker("run", "--rm", "busybox", "sh", "-c", "echo $$; ls -d /proc/[0-9]* | wc -l").splitlines()[0] == "1"


def test_the_host_s_network_is_not_the_host_s_name(docker: Docker) -> None:
    assert docker("run", "--rm", "--network", "host", "--hostname", "x", "busybox", "hostname") == "x"
    script = "hostname changed; hostname"
    assert docker("run", "--rm", "--privileged", "--network", "host", "busybox", "sh", "-c", script) == "changed"
    assert docker("run", "--rm", "--network", "host", "busybox", "hostname") != "changed"
