"""Exec: create, start (attached and detached), inspect, resize, and its errors."""

from __future__ import annotations

import time
from typing import Any

from .. import frames
from ..assertions import contains, equal, expect, has_fields, is_id, matches, one_of, refused, status
from ..engine import Engine
from ..registry import Body, check, each

CREATE = "POST /containers/{id}/exec"
START = "POST /exec/{id}/start"
INSPECT = "GET /exec/{id}/json"
RESIZE = "POST /exec/{id}/resize"


def output(engine: Engine, script: str, **config: Any) -> str:
    text, code = engine.exec_output(engine.shared, "sh", "-c", script, **config)
    equal(code, 0, f"exit code of `{script}`")
    return text.strip()


@check(CREATE)
def create(engine: Engine) -> None:
    answer = status(engine.client.post(f"/containers/{engine.shared}/exec", body={"Cmd": ["true"]}), 201)
    equal(set(answer.json()), {"Id"}, "keys")
    is_id(answer.json()["Id"])


@check(CREATE)
def create_refusals(engine: Engine) -> None:
    container = engine.create()
    refused(engine.client.post(f"/containers/{container}/exec", body={"Cmd": ["true"]}), 409, "is not running")
    refused(engine.client.post("/containers/no-such/exec", body={"Cmd": ["true"]}), 404, "No such container: no-such")


@check(CREATE)
def create_without_a_command(engine: Engine) -> None:
    refused(engine.client.post(f"/containers/{engine.shared}/exec", body={}), 400, "No exec command specified")


@check(CREATE)
def create_with_bad_detach_keys(engine: Engine) -> None:
    body = {"Cmd": ["true"], "DetachKeys": "foo,bar"}
    status(engine.client.post(f"/containers/{engine.shared}/exec", body=body), 400, 500)


@check(CREATE)
def create_needs_json(engine: Engine) -> None:
    path = f"/containers/{engine.shared}/exec"
    refused(engine.client.post(path, body=b"{}", headers={"Content-Type": "text/plain"}), 400, "unsupported Content-Type header")


@check(INSPECT)
def inspect_before_start(engine: Engine) -> None:
    container = engine.shared
    exec_id = engine.exec_create(container, "sh", "-c", "exit 1", User="worker", Tty=True, AttachStdin=True)
    seen = engine.exec_inspect(exec_id)
    has_fields(seen, {"ID": exec_id, "Running": False, "ExitCode": None, "ContainerID": container, "Pid": 0, "OpenStdin": True})
    expected = {"tty": True, "entrypoint": "sh", "arguments": ["-c", "exit 1"], "privileged": False, "user": "worker"}
    has_fields(seen["ProcessConfig"], expected, "ProcessConfig")


@check(INSPECT)
def inspect_while_it_runs(engine: Engine) -> None:
    exec_id = engine.exec_create(engine.shared, "sh", "-c", "echo ready; sleep 100")
    with engine.exec_start(exec_id) as stream:
        frames.read_payload_until(stream, b"ready\n")
        seen = engine.exec_inspect(exec_id)
        has_fields(seen, {"Running": True, "ExitCode": None})
        expect(seen["Pid"] > 0, "Pid is set")


@check(INSPECT)
def inspect_right_after_the_stream_ends(engine: Engine) -> None:
    container = engine.shared
    for code in (0, 1, 77):
        equal(engine.exec_output(container, "sh", "-c", f"exit {code}")[1], code, "ExitCode")


@check(INSPECT)
def running_execs_are_listed_by_the_container(engine: Engine) -> None:
    container = engine.run_light()
    equal(engine.inspect(container)["ExecIDs"], None, "ExecIDs before")
    exec_id = engine.exec_create(container, "sleep", "100")
    status(engine.client.post(f"/exec/{exec_id}/start", body={"Detach": True}), 200)
    equal(engine.inspect(container)["ExecIDs"], [exec_id], "ExecIDs")


@check(INSPECT)
def missing_exec(engine: Engine) -> None:
    refused(engine.client.get("/exec/no-such/json"), 404, "No such exec instance: no-such")
    refused(engine.client.post("/exec/no-such/start", body={}), 404, "No such exec instance: no-such")
    refused(engine.client.post("/exec/no-such/resize", {"h": 1, "w": 1}), 404, "No such exec instance: no-such")


# start


@check(START)
def start_upgrades(engine: Engine) -> None:
    with engine.exec_start(engine.exec_create(engine.shared, "true")) as stream:
        equal((stream.status, stream.reason), (101, "UPGRADED"), "status line")
        equal((stream.headers.get("connection"), stream.headers.get("upgrade")), ("Upgrade", "tcp"), "headers")


@check(START, since="1.42")
def content_types(engine: Engine) -> None:
    container = engine.shared
    with engine.exec_start(engine.exec_create(container, "true")) as stream:
        equal(stream.headers["content-type"], "application/vnd.docker.multiplexed-stream", "content-type")
    with engine.exec_start(engine.exec_create(container, "true", Tty=True), Tty=True) as stream:
        equal(stream.headers["content-type"], "application/vnd.docker.raw-stream", "content-type of a terminal")


@check(START, until="1.41")
def content_type_before_1_42(engine: Engine) -> None:
    with engine.exec_start(engine.exec_create(engine.shared, "true")) as stream:
        equal(stream.headers["content-type"], "application/vnd.docker.raw-stream", "content-type")


@check(START)
def start_without_upgrade(engine: Engine) -> None:
    exec_id = engine.exec_create(engine.shared, "sh", "-c", "echo out; echo err >&2")
    answer = status(engine.client.post(f"/exec/{exec_id}/start", body={}), 200)
    equal((frames.join(answer.body, 1), frames.join(answer.body, 2)), (b"out\n", b"err\n"), "output")


@check(START)
def head_comes_before_the_first_frame(engine: Engine) -> None:
    container = engine.shared
    together = []
    for _ in range(10):
        with engine.exec_start(engine.exec_create(container, "echo", "hello")) as stream:
            together.append(stream.first_packet)
            equal(frames.join(stream.read_all()), b"hello\n", "output")
    contains(together, b"", "bytes that came with the 101 head in one read, of ten tries")


@check(START)
def output_of_both_streams(engine: Engine) -> None:
    exec_id = engine.exec_create(engine.shared, "sh", "-c", "echo out; echo err >&2")
    with engine.exec_start(exec_id) as stream:
        seen = stream.read_all()
    equal((frames.join(seen, 1), frames.join(seen, 2)), (b"out\n", b"err\n"), "output")


@check(START)
def only_the_streams_asked_for(engine: Engine) -> None:
    exec_id = engine.exec_create(engine.shared, "sh", "-c", "echo out; echo err >&2", AttachStderr=False)
    with engine.exec_start(exec_id) as stream:
        equal(frames.decode(stream.read_all()), [(1, b"out\n")], "frames")


@check(START)
def terminal(engine: Engine) -> None:
    exec_id = engine.exec_create(engine.shared, "sh", "-c", "tty; echo $TERM", Tty=True)
    with engine.exec_start(exec_id, Tty=True) as stream:
        matches(r"/dev/pts/\d+\r\nxterm\r\n", stream.read_all().decode(), "output")


@check(START)
def stdin(engine: Engine) -> None:
    exec_id = engine.exec_create(engine.shared, "cat", AttachStdin=True)
    with engine.exec_start(exec_id) as stream:
        stream.write(b"hello\n")
        stream.half_close()
        equal(frames.join(stream.read_all()), b"hello\n", "echo")
    equal(engine.exec_inspect(exec_id)["ExitCode"], 0, "ExitCode")


@check(START)
def half_close_without_stdin(engine: Engine) -> None:
    exec_id = engine.exec_create(engine.shared, "sh", "-c", "sleep 0.3; echo late")
    with engine.exec_start(exec_id) as stream:
        stream.half_close()
        equal(frames.join(stream.read_all()), b"late\n", "output")


@check(START)
def large_output_is_complete(engine: Engine) -> None:
    exec_id = engine.exec_create(engine.shared, "sh", "-c", "head -c 2000000 /dev/zero")
    with engine.exec_start(exec_id) as stream:
        equal(len(frames.join(stream.read_all())), 2_000_000, "bytes")


@check(START)
def detached(engine: Engine) -> None:
    container = engine.run_light()
    exec_id = engine.exec_create(container, "sh", "-c", "echo x > /tmp/made; exit 4")
    equal(status(engine.client.post(f"/exec/{exec_id}/start", body={"Detach": True}), 200).body, b"", "body")
    engine.client.eventually(lambda: engine.exec_inspect(exec_id)["ExitCode"] is not None)
    equal(engine.exec_inspect(exec_id)["ExitCode"], 4, "ExitCode")
    equal(engine.exec_output(container, "cat", "/tmp/made")[0], "x\n", "the file")


@check(START)
def detached_missing_command(engine: Engine) -> None:
    exec_id = engine.exec_create(engine.run_light(), "no-such-command")
    refused(engine.client.post(f"/exec/{exec_id}/start", body={"Detach": True}), (400, 404), "executable file not found in $PATH")


@check(START)
def started_twice(engine: Engine) -> None:
    exec_id = engine.exec_create(engine.shared, "true")
    with engine.exec_start(exec_id) as stream:
        stream.read_all()
    with engine.exec_start(exec_id) as stream:
        text = stream.read_all()
    expect(b"has already run" in text or b"already running" in text, f"the refusal is told in the stream: {text!r}")


def launch_error(message: bytes, codes: tuple[int, ...], *command: str, **config: Any) -> Body:
    """The error comes in the stream of the connection, and inspect gives the exit code."""

    def run(engine: Engine) -> None:
        exec_id = engine.exec_create(engine.run_light(), *command, **config)
        with engine.exec_start(exec_id) as stream:
            contains(frames.join(stream.read_all()), message, "stream")
        seen = engine.exec_inspect(exec_id)
        one_of(seen["ExitCode"], codes, "ExitCode")
        equal(seen["Running"], False, "Running")

    return run


each(
    START,
    "launch_error",
    [
        ("missing file", launch_error(b"no such file or directory", (126, 127), "/no/such")),
        ("not in PATH", launch_error(b"executable file not found in $PATH", (126, 127), "no-such-command")),
        ("directory", launch_error(b"is a directory", (126,), "/etc")),
        ("not executable", launch_error(b"permission denied", (126,), "/etc/passwd")),
        ("unknown user", launch_error(b"unable to find user nobody-here", (126, 127), "true", User="nobody-here")),
    ],
)


@check(START, since="1.35")
def launch_error_of_a_missing_working_directory(engine: Engine) -> None:
    launch_error(b"no such file or directory", (126, 127), "true", WorkingDir="/no/such")(engine)


@check(START, since="1.35")
def launch_error_of_a_relative_working_directory(engine: Engine) -> None:
    launch_error(b"Cwd must be an absolute path", (126,), "true", WorkingDir="tmp")(engine)


# what the process sees


@check(CREATE)
def user(engine: Engine) -> None:
    equal(output(engine, "id -u; id -g; id -G", User="worker"), "1000\n1000\n1000 2000", "ids")


@check(CREATE)
def user_by_number(engine: Engine) -> None:
    equal(output(engine, "id -u; id -g", User="12:34"), "12\n34", "ids")


@check(CREATE, since="1.25")
def environment(engine: Engine) -> None:
    container = engine.run_light(Env=["A=container", "B=container"])
    text, _ = engine.exec_output(container, "sh", "-c", "echo $A $B $C", Env=["B=exec", "C=exec"])
    equal(text, "container exec exec\n", "environment")


@check(CREATE, since="1.35")
def working_directory(engine: Engine) -> None:
    container = engine.run_light(WorkingDir="/home")
    equal(engine.exec_output(container, "pwd")[0], "/home\n", "the container's own")
    equal(engine.exec_output(container, "pwd", WorkingDir="/tmp")[0], "/tmp\n", "the exec's")


@check(CREATE)
def capabilities_are_the_containers(engine: Engine) -> None:
    container = engine.shared
    script = "grep Cap /proc/self/status"
    own = engine.inside(script)
    equal(engine.exec_output(container, "sh", "-c", script)[0].strip(), own, "capabilities")


@check(CREATE)
def privileged(engine: Engine) -> None:
    container = engine.shared
    script = "grep CapEff /proc/self/status | cut -f2"
    wide = int(engine.exec_output(container, "sh", "-c", script, Privileged=True)[0], 16)
    plain = int(engine.exec_output(container, "sh", "-c", script)[0], 16)
    expect(wide > plain and wide & plain == plain, f"more capabilities: {wide:x} and {plain:x}")


@check(CREATE)
def same_namespaces_as_the_container(engine: Engine) -> None:
    container = engine.shared
    script = "for p in 1 self; do for ns in pid mnt net uts ipc; do readlink /proc/$p/ns/$ns; done; done"
    lines = engine.exec_output(container, "sh", "-c", script)[0].split()
    equal(lines[5:], lines[:5], "namespaces")


@check(START)
def ends_with_the_container(engine: Engine) -> None:
    container = engine.run_light()
    exec_id = engine.exec_create(container, "sh", "-c", "echo ready; sleep 100")
    with engine.exec_start(exec_id) as stream:
        frames.read_payload_until(stream, b"ready\n")
        engine.kill(container)
        stream.read_all()
    engine.client.eventually(lambda: not engine.exec_inspect(exec_id)["Running"])


@check(START)
def client_that_goes_away_leaves_it_running(engine: Engine) -> None:
    exec_id = engine.exec_create(engine.shared, "sh", "-c", "echo ready; sleep 100")
    with engine.exec_start(exec_id) as stream:
        frames.read_payload_until(stream, b"ready\n")
    time.sleep(0.2)
    equal(engine.exec_inspect(exec_id)["Running"], True, "Running")


@check(START)
def many_at_once(engine: Engine) -> None:
    container = engine.shared
    streams = [engine.exec_start(engine.exec_create(container, "sh", "-c", f"sleep 0.2; echo {n}")) for n in range(6)]
    equal([frames.join(stream.read_all()) for stream in streams], [b"%d\n" % n for n in range(6)], "outputs")
    for stream in streams:
        stream.close()


# resize


@check(RESIZE)
def resize(engine: Engine) -> None:
    script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
    exec_id = engine.exec_create(engine.shared, "sh", "-c", script, Tty=True)
    with engine.exec_start(exec_id, Tty=True) as stream:
        stream.read_until(b"ready")
        status(engine.client.post(f"/exec/{exec_id}/resize", {"h": 21, "w": 65}), 200, 201)
        contains(stream.read_all(), b"21 65", "size")


@check(CREATE, since="1.42")
def console_size(engine: Engine) -> None:
    exec_id = engine.exec_create(engine.shared, "stty", "size", Tty=True, ConsoleSize=[13, 57])
    with engine.exec_start(exec_id, Tty=True, ConsoleSize=[13, 57]) as stream:
        contains(stream.read_all(), b"13 57", "size")


@check(RESIZE)
def resize_needs_numbers(engine: Engine) -> None:
    exec_id = engine.exec_create(engine.shared, "true")
    status(engine.client.post(f"/exec/{exec_id}/resize", {"h": "x", "w": 1}), 400)
    status(engine.client.post(f"/exec/{exec_id}/resize"), 400)
