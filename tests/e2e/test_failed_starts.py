"""A start that fails, wherever it fails, is undone: no mount, process, cgroup, veth, nft element, address or bundle stays."""

import json
import subprocess
import time
from typing import Any

import pytest

from tests.support.daemon import Daemon

# what fails -> (Config fields, HostConfig fields), in the order in which a start meets it
FAILURES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "network": ({}, {"NetworkMode": "nowhere"}),
    "port taken": ({}, {"PortBindings": {"80/tcp": [{"HostPort": "PORT"}]}}),
    "second port taken": ({}, {"PortBindings": {"79/tcp": [{}], "80/tcp": [{"HostPort": "PORT"}], "81/tcp": [{}]}}),
    "sysctl": ({}, {"Sysctls": {"kernel.panic": "1"}}),
    "device request": ({}, {"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]}),
    "device": ({}, {"Devices": [{"PathOnHost": "/dev/nosuch", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}]}),
    "bind source": ({}, {"Binds": ["/proc/nosuch/x:/x"]}),
    "volume subpath": ({}, {"Mounts": [{"Type": "volume", "Source": "sub", "Target": "/x", "VolumeOptions": {"Subpath": "no"}}]}),
    "volume mount": ({}, {"Mounts": [{"Type": "volume", "Source": "nfs", "Target": "/x", "VolumeOptions": {
        "DriverConfig": {"Name": "local", "Options": {"type": "nosuchfs", "device": "x", "o": "x"}}}}]}),
    "peer": ({}, {"NetworkMode": "container:nobody"}),
    "mount target": ({}, {"Binds": ["/tmp:/bin/busybox"]}),
    "tmpfs options": ({}, {"Tmpfs": {"/x": "size=notasize"}}),
    "net sysctl": ({}, {"Sysctls": {"net.ipv4.nosuch": "1"}}),
    "cgroup value": ({}, {"CpuPeriod": 1000, "CpuQuota": 100_000_000_000_000}),
    "working directory": ({"WorkingDir": "/bin/busybox/x"}, {}),
    "user": ({"User": "nosuch"}, {}),
    "group": ({"User": "0:nosuch"}, {}),
    "rlimit": ({}, {"Ulimits": [{"Name": "nofile", "Soft": 1 << 40, "Hard": 1 << 40}]}),
    "program": ({"Cmd": ["nosuch"]}, {}),
    "directory as program": ({"Cmd": ["/bin"]}, {}),
    "program behind init": ({"Cmd": ["/nosuch"]}, {"Init": True}),
}  # fmt: skip


def traces(daemon: Daemon) -> dict[str, Any]:
    """Everything a start makes, as it is now."""
    table = [
        subprocess.run(["nft", "list", "table", *table], capture_output=True, text=True, check=True).stdout
        for table in daemon.tables()
    ]
    _, network = daemon.request("GET", "/networks/bridge")
    return {
        "left": sorted(daemon.belongings()),
        "rules": table,
        "bundles": sorted(path.name for path in (daemon.exec_root / "containers").iterdir()),
        "endpoints": json.loads(network)["Containers"],
    }


def post(daemon: Daemon, path: str, body: object = None) -> tuple[int, Any]:
    status, answer = daemon.request("POST", path, json.dumps(body).encode() if body is not None else None)
    return status, json.loads(answer) if answer else None


def test_nothing_stays(engine_daemon: Daemon) -> None:
    daemon = engine_daemon
    status, made = post(
        daemon,
        "/containers/create",
        {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"PortBindings": {"1/tcp": [{}]}}},
    )
    assert status == 201
    assert post(daemon, f"/containers/{made['Id']}/start")[0] == 204
    _, document = daemon.request("GET", f"/containers/{made['Id']}/json")
    port = json.loads(document)["NetworkSettings"]["Ports"]["1/tcp"][0]["HostPort"]
    before = traces(daemon)
    assert any("shim" in line for line in before["left"])  # the neighbour's: the measure sees processes
    wrong = []
    for name, (config, host) in FAILURES.items():
        body = json.loads(
            json.dumps({"Image": "busybox", "Cmd": ["sleep", "1000"], **config, "HostConfig": host}).replace("PORT", port)
        )
        status, answer = post(daemon, "/containers/create", body)
        if status == 201:
            id = answer["Id"]
            status, answer = post(daemon, f"/containers/{id}/start")
            _, document = daemon.request("GET", f"/containers/{id}/json")
            state = json.loads(document)["State"]
            if state["Status"] != "created" or state["ExitCode"] not in (126, 127, 128) or not state["Error"]:
                wrong.append(f"{name}: {state}")
            daemon.request("DELETE", f"/containers/{id}?force=1&v=1")
        if status < 400 or not answer.get("message"):
            wrong.append(f"{name}: {status} {answer}")
        deadline = time.monotonic() + 30  # the kernel takes its time with a veth
        while (after := traces(daemon)) != before and time.monotonic() < deadline:
            time.sleep(0.1)
        if after != before:
            wrong.append(f"{name}: {after} instead of {before}")
    assert wrong == []


@pytest.mark.parametrize(("name", "expected"), [("program", 400), ("user", 500)])
def test_a_failed_start_can_be_tried_again(engine_daemon: Daemon, name: str, expected: int) -> None:
    config, host = FAILURES[name]
    _, made = post(engine_daemon, "/containers/create", {"Image": "busybox", "Cmd": ["true"], **config, "HostConfig": host})
    for _ in range(3):
        status, answer = post(engine_daemon, f"/containers/{made['Id']}/start")
        assert status == expected, answer
