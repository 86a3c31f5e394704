"""Start, stop, restart, kill, pause, rename, update, resize, top, remove and prune of containers."""

from __future__ import annotations

import time
from typing import Any

from ..assertions import ZERO_TIME, contains, equal, expect, has_fields, is_time, nanoseconds, refused, status
from ..engine import Engine
from ..registry import Body, check, each

START = "POST /containers/{id}/start"
STOP = "POST /containers/{id}/stop"
RESTART = "POST /containers/{id}/restart"
KILL = "POST /containers/{id}/kill"
PAUSE = "POST /containers/{id}/pause"
UNPAUSE = "POST /containers/{id}/unpause"
RENAME = "POST /containers/{id}/rename"
RESIZE = "POST /containers/{id}/resize"
TOP = "GET /containers/{id}/top"
REMOVE = "DELETE /containers/{id}"

TRAPS_TERM = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"
NONE = {"NetworkMode": "none"}

MISSING = [
    (START, "POST", "/start"),
    (STOP, "POST", "/stop"),
    (RESTART, "POST", "/restart"),
    (KILL, "POST", "/kill"),
    (PAUSE, "POST", "/pause"),
    (UNPAUSE, "POST", "/unpause"),
    (RENAME, "POST", "/rename?name=xyz"),
    (RESIZE, "POST", "/resize?h=1&w=1"),
    (TOP, "GET", "/top"),
    (REMOVE, "DELETE", ""),
    ("GET /containers/{id}/logs", "GET", "/logs?stdout=1"),
    ("POST /containers/{id}/wait", "POST", "/wait"),
    ("GET /containers/{id}/changes", "GET", "/changes"),
    ("GET /containers/{id}/export", "GET", "/export"),
    ("GET /containers/{id}/archive", "GET", "/archive?path=/"),
    ("GET /containers/{id}/stats", "GET", "/stats?stream=0"),
]


def missing(method: str, path: str) -> Body:
    def run(engine: Engine) -> None:
        refused(engine.client.request(method, f"/containers/no-such{path}"), 404, "No such container: no-such")

    return run


for endpoint, method, path in MISSING:
    each(endpoint, "missing_container", [(path.partition("?")[0] or "rm", missing(method, path))])


# start


@check(START)
def start(engine: Engine) -> None:
    container = engine.create(host=NONE)
    answer = status(engine.client.post(f"/containers/{container}/start"), 204)
    equal(answer.body, b"", "body")
    state = engine.state(container)
    has_fields(state, {"Status": "running", "Running": True, "ExitCode": 0, "Error": "", "FinishedAt": ZERO_TIME}, "State")
    is_time(state["StartedAt"], "StartedAt")
    expect(state["StartedAt"] > "2000", "StartedAt is set")
    expect(state["Pid"] > 0, "Pid is set")


@check(START)
def start_twice(engine: Engine) -> None:
    equal(status(engine.client.post(f"/containers/{engine.shared}/start"), 304).body, b"", "body")


@check(START)
def start_with_an_empty_object(engine: Engine) -> None:
    status(engine.client.post(f"/containers/{engine.create(host=NONE)}/start", body={}), 204)


@check(START)
def start_with_a_host_config(engine: Engine) -> None:
    answer = engine.client.post(f"/containers/{engine.create()}/start", body={"Binds": ["/tmp:/x"]})
    refused(answer, 400, "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")


@check(START)
def start_again_after_exit(engine: Engine) -> None:
    container = engine.run("sh", "-c", "exit 3", host=NONE)
    equal(engine.wait(container), 3, "exit code")
    first = nanoseconds(engine.state(container)["FinishedAt"])
    engine.start(container)
    engine.wait(container)
    expect(nanoseconds(engine.state(container)["FinishedAt"]) > first, "FinishedAt moves on")


@check(START)
def start_by_prefix(engine: Engine) -> None:
    container = engine.create(host=NONE)
    status(engine.client.post(f"/containers/{container[:12]}/start"), 204)
    expect(engine.state(container)["Running"], "it runs")


def fails(
    code: int, statuses: tuple[int, ...], message: str, *command: str, host: dict[str, Any] | None = None, **config: Any
) -> Body:
    """The start is refused, and the state tells the exit code and the error."""

    def run(engine: Engine) -> None:
        container = engine.create(*command, host={**NONE, **(host or {})}, **config)
        refused(engine.client.post(f"/containers/{container}/start"), statuses, message)
        state = engine.state(container)
        has_fields(state, {"Status": "created", "Running": False, "Pid": 0, "ExitCode": code}, "State")
        contains(state["Error"], message, "State.Error")

    return run


each(
    START,
    "start_fails",
    [
        ("missing file", fails(127, (400, 404), "no such file or directory", "/no/such")),
        ("not in PATH", fails(127, (400, 404), "executable file not found in $PATH", "no-such-command")),
        ("directory", fails(126, (400, 403), "is a directory", "/etc")),
        ("not executable", fails(126, (400, 403), "permission denied", "/etc/passwd")),
        ("unknown user", fails(128, (500,), "unable to find user nobody-here", "true", User="nobody-here")),
        ("unknown group", fails(128, (500,), "unable to find group no-such", "true", User="root:no-such")),
        ("unknown added group", fails(128, (500,), "nable to find group no-such", "true", host={"GroupAdd": ["no-such"]})),
        ("no nameserver", fails(128, (500,), "bad nameserver address x: ", "true", host={"Dns": ["x"]})),
        ("no device", fails(128, (500,), "error gathering device information", "true", host={"Devices": [{"PathOnHost": "/x"}]})),
    ],
)


@check(START)
def permissions_of_a_device_that_are_none(engine: Engine) -> None:
    device = {"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "x"}
    status(engine.client.post(f"/containers/{engine.create(host={**NONE, 'Devices': [device]})}/start"), 204)


@check(START)
def seccomp_profile_without_content(engine: Engine) -> None:
    container = engine.create(host={**NONE, "SecurityOpt": ["seccomp={}"]})
    status(engine.client.post(f"/containers/{container}/start"), 204)


@check(START)
def start_fails_on_an_unknown_network(engine: Engine) -> None:
    container = engine.create(host={"NetworkMode": "conformance-no-such"})
    refused(engine.client.post(f"/containers/{container}/start"), 404, "network conformance-no-such not found")
    equal(engine.state(container)["Status"], "created", "Status")


@check(START)
def start_fails_when_the_network_container_is_down(engine: Engine) -> None:
    other = engine.create()
    container = engine.create(host={"NetworkMode": f"container:{other}"})
    refused(engine.client.post(f"/containers/{container}/start"), 409, "cannot join network of a non running container: ")


@check(START)
def failed_start_can_be_removed_without_force(engine: Engine) -> None:
    container = engine.create("/no/such", host=NONE)
    engine.client.post(f"/containers/{container}/start")
    status(engine.client.delete(f"/containers/{container}"), 204)


@check(START)
def port_conflict(engine: Engine) -> None:
    first = engine.run(ExposedPorts={"80/tcp": {}}, host={"PortBindings": {"80/tcp": [{"HostPort": ""}]}})
    port = engine.inspect(first)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]
    second = engine.create(ExposedPorts={"80/tcp": {}}, host={"PortBindings": {"80/tcp": [{"HostPort": port}]}})
    refused(engine.client.post(f"/containers/{second}/start"), 500, "port is already allocated")
    contains(engine.state(second)["Error"], "port is already allocated", "State.Error")
    status(engine.client.delete(f"/containers/{first}", {"force": 1}), 204)
    engine.start(second)


# stop, restart, kill


@check(STOP)
def stop_sends_term(engine: Engine) -> None:
    container = engine.run("sh", "-c", TRAPS_TERM, host=NONE)
    engine.until_logged(container, "ready")
    status(engine.client.post(f"/containers/{container}/stop", {"t": 10}), 204)
    has_fields(
        engine.state(container), {"Status": "exited", "Running": False, "ExitCode": 7, "Pid": 0, "OOMKilled": False}, "State"
    )


@check(STOP)
def stop_kills_after_the_timeout(engine: Engine) -> None:
    container = engine.run_light()
    started = time.monotonic()
    status(engine.client.post(f"/containers/{container}/stop", {"t": 1}), 204)
    expect(0.8 < time.monotonic() - started < 30, f"one second of grace, it took {time.monotonic() - started:.1f} s")
    equal(engine.state(container)["ExitCode"], 137, "ExitCode")


@check(STOP)
def stop_of_a_stopped_container(engine: Engine) -> None:
    status(engine.client.post(f"/containers/{engine.create()}/stop"), 304)


@check(STOP)
def stop_uses_the_stop_signal(engine: Engine) -> None:
    script = "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done"
    container = engine.run("sh", "-c", script, host=NONE, StopSignal="SIGUSR1")
    engine.until_logged(container, "ready")
    status(engine.client.post(f"/containers/{container}/stop", {"t": 10}), 204)
    equal(engine.state(container)["ExitCode"], 9, "ExitCode")


@check(STOP, since="1.42")
def stop_signal_of_the_query(engine: Engine) -> None:
    container = engine.run_light()
    status(engine.client.post(f"/containers/{container}/stop", {"signal": "KILL", "t": 1000}), 204)
    equal(engine.state(container)["ExitCode"], 137, "ExitCode")


@check(STOP)
def stop_timeout_of_the_container(engine: Engine) -> None:
    container = engine.run_light(StopTimeout=0)
    status(engine.client.post(f"/containers/{container}/stop", timeout=9), 204)  # without it, ten seconds of grace


@check(STOP)
def stop_with_a_bad_timeout(engine: Engine) -> None:
    refused(engine.client.post(f"/containers/{engine.create()}/stop", {"t": "x"}), (400, 500), "invalid syntax")


@check(STOP, since="1.42")
def stop_with_a_bad_signal(engine: Engine) -> None:
    container = engine.run_light()
    answer = engine.client.post(f"/containers/{container}/stop", {"signal": "BOGUS"})
    refused(answer, 500, f"cannot stop container: {container}: invalid signal: BOGUS")
    expect(engine.state(container)["Running"], "it still runs")


@check(STOP)
def finished_state(engine: Engine) -> None:
    container = engine.finish("sh", "-c", "sleep 0.2; exit 5").id
    state = engine.state(container)
    has_fields(state, {"Status": "exited", "Running": False, "Pid": 0, "ExitCode": 5, "Error": "", "Dead": False}, "State")
    is_time(state["FinishedAt"], "FinishedAt")
    expect(nanoseconds(state["FinishedAt"]) > nanoseconds(state["StartedAt"]), "it finished after it started")


@check(RESTART)
def restart(engine: Engine) -> None:
    container = engine.run("sh", "-c", TRAPS_TERM, host=NONE)
    engine.until_logged(container, "ready")
    before = engine.state(container)
    status(engine.client.post(f"/containers/{container}/restart", {"t": 5}), 204)
    after = engine.state(container)
    expect(after["Running"] and nanoseconds(after["StartedAt"]) > nanoseconds(before["StartedAt"]), "it was started anew")
    equal(engine.inspect(container)["RestartCount"], 0, "RestartCount is for the policy's restarts")


@check(RESTART)
def restart_of_a_stopped_container(engine: Engine) -> None:
    container = engine.create(host=NONE)
    status(engine.client.post(f"/containers/{container}/restart"), 204)
    expect(engine.state(container)["Running"], "it runs")


@check(RESTART, since="1.42")
def restart_with_a_bad_signal(engine: Engine) -> None:
    container = engine.run_light()
    for signal in ("BOGUS", "RTMIN+16", "RTMAX-15"):
        answer = engine.client.post(f"/containers/{container}/restart", {"signal": signal})
        refused(answer, 500, f"Cannot restart container {container}: invalid signal: {signal}")
    expect(engine.state(container)["Running"], "it still runs")


@check(KILL)
def kill_by_default(engine: Engine) -> None:
    container = engine.run_light()
    status(engine.client.post(f"/containers/{container}/kill"), 204)
    equal(engine.wait(container), 137, "exit code")


def kills_with(signal: str, code: int) -> Body:
    def run(engine: Engine) -> None:
        trap = "trap 'exit 42' USR1; trap 'exit 43' HUP; echo ready; while :; do sleep 0.05; done"
        container = engine.run("sh", "-c", trap, host=NONE)
        engine.until_logged(container, "ready")
        engine.kill(container, signal)
        equal(engine.wait(container), code, "exit code")

    return run


SIGNALS = {"USR1": 42, "SIGUSR1": 42, "sigusr1": 42, "10": 42, "hup": 43, "9": 137, "SIGKILL": 137}
each(KILL, "kill", [(signal, kills_with(signal, code)) for signal, code in SIGNALS.items()])


@check(KILL)
def kill_with_an_ignored_signal(engine: Engine) -> None:
    container = engine.shared
    engine.kill(container, "WINCH")
    expect(engine.state(container)["Running"], "it still runs")


def refuses_signal(signal: str, message: str) -> Body:
    def run(engine: Engine) -> None:
        refused(engine.client.post(f"/containers/{engine.shared}/kill", {"signal": signal}), 400, message)

    return run


each(
    KILL,
    "kill_refused",
    [
        ("name", refuses_signal("BOGUS", "invalid signal: BOGUS")),
        ("zero", refuses_signal("0", "invalid signal: 0")),
        ("too large", refuses_signal("99", "the linux daemon does not support signal 99")),
    ],
)


@check(KILL)
def kill_of_no_container(engine: Engine) -> None:
    for signal, code, message in (("KILL", 404, "No such container: nope"), ("BOGUS", 400, "invalid signal: BOGUS")):
        answer = engine.client.post("/containers/nope/kill", {"signal": signal})
        refused(answer, code, f"cannot kill container: nope: {message}")


@check(KILL)
def kill_of_a_stopped_container(engine: Engine) -> None:
    container = engine.create()
    refused(engine.client.post(f"/containers/{container}/kill"), 409, f"container {container} is not running")
