"""Many starts at once on one network, the daemon killed in the midst of them; and starts on a network that is being removed."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.support.daemon import Daemon
from tests.support.docker import eventually

MANY = 50
NETWORK = {"Name": "crowd", "Options": {"com.docker.network.bridge.name": "cecrowd0"}}


def post(daemon: Daemon, path: str, body: object = None) -> tuple[int, Any]:
    status, answer = daemon.request("POST", path, json.dumps(body).encode() if body is not None else None)
    return status, json.loads(answer) if answer else None


def get(daemon: Daemon, path: str) -> Any:
    status, answer = daemon.request("GET", path)
    assert status == 200, answer
    return json.loads(answer)


def create(daemon: Daemon, name: str) -> None:
    host = {"NetworkMode": "crowd", "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}}
    body = {"Image": "busybox", "Cmd": ["sleep", "600"], "ExposedPorts": {"80/tcp": {}}, "HostConfig": host}
    status, answer = post(daemon, f"/containers/create?name={name}", body)
    assert status == 201, answer


def start(daemon: Daemon, name: str) -> int:
    """The status; 0 when the daemon died meanwhile."""
    try:
        return post(daemon, f"/containers/{name}/start")[0]
    except OSError:
        return 0


def ports_of_bridge() -> set[str]:
    listed = json.loads(subprocess.run(["ip", "-j", "link", "show", "master", "cecrowd0"], capture_output=True, text=True).stdout or "[]")
    return {link["ifname"] for link in listed}


def elements(daemon: Daemon) -> int:
    """Published ports in the ruleset."""
    (table,) = daemon.tables()
    listed = json.loads(subprocess.run(["nft", "-j", "list", "table", *table], capture_output=True, check=True).stdout)
    maps = [item["map"] for item in listed["nftables"] if "map" in item]
    return sum(len(one.get("elem", ())) for one in maps)


def consistent(daemon: Daemon) -> bool:
    """Containers that run, members of the network, veths and nft elements are the same in number, every address is there once."""
    running = {one["Id"] for one in get(daemon, "/containers/json")}
    members = get(daemon, "/networks/crowd")["Containers"]
    addresses = {member["IPv4Address"] for member in members.values()}
    return set(members) == running and len(addresses) == len(ports_of_bridge()) == elements(daemon) == len(running)


def test_fifty_starts_and_a_crash(engine_daemon: Daemon) -> None:
    daemon = engine_daemon
    assert post(daemon, "/networks/create", NETWORK)[0] == 201
    names = [f"crowd{number}" for number in range(MANY)]
    for name in names:
        create(daemon, name)
    with ThreadPoolExecutor(MANY) as pool:
        starting = [pool.submit(start, daemon, name) for name in names]
        eventually(lambda: sum(one.done() for one in starting) >= MANY // 3, seconds=60)
        daemon.kill9()
    answered = [one.result() for one in starting]
    assert 204 in answered
    assert set(answered) <= {0, 204}
    daemon.start()
    eventually(lambda: consistent(daemon), seconds=60)
    started = {f"/{name}" for name, status in zip(names, answered, strict=True) if status == 204}
    assert started <= {one["Names"][0] for one in get(daemon, "/containers/json")}  # who was told so, runs
    with ThreadPoolExecutor(10) as pool:
        assert set(pool.map(lambda name: start(daemon, name), names)) <= {204, 304}
    assert len(get(daemon, "/networks/crowd")["Containers"]) == MANY
    assert consistent(daemon)
    with ThreadPoolExecutor(10) as pool:
        [*pool.map(lambda name: daemon.request("DELETE", f"/containers/{name}?force=1"), names)]
    assert daemon.request("DELETE", "/networks/crowd")[0] == 204
    assert (ports_of_bridge(), elements(daemon)) == (set(), 0)


def test_a_start_while_its_network_is_removed(engine_daemon: Daemon) -> None:
    """One of the two comes first: the container runs and the network stays, or neither."""
    daemon = engine_daemon

    def attempt() -> tuple[int, int]:
        assert post(daemon, "/networks/create", NETWORK)[0] == 201
        create(daemon, "late")
        with ThreadPoolExecutor(2) as pool:
            started = pool.submit(start, daemon, "late")
            removed = pool.submit(daemon.request, "DELETE", "/networks/crowd")
            return started.result(), removed.result()[0]

    for _ in range(8):
        outcome = attempt()
        assert outcome in ((204, 403), (404, 204)), outcome
        if outcome[0] == 204:
            assert consistent(daemon)
        assert daemon.request("DELETE", "/containers/late?force=1")[0] == 204
        daemon.request("DELETE", "/networks/crowd")
        assert (ports_of_bridge(), elements(daemon)) == (set(), 0)
