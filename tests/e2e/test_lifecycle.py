"""From create to rm: states, signals, waiting, restart policies, listing, events."""

import json
import time

import pytest

from tests.support.docker import Docker, eventually, readable

SLEEP = ("busybox", "sleep", "600")
OBEYS = ("busybox", "sh", "-c", "trap 'exit 5' TERM; trap 'echo hup' HUP; touch /ready; while :; do sleep 0.1; done")


def running(docker: Docker, name: str, *args: str, command: tuple[str, ...] = OBEYS) -> str:
    id = docker("run", "-d", "--name", name, *args, *command)
    if command is OBEYS:
        ready(docker, name)
    return id


def ready(docker: Docker, name: str) -> None:
    """OBEYS has set its traps: a signal that comes earlier is lost."""
    docker.until(name, "test -e /ready")


def test_create_start_stop_start_remove(docker: Docker, unique: str) -> None:
    docker("create", "--name", unique, *OBEYS)
    assert docker.state(unique) == "created"
    docker("start", unique)
    first = docker.inspect(unique)["State"]
    assert (first["Status"], first["Running"]) == ("running", True)
    assert first["Pid"] > 0
    ready(docker, unique)
    docker("stop", unique)
    stopped = docker.inspect(unique)["State"]
    assert (stopped["Status"], stopped["ExitCode"], stopped["Pid"]) == ("exited", 5, 0)
    assert stopped["FinishedAt"] > stopped["StartedAt"]
    docker("start", unique)
    assert docker.inspect(unique)["State"]["StartedAt"] > first["StartedAt"]
    docker("rm", "-f", unique)
    assert f"No such container: {unique}" in docker.fails("inspect", "--type", "container", unique).replace("object", "container")


def test_starting_twice_and_stopping_twice_are_no_errors(docker: Docker, unique: str) -> None:
    running(docker, unique)
    docker("start", unique)
    docker("stop", unique)
    docker("stop", unique)


def test_restart(docker: Docker, unique: str) -> None:
    running(docker, unique)
    before = docker.inspect(unique)["State"]
    docker("restart", "-t", "2", unique)
    after = docker.inspect(unique)["State"]
    assert after["Status"] == "running"
    assert after["Pid"] != before["Pid"]


def test_kill(docker: Docker, unique: str) -> None:
    running(docker, unique)
    docker("kill", "-s", "HUP", unique)
    eventually(lambda: docker("logs", unique) == "hup")
    assert docker.state(unique) == "running"
    docker("kill", unique)
    assert docker.inspect(unique)["State"]["ExitCode"] == 137
    assert "is not running" in docker.fails("kill", unique)
    assert "invalid signal: nosuch" in docker.fails("kill", "-s", "NOSUCH", unique).lower()


def test_wait(docker: Docker, unique: str) -> None:
    docker("run", "-d", "--name", unique, "busybox", "sh", "-c", "sleep 0.5; exit 8")
    assert docker("wait", unique) == "8"
    assert docker("wait", unique) == "8"


def test_pause(docker: Docker, unique: str) -> None:
    running(docker, unique, command=("busybox", "sh", "-c", "while :; do echo tick; sleep 0.1; done"))
    eventually(lambda: docker("logs", unique))
    docker("pause", unique)
    assert docker.state(unique) == "paused"
    before = eventually(lambda: still(docker, unique))
    assert "is already paused" in docker.fails("pause", unique)
    docker("unpause", unique)
    eventually(lambda: docker("logs", unique) != before)
    assert "is not paused" in docker.fails("unpause", unique)
    docker("pause", unique)
    docker("rm", "-f", unique)


def still(docker: Docker, name: str) -> str:
    """Its log, when that does not grow for half a second; what was written before a pause may still be on its way there."""
    before = docker("logs", name)
    time.sleep(0.5)
    return before if docker("logs", name) == before else ""


def test_rename(docker: Docker, unique: str) -> None:
    running(docker, unique)
    docker("rename", unique, f"{unique}-new")
    assert docker.inspect(f"{unique}-new")["Name"] == f"/{unique}-new"
    docker.fails("inspect", "--type", "container", unique)
    docker("create", "--name", unique, "busybox")
    assert "is already in use by container" in docker.fails("rename", f"{unique}-new", unique)


def test_top(docker: Docker, unique: str) -> None:
    running(docker, unique, command=("busybox", "sleep", "601"))
    header, line = docker("top", unique).splitlines()
    assert header.split()[:3] == ["UID", "PID", "PPID"]
    assert line.endswith("sleep 601")
    assert docker("top", unique, "-o", "pid,args").splitlines()[0].split() == ["PID", "COMMAND"]


def test_a_running_container_is_not_removed_without_force(docker: Docker, unique: str) -> None:
    id = running(docker, unique)
    error = docker.fails("rm", unique)
    assert "cannot remove container" in error
    assert "container is running" in error
    docker("rm", "-f", unique)
    assert id not in docker("ps", "-aq", "--no-trunc")


def test_ids_names_and_prefixes_find_it(docker: Docker, unique: str) -> None:
    id = docker("create", "--name", unique, "busybox")
    assert {docker.inspect(word)["Id"] for word in (id, id[:12], id[:20], unique, f"/{unique}")} == {id}


def test_restart_on_failure_is_counted(docker: Docker, unique: str) -> None:
    docker("run", "-d", "--name", unique, "--restart", "on-failure:2", "busybox", "false")
    found = eventually(lambda: state if (state := docker.inspect(unique))["State"]["Status"] == "exited" else None)
    assert found is not None
    assert (found["RestartCount"], found["State"]["ExitCode"]) == (2, 1)


def test_restart_always(docker: Docker, unique: str) -> None:
    docker("run", "-d", "--name", unique, "--restart", "always", "busybox", "sh", "-c", "echo start; sleep 0.3")
    eventually(lambda: len(docker("logs", unique).split()) >= 3)
    docker("stop", unique)
    count = len(docker("logs", unique).split())
    time.sleep(1)
    assert docker.state(unique) == "exited"
    assert len(docker("logs", unique).split()) == count


def restarting(docker: Docker, name: str) -> None:
    """A container that waits some seconds for its next try."""
    docker("run", "-d", "--network", "none", "--name", name, "--restart", "always", "busybox", "sh", "-c", "exit 3")
    eventually(lambda: (found := docker.inspect(name))["RestartCount"] == 5 and found["State"]["Restarting"])


def test_start_while_restarting_changes_nothing(docker: Docker, unique: str) -> None:
    restarting(docker, unique)
    docker("start", unique)
    assert docker.inspect(unique)["RestartCount"] >= 5
    assert "restarting" in docker.fails("rm", unique)
    assert f"Container {docker.inspect(unique)['Id']} is restarting, wait until" in docker.fails("exec", unique, "true")


@pytest.mark.parametrize("command", [("stop",), ("kill",), ("kill", "-s", "USR1")])
def test_stop_and_kill_while_restarting(docker: Docker, unique: str, command: tuple[str, ...]) -> None:
    restarting(docker, unique)
    waiter = docker.start("wait", unique)
    docker(*command, unique)
    state = docker.inspect(unique)["State"]
    assert (state["Status"], state["ExitCode"], state["Restarting"]) == ("exited", 3, False)
    assert waiter.communicate(timeout=60)[0] == b"3\n"


def test_no_restart_after_success_on_failure(docker: Docker, unique: str) -> None:
    docker("run", "-d", "--name", unique, "--restart", "on-failure", "busybox", "true")
    docker("wait", unique)
    time.sleep(0.5)
    assert docker.inspect(unique)["RestartCount"] == 0


def test_a_restart_that_cannot_start_is_the_last(docker: Docker, unique: str) -> None:
    since = str(time.time())
    id = docker("run", "-d", "--name", unique, "--restart", "always", "busybox", "sh", "-c", "rm /bin/sh; exit 3")
    docker.wait_state(unique, "exited")
    found = docker.inspect(unique)
    assert (found["RestartCount"], found["State"]["ExitCode"]) == (1, 3)
    assert 'exec: "sh": executable file not found in $PATH' in found["State"]["Error"]
    events = docker("events", "--since", since, "--until", str(time.time()), "--filter", "type=network", "--format", "json")
    actions = [event["Action"] for line in events.splitlines() if (event := json.loads(line))["Actor"]["Attributes"]["container"] == id]
    assert actions == ["connect", "disconnect", "connect", "disconnect"]


def test_policy_and_rm_exclude_each_other(docker: Docker) -> None:
    assert "onflicting options" in docker.fails("run", "--rm", "--restart", "always", "busybox")


def test_a_bad_policy_is_refused(docker: Docker) -> None:
    docker.fails("create", "--restart", "nosuch", "busybox")


@pytest.mark.parametrize("status", ["created", "running", "paused", "exited"])
def test_list_by_status(docker: Docker, unique: str, status: str) -> None:
    running(docker, unique, command=("busybox", "sleep", "60"))
    if status == "created":
        docker("rm", "-f", unique)
        docker("create", "--name", unique, "busybox")
    elif status == "paused":
        docker("pause", unique)
    elif status == "exited":
        docker("kill", unique)
    assert docker("ps", "-a", "--filter", f"status={status}", "--filter", f"name={unique}", "--format", "{{.Names}}") == unique
    other = {"created": "running", "running": "exited", "paused": "created", "exited": "paused"}[status]
    assert docker("ps", "-a", "--filter", f"status={other}", "--filter", f"name={unique}", "-q") == ""


def test_list_formats_and_filters(docker: Docker, unique: str) -> None:
    id = running(docker, unique, "-l", f"mine={unique}", "-p", "127.0.0.1::80")
    line = json.loads(docker("ps", "--no-trunc", "--filter", f"label=mine={unique}", "--format", "json"))
    assert (line["ID"], line["Image"], line["State"], line["Names"]) == (id, "busybox", "running", unique)
    assert line["Status"].startswith("Up ")
    assert line["Ports"].startswith("127.0.0.1:")
    assert line["Ports"].endswith("->80/tcp")
    assert docker("ps", "-q", "--filter", f"id={id[:14]}") == id[:12]
    assert docker("ps", "-q", "--filter", f"name=^{unique}$", "--filter", "ancestor=busybox") == id[:12]
    assert id[:12] in docker("ps", "-q", "--filter", "network=bridge").split()
    size = docker("ps", "-s", "--filter", f"id={id}", "--format", "{{.Size}}")
    assert "virtual" in size


def test_last_and_before_and_since(docker: Docker, unique: str) -> None:
    first, second = docker("create", "--name", f"{unique}-1", "busybox"), docker("create", "--name", f"{unique}-2", "busybox")
    assert second[:12] in docker("ps", "-aq", "--filter", f"since={unique}-1").split()
    assert first[:12] in docker("ps", "-aq", "--filter", f"before={unique}-2").split()


def test_a_bad_filter_is_refused(docker: Docker) -> None:
    assert "invalid filter 'nosuch'" in docker.fails("ps", "--filter", "nosuch=1")


def test_prune_takes_the_stopped_ones(docker: Docker, unique: str) -> None:
    docker("run", "--name", unique, "-l", f"prune={unique}", "busybox", "true")
    running(docker, f"{unique}-up", "-l", f"prune={unique}")
    assert "Total reclaimed space" in docker("container", "prune", "-f", "--filter", f"label=prune={unique}")
    assert docker("ps", "-a", "--filter", f"label=prune={unique}", "--format", "{{.Names}}") == f"{unique}-up"


def test_events(docker: Docker, unique: str) -> None:
    docker("run", "--rm", "--name", unique, "busybox", "true")
    args = ["--since", "1m", "--until", "0s", "--filter", f"container={unique}", "--format", "{{.Action}}"]
    actions = eventually(lambda: found if "destroy" in (found := docker("events", *args).split()) else [])
    assert [name for name in actions if name in ("create", "attach", "start", "die", "destroy")] == ["create", "attach", "start", "die", "destroy"]


def test_events_live(docker: Docker, unique: str) -> None:
    process = docker.start("events", "--filter", f"container={unique}", "--filter", "event=create", "--format", "json")
    assert process.stdout is not None
    while not readable(process.stdout):  # it is not listening yet
        docker.run("rm", unique)
        docker("create", "--name", unique, "-l", "a=1", "busybox")
    event = json.loads(process.stdout.readline())
    assert (event["Type"], event["Action"], event["Actor"]["Attributes"]["name"]) == ("container", "create", unique)
    assert (event["Actor"]["Attributes"]["image"], event["Actor"]["Attributes"]["a"]) == ("busybox", "1")
    process.kill()
    process.communicate()


def test_stats(docker: Docker, unique: str) -> None:
    running(docker, unique, "-m", "64m")
    line = json.loads(docker("stats", "--no-stream", "--format", "json", unique))
    assert line["Name"] == unique
    assert line["MemUsage"].endswith("/ 64MiB")
    assert int(line["PIDs"]) >= 1


def test_a_container_that_removes_itself_keeps_its_files_over_a_restart(docker: Docker, unique: str) -> None:
    docker("run", "-d", "--rm", "--name", unique, "busybox", "sleep", "100")
    docker("exec", unique, "sh", "-c", "echo kept > /file")
    docker("restart", "-t", "0", unique)
    assert docker("exec", unique, "cat", "/file") == "kept"
    docker("stop", "-t", "0", unique)
    eventually(lambda: unique not in docker("ps", "-a", "--format", "{{.Names}}"))
