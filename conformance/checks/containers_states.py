"""Pause, rename, update, resize and top."""

from __future__ import annotations

import time

from ..assertions import (
    contains,
    equal,
    has_fields,
    refused,
    status,
)
from ..engine import Engine
from ..registry import check

PAUSE = "POST /containers/{id}/pause"
UNPAUSE = "POST /containers/{id}/unpause"
RENAME = "POST /containers/{id}/rename"
RESIZE = "POST /containers/{id}/resize"
TOP = "GET /containers/{id}/top"
UPDATE = "POST /containers/{id}/update"
NONE = {"NetworkMode": "none"}


# pause


@check(PAUSE)
def pause_and_unpause(engine: Engine) -> None:
    container = engine.run_light()
    status(engine.client.post(f"/containers/{container}/pause"), 204)
    has_fields(engine.state(container), {"Status": "paused", "Paused": True, "Running": True}, "State")
    status(engine.client.post(f"/containers/{container}/unpause"), 204)
    has_fields(engine.state(container), {"Status": "running", "Paused": False, "Running": True}, "State")


def still(engine: Engine, container: str) -> int:
    """The length of a log that does not grow for a moment; 0 when it does."""
    before = len(engine.logs(container).body)
    time.sleep(0.3)
    return before if len(engine.logs(container).body) == before else 0


@check(PAUSE)
def paused_container_stands_still(engine: Engine) -> None:
    container = engine.run("sh", "-c", "while :; do echo x; sleep 0.02; done", host=NONE)
    engine.until_logged(container, "x")
    status(engine.client.post(f"/containers/{container}/pause"), 204)
    before = engine.client.eventually(lambda: still(engine, container))  # what was written before may be on its way
    status(engine.client.post(f"/containers/{container}/unpause"), 204)
    engine.client.eventually(lambda: len(engine.logs(container).body) > before)


@check(PAUSE)
def what_a_paused_container_refuses(engine: Engine) -> None:
    container = engine.run_light()
    status(engine.client.post(f"/containers/{container}/pause"), 204)
    refused(engine.client.post(f"/containers/{container}/pause"), 409, "is already paused")
    refused(engine.client.post(f"/containers/{container}/start"), 409, "cannot start a paused container, try unpause instead")
    refused(
        engine.client.post(f"/containers/{container}/exec", body={"Cmd": ["true"]}),
        409,
        "is paused, unpause the container before exec",
    )
    refused(engine.client.delete(f"/containers/{container}"), 409, "container is paused and must be unpaused first")


@check(PAUSE)
def paused_container_can_be_stopped(engine: Engine) -> None:
    container = engine.run_light()
    status(engine.client.post(f"/containers/{container}/pause"), 204)
    status(engine.client.post(f"/containers/{container}/stop", {"t": 1}), 204)
    has_fields(engine.state(container), {"Status": "exited", "Paused": False, "Running": False}, "State")


@check(PAUSE)
def paused_container_can_be_killed(engine: Engine) -> None:
    container = engine.run_light()
    status(engine.client.post(f"/containers/{container}/pause"), 204)
    engine.kill(container)
    equal(engine.wait(container), 137, "exit code")


@check(PAUSE)
def pause_of_a_stopped_container(engine: Engine) -> None:
    container = engine.create()
    refused(engine.client.post(f"/containers/{container}/pause"), 409, f"container {container} is not running")


@check(UNPAUSE)
def unpause_of_a_running_container(engine: Engine) -> None:
    refused(engine.client.post(f"/containers/{engine.shared}/unpause"), (409, 500), "is not paused")


# rename, update, resize, top


@check(RENAME)
def rename(engine: Engine) -> None:
    old, new = engine.name(), engine.name()
    container = engine.create(name=old)
    status(engine.client.post(f"/containers/{old}/rename", {"name": new}), 204)
    equal(engine.inspect(container)["Name"], f"/{new}", "Name")
    status(engine.client.get(f"/containers/{old}/json"), 404)


@check(RENAME)
def rename_to_a_taken_name(engine: Engine) -> None:
    taken = engine.name()
    engine.create(name=taken)
    answer = engine.client.post(f"/containers/{engine.create()}/rename", {"name": taken})
    refused(answer, 409, f'The container name "/{taken}" is already in use')


@check(RENAME)
def rename_refusals(engine: Engine) -> None:
    name = engine.name()
    engine.create(name=name)
    refused(engine.client.post(f"/containers/{name}/rename", {"name": name}), 400, "same name as its current name")
    refused(engine.client.post(f"/containers/{name}/rename"), 400, "may be empty")
    refused(engine.client.post(f"/containers/{name}/rename", {"name": "a b"}), 400, "Invalid container name")


@check(UPDATE)
def update_restart_policy(engine: Engine) -> None:
    container = engine.create()
    body = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}
    has_fields(status(engine.client.post(f"/containers/{container}/update", body=body), 200).json(), {"Warnings": None})
    equal(engine.inspect(container)["HostConfig"]["RestartPolicy"], body["RestartPolicy"], "RestartPolicy")


@check(UPDATE)
def update_resources(engine: Engine) -> None:
    container = engine.run_light()
    status(engine.client.post(f"/containers/{container}/update", body={"CpuShares": 512}), 200)
    equal(engine.inspect(container)["HostConfig"]["CpuShares"], 512, "CpuShares")


@check(UPDATE)
def update_refuses_too_little_memory(engine: Engine) -> None:
    refused(
        engine.client.post(f"/containers/{engine.create()}/update", body={"Memory": 1}),
        400,
        "Minimum memory limit allowed is 6MB",
    )


@check(UPDATE)
def update_that_does_not_go_with_what_is_set(engine: Engine) -> None:
    cpus, period, once = {"NanoCpus": 10**9}, {"CpuPeriod": 5000}, {"AutoRemove": True}
    for host, body, why in (
        ({}, {"Memory": 20 << 20}, "Memory limit should be smaller than already set memoryswap limit"),
        (cpus, {"CpuQuota": 5000}, "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set"),
        (period, cpus, "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"),
        (once, {"RestartPolicy": {"Name": "always"}}, "Restart policy cannot be updated because AutoRemove is enabled"),
    ):
        container = engine.create("true", host={**host, **NONE})
        answer = engine.client.post(f"/containers/{container}/update", body=body)
        refused(answer, 409, f"Cannot update container {container}: {why}")


@check(RESIZE)
def resize_of_a_terminal(engine: Engine) -> None:
    container = engine.run(
        "sh", "-c", "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done", Tty=True, host=NONE
    )
    engine.until_logged(container, "ready")
    status(engine.client.post(f"/containers/{container}/resize", {"h": 33, "w": 77}), 200)
    engine.wait(container)
    contains(engine.logs(container).body, b"33 77", "output")


@check(RESIZE)
def resize_refusals(engine: Engine) -> None:
    container = engine.create()
    refused(engine.client.post(f"/containers/{container}/resize", {"h": 1, "w": 1}), 409, "is not running")
    status(engine.client.post(f"/containers/{container}/resize"), 400)
    status(engine.client.post(f"/containers/{container}/resize", {"h": "x", "w": 1}), 400)


@check(TOP)
def top(engine: Engine) -> None:
    container = engine.run_light("sleep", "987")
    answer = status(engine.client.get(f"/containers/{container}/top"), 200).json()
    equal(answer["Titles"], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"], "Titles")
    equal([row[-1] for row in answer["Processes"]], ["sleep 987"], "commands")
    equal(int(answer["Processes"][0][1]), engine.state(container)["Pid"], "the PID is the host's")


@check(TOP)
def top_with_ps_arguments(engine: Engine) -> None:
    answer = status(engine.client.get(f"/containers/{engine.run_light()}/top", {"ps_args": "-o pid,comm"}), 200).json()
    equal(answer["Titles"], ["PID", "COMMAND"], "Titles")
    equal(answer["Processes"][0][1], "sleep", "COMMAND")


@check(TOP)
def top_of_a_stopped_container(engine: Engine) -> None:
    refused(engine.client.get(f"/containers/{engine.create()}/top"), 409, "is not running")
