"""What the engine says of itself."""

import json
import os

import compat_engine
from tests.support.docker import Docker


def test_version(docker: Docker) -> None:
    server = json.loads(docker("version", "--format", "{{json .Server}}"))
    assert (server["Os"], server["KernelVersion"]) == ("linux", os.uname().release)
    assert {component["Name"] for component in server["Components"]} >= {"Engine"}
    if not os.environ.get("COMPAT_TEST_HOST"):
        assert server["ApiVersion"] == "1.51"
        assert compat_engine.__version__ in json.dumps(server)


def test_info(docker: Docker, unique: str) -> None:
    docker("create", "--name", unique, "busybox")
    info = json.loads(docker("info", "--format", "{{json .}}"))
    assert (info["OSType"], info["Driver"], info["NCPU"], info["Swarm"]["LocalNodeState"]) == ("linux", "overlay2", os.cpu_count(), "inactive")
    assert info["Containers"] >= 1
    assert info["Images"] >= 1
    assert {"bridge", "host"} <= set(info["Plugins"]["Network"])
    assert info["CgroupVersion"] in ("1", "2")


def test_disk_usage(docker: Docker) -> None:
    lines = [json.loads(line) for line in docker("system", "df", "--format", "json").splitlines()]
    assert [line["Type"] for line in lines][:3] == ["Images", "Containers", "Local Volumes"]


def test_pull_without_a_registry_is_a_clear_error(docker: Docker) -> None:
    assert docker.fails("pull", "127.0.0.1:1/no-such:1").strip()


def test_swarm_is_refused_clearly(docker: Docker) -> None:
    assert "swarm" in docker.fails("node", "ls").lower()
