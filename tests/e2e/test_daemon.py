"""The daemon itself: restarts and crashes with containers running, a second one on the same data, stuck containers."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import busybox_image
from tests.support.daemon import Daemon
from tests.support.docker import Docker, eventually


@pytest.fixture
def own(engine_daemon: Daemon, tmp_path: Path) -> Docker:
    return Docker(engine_daemon.host, "compat-test=own", str(tmp_path))


CUT_OFF = (OSError, http.client.HTTPException)  # the daemon was killed under a request, or within its answer
TICK = ("busybox", "sh", "-c", "i=0; while :; do echo $((i=i+1)); sleep 0.02; done")


def test_a_crash_stops_no_container_and_loses_no_line(engine_daemon: Daemon, own: Docker) -> None:
    own("run", "-d", "--name", "box", *TICK)
    pid = own.inspect("box")["State"]["Pid"]
    engine_daemon.kill9()
    time.sleep(0.5)
    engine_daemon.start()
    found = own.inspect("box")["State"]
    assert (found["Status"], found["Pid"]) == ("running", pid)
    shown = eventually(lambda: lines if len(lines := own("logs", "box").split()) > 40 else [])
    assert shown == [str(number) for number in range(1, len(shown) + 1)]
    assert own("exec", "box", "echo", "x") == "x"
    own("stop", "-t", "0", "box")
    assert own.inspect("box")["State"]["ExitCode"] == 137


def test_an_exit_while_no_daemon_lives_is_known_to_the_next(engine_daemon: Daemon, own: Docker, tmp_path: Path) -> None:
    script = "until test -e /m/go; do sleep 0.02; done; echo last; exit 9"
    for name, option in (("box", "--rm=false"), ("gone", "--rm")):
        own("run", "-d", option, "--name", name, "-v", f"{tmp_path}:/m", "busybox", "sh", "-c", script)
    shims = [parent(own.inspect(name)["State"]["Pid"]) for name in ("box", "gone")]
    engine_daemon.kill9()
    (tmp_path / "go").touch()
    eventually(lambda: not any(Path(f"/proc/{shim}").exists() for shim in shims))
    engine_daemon.start()
    state = own.inspect("box")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 9)
    assert own("logs", "box") == "last"
    assert own("wait", "box") == "9"
    eventually(lambda: "gone" not in own("ps", "-a", "--format", "{{.Names}}").split())


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_containers_are_adopted_at_once(engine_daemon: Daemon, own: Docker) -> None:
    for number in range(10):
        own("run", "-d", "--name", f"box{number}", "busybox", "sleep", "600")
    engine_daemon.kill9()
    began = time.monotonic()
    engine_daemon.start()
    assert own("ps", "-q").count("\n") == 9
    assert time.monotonic() - began < 15  # it takes one; a second each would be waiting for something in turn, on busy cores too


@pytest.mark.parametrize("engine_daemon", [{"settings": {"live-restore": True}}], indirect=True)
def test_with_live_restore_containers_outlive_an_orderly_stop(engine_daemon: Daemon, own: Docker) -> None:
    own("run", "-d", "--name", "lives", "busybox", "sleep", "600")
    own("run", "-d", "--name", "again", "--restart", "always", "busybox", "sh", "-c", "echo up; sleep 600")
    pid = own.inspect("again")["State"]["Pid"]
    engine_daemon.stop()
    os.kill(pid, signal.SIGKILL)
    engine_daemon.start()
    assert own.state("lives") == "running"
    eventually(lambda: own("logs", "again").split() == ["up", "up"])
    own.wait_state("again", "running")


def test_an_orderly_stop_ends_containers_and_the_next_start_restarts_those_that_say_so(engine_daemon: Daemon, own: Docker) -> None:
    script = "trap 'echo term; exit 3' TERM; echo up; while :; do sleep 0.1; done"
    for name, policy in (("once", "no"), ("always", "always"), ("stopped", "unless-stopped")):
        own("run", "-d", "--name", name, "--restart", policy, "busybox", "sh", "-c", script)
        eventually(lambda name=name: own("logs", name) == "up")  # type: ignore[misc]
    own("stop", "stopped")
    engine_daemon.stop()
    engine_daemon.start()
    own.wait_state("always", "running")
    state = own.inspect("once")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 3)
    assert own("logs", "once").split() == ["up", "term"]
    assert own.state("stopped") == "exited"


@pytest.mark.parametrize("end", ["kill9", "stop"])
def test_a_container_that_waits_for_its_next_try_goes_on_with_the_next_daemon(engine_daemon: Daemon, own: Docker, end: str) -> None:
    for policy in ("always", "unless-stopped", "on-failure", "on-failure:40", "on-failure:1"):
        args = ["--network", "none", "--name", policy.replace(":", "-"), "--restart", policy]
        own("run", "-d", *args, "busybox", "sh", "-c", "echo x; exit 3")
    own("run", "-d", "--network", "none", "--name", "by-hand", "--restart", "unless-stopped", "busybox", "sh", "-c", "exit 3")
    names = ("always", "unless-stopped", "on-failure", "on-failure-40")
    eventually(lambda: all(own.inspect(name)["RestartCount"] >= 5 for name in names))
    own("stop", "by-hand")
    own.wait_state("on-failure-1", "exited")
    own.wait_state("always", "restarting")
    getattr(engine_daemon, end)()
    engine_daemon.start()
    lines = {name: len(own("logs", name).split()) for name in names}
    eventually(lambda: all(len(own("logs", name).split()) > lines[name] for name in names))
    for name in names:
        found = own.inspect(name)
        assert found["State"]["ExitCode"] in (0, 3), name  # of the run before, or it runs
        own("stop", "-t", "0", name)
        assert (own.inspect(name)["State"]["ExitCode"], own.state(name)) == (3, "exited")
    for name in ("on-failure-1", "by-hand"):
        assert (own.inspect(name)["State"]["ExitCode"], own.state(name)) == (3, "exited")
    assert own.inspect("on-failure-1")["RestartCount"] == 1


LOG_SETTINGS = {"log-driver": "local", "log-opts": {"max-size": "1m", "max-file": "2"}}


@pytest.mark.parametrize("engine_daemon", [{"settings": LOG_SETTINGS}], indirect=True)
def test_the_daemon_s_log_driver(engine_daemon: Daemon, own: Docker) -> None:
    assert own("info", "-f", "{{.LoggingDriver}}") == "local"
    id = own("run", "-d", "--network", "none", "--log-opt", "max-file=3", "busybox", "echo", "hi")
    own("wait", id)
    assert own("logs", id) == "hi"
    assert own.inspect(id)["HostConfig"]["LogConfig"] == {"Type": "local", "Config": {"max-size": "1m", "max-file": "3"}}
    other = own("create", "--log-driver", "json-file", "busybox")
    assert own.inspect(other)["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {}}


def test_a_log_option_that_does_not_exist_stops_the_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "compat_engine", "--data-root", str(tmp_path), "--log-opt", "nosuch=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "failed to set log opts: unknown log opt 'nosuch' for json-file log driver" in done.stderr


def test_a_hangup_loads_the_configuration_anew(engine_daemon: Daemon, own: Docker) -> None:
    assert engine_daemon.process is not None
    pid = engine_daemon.process.pid
    file = engine_daemon.run / "daemon.json"
    settings = json.loads(file.read_text())
    began = str(time.time())
    changes = {"debug": True, "labels": ["a=b"], "registry-mirrors": ["https://m.example"], "max-concurrent-downloads": 7}
    file.write_text(json.dumps({**settings, **changes, "insecure-registries": ["reg.example:5000"]}))
    os.kill(pid, signal.SIGHUP)
    eventually(lambda: own("info", "-f", "{{.Labels}}") == "[a=b]")
    args = ["--since", began, "--filter", "type=daemon", "--format", "{{json .}}"]
    event = json.loads(eventually(lambda: own("events", *args, "--until", str(time.time()))))
    assert (event["Type"], event["Action"], event["Actor"]["ID"]) == ("daemon", "reload", own("info", "-f", "{{.ID}}"))
    about = event["Actor"]["Attributes"]
    assert {name: about[name] for name in ("debug", "labels", "max-concurrent-downloads", "live-restore")} == {
        "debug": "true", "labels": '["a=b"]', "max-concurrent-downloads": "7", "live-restore": "false",
    }  # fmt: skip
    known = json.loads(own("info", "-f", "{{json .RegistryConfig}}"))
    assert known["Mirrors"] == ["https://m.example/"]
    assert known["IndexConfigs"]["reg.example:5000"]["Secure"] is False
    file.write_text(json.dumps({**settings, "labels": ["c=d"], "nosuch": 1}))
    os.kill(pid, signal.SIGHUP)
    eventually(lambda: "the following directives don't match any configuration option: nosuch" in engine_daemon.log)
    assert own("info", "-f", "{{.Labels}} {{.Debug}}") == "[a=b] true"


def test_published_ports_survive_a_restart(engine_daemon: Daemon, own: Docker) -> None:
    serve = "mkdir /www; echo -n hello > /www/index.html; exec httpd -f -p 80 -h /www"
    own("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "busybox", "sh", "-c", serve)
    port = int(own("port", "web", "80").rsplit(":", 1)[1])
    engine_daemon.kill9()
    engine_daemon.start()
    assert eventually(lambda: _get(port)).endswith(b"hello")
    assert "port is already allocated" in own.fails("run", "-d", "-p", f"127.0.0.1:{port}:80", "busybox", "true")


def _get(port: int) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: connection.recv(4096), b""))
    except OSError:
        return b""


def test_a_second_daemon_on_the_same_data_is_refused(engine_daemon: Daemon) -> None:
    second = subprocess.run(engine_daemon.command(), capture_output=True, text=True, timeout=60, cwd="/", env=_environment())
    assert second.returncode != 0
    assert str(engine_daemon.data) in second.stderr
    assert engine_daemon.answers()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}


def test_a_bad_option_ends_it_with_a_reason(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "compat_engine", "--bip", "nonsense", "--data-root", str(tmp_path), "-H", "unix:///nowhere/x.sock"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/", env=_environment())
    assert result.returncode != 0
    assert "nonsense" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_stuck_container_blocks_nobody(engine_daemon: Daemon, own: Docker) -> None:
    """Its process 1 and shim are stopped by a signal, so no stop and no exec can finish."""
    own("run", "-d", "--name", "stuck", "busybox", "sleep", "600")
    pid = own.inspect("stuck")["State"]["Pid"]
    shim = parent(pid)
    os.kill(shim, signal.SIGSTOP)
    try:
        stopping = own.start("stop", "-t", "1", "stuck")
        assert engine_daemon.answers()
        assert "stuck" in own("ps", "--format", "{{.Names}}").split()
        assert own.inspect("stuck")["State"]["Running"] is True
        assert own("run", "--rm", "busybox", "echo", "on") == "on"
    finally:
        os.kill(shim, signal.SIGCONT)
    stopping.communicate(timeout=60)
    own.wait_state("stuck", "exited")


def test_a_failed_start_leaves_nothing(engine_daemon: Daemon, own: Docker) -> None:
    broken = [
        ["--device", "/dev/nosuch"],
        ["--mount", "type=tmpfs,dst=/t,tmpfs-size=1", "-w", "/etc/passwd"],
        ["--sysctl", "net.nosuch=1"],
        ["-u", "nosuch"],
        ["--cpuset-cpus", "0", "-v", "/etc/passwd:/etc"],
        ["--entrypoint", "/nosuch"],
    ]
    for args in broken:
        own.fails("run", *args, "-p", "80", "busybox", "true")
    own("run", "--rm", "busybox", "true")
    own.clean()
    assert engine_daemon.leftovers() == []


def test_a_client_that_vanishes_does_no_harm(engine_daemon: Daemon, own: Docker) -> None:
    own("run", "-d", "--name", "box", *TICK)
    for command in (("logs", "-f", "box"), ("attach", "box"), ("events",), ("stats",), ("wait", "box"), ("exec", "-i", "box", "cat")):
        for moment in (0.02, 0.06, 0.2):
            process = own.start(*command)
            time.sleep(moment)
            process.kill()
            process.communicate()
    half = socket.socket(socket.AF_UNIX)
    half.connect(engine_daemon.socket)
    half.sendall(b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    half.close()
    assert own.state("box") == "running"
    assert "Traceback" not in engine_daemon.log


def _crash(engine_daemon: Daemon, seconds: float, work: Callable[[], object]) -> None:
    """Kill the daemon `seconds` into `work`, then start it again."""
    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(seconds)
    engine_daemon.kill9()
    thread.join(60)
    engine_daemon.start()


@pytest.fixture(params=[0.002, 0.006, 0.012, 0.02, 0.03, 0.05])
def moment(request: pytest.FixtureRequest) -> Iterator[float]:
    """How long after the request the daemon is killed, in seconds; a start takes 10 to 50 ms."""
    yield request.param


def test_killed_during_start(engine_daemon: Daemon, own: Docker, moment: float) -> None:
    for number in range(3):
        own("create", "--name", f"box{number}", "-p", "80", "-v", "/data", "busybox", "sleep", "600")
    _crash(engine_daemon, moment, lambda: [post(engine_daemon, f"/containers/box{number}/start") for number in range(3)])
    for number in range(3):
        state = own.inspect(f"box{number}")["State"]
        assert state["Status"] in ("created", "running", "exited")
        assert state["Running"] == (state["Pid"] > 0)
        if state["Running"]:
            assert own("exec", f"box{number}", "echo", "x") == "x"
        else:
            own("start", f"box{number}")


def test_killed_during_stop_and_remove(engine_daemon: Daemon, own: Docker, moment: float) -> None:
    for number in range(3):
        own("run", "-d", "--name", f"box{number}", "-v", "/data", "busybox", "sleep", "600")

    def work() -> None:
        post(engine_daemon, "/containers/box0/stop?t=0")
        post(engine_daemon, "/containers/box1?force=1&v=1", "DELETE")
        post(engine_daemon, "/containers/box2/kill")

    _crash(engine_daemon, moment, work)
    for name in own("ps", "-a", "--format", "{{.Names}}").split():
        state = own.inspect(name)["State"]
        assert state["Status"] in ("running", "exited")
        if state["Status"] == "exited":
            assert state["ExitCode"] == 137
            own("start", name)
        own("rm", "-f", "-v", name)
    assert own("volume", "ls", "-q", "--filter", "dangling=false") == ""


def test_killed_during_exec(engine_daemon: Daemon, own: Docker, moment: float) -> None:
    own("run", "-d", "--name", "box", "busybox", "sleep", "600")
    _crash(engine_daemon, moment, lambda: own.run("exec", "box", "sh", "-c", "for i in 1 2 3; do sleep 0.01; done"))
    assert own("exec", "box", "echo", "x") == "x"


def test_killed_during_load(engine_daemon: Daemon, own: Docker, moment: float) -> None:
    def load() -> None:
        with contextlib.suppress(*CUT_OFF):
            engine_daemon.request("POST", "/images/load", busybox_image.archive("other:1"))

    own("rmi", "-f", "busybox")
    _crash(engine_daemon, moment, load)
    listed = json.loads(engine_daemon.request("GET", "/images/json")[1])
    for image in listed:
        assert own("run", "--rm", image["Id"], "echo", "x") == "x"
    load()
    assert own("run", "--rm", "other:1", "echo", "x") == "x"


def test_killed_during_create(engine_daemon: Daemon, own: Docker, moment: float) -> None:
    body = json.dumps({"Image": "busybox", "Cmd": ["true"], "Volumes": {"/data": {}}}).encode()
    _crash(engine_daemon, moment, lambda: [post(engine_daemon, f"/containers/create?name=box{n}", body=body) for n in range(5)])
    names = own("ps", "-a", "--format", "{{.Names}}").split()
    for name in names:
        own("start", "-a", name)
    own("create", "--name", "box9", "busybox")


def post(daemon: Daemon, path: str, method: str = "POST", body: bytes = b"") -> int:
    """The status of a request to a daemon that may die under it; 0 when it did."""
    try:
        return daemon.request(method, path, body)[0]
    except CUT_OFF:
        return 0
