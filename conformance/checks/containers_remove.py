"""Removal, pruning, restart policies, and what a container leaves: changes and stats."""

from __future__ import annotations

import time

from ..assertions import (
    equal,
    expect,
    has_fields,
    matches,
    one_of,
    refused,
    status,
)
from ..engine import Engine
from ..registry import Body, check, each

REMOVE = "DELETE /containers/{id}"
PRUNE = "POST /containers/prune"
NONE = {"NetworkMode": "none"}


# remove and prune


@check(REMOVE)
def remove(engine: Engine) -> None:
    container = engine.create()
    equal(status(engine.client.delete(f"/containers/{container}"), 204).body, b"", "body")
    status(engine.client.get(f"/containers/{container}/json"), 404)
    status(engine.client.delete(f"/containers/{container}"), 404)


@check(REMOVE)
def remove_of_a_running_container(engine: Engine) -> None:
    name = engine.name()
    engine.run_light(name=name)
    answer = engine.client.delete(f"/containers/{name}")
    refused(
        answer,
        409,
        f'cannot remove container "/{name}": container is running: stop the container before removing or force remove',
    )


@check(REMOVE)
def remove_by_force(engine: Engine) -> None:
    container = engine.run_light()
    status(engine.client.delete(f"/containers/{container}", {"force": 1}), 204)
    status(engine.client.get(f"/containers/{container}/json"), 404)


@check(REMOVE)
def remove_by_force_of_a_paused_container(engine: Engine) -> None:
    container = engine.run_light()
    status(engine.client.post(f"/containers/{container}/pause"), 204)
    status(engine.client.delete(f"/containers/{container}", {"force": 1}), 204)


@check("POST /containers/create", since="1.25")
def auto_remove(engine: Engine) -> None:
    container = engine.create("true", host={"AutoRemove": True, **NONE})
    engine.start(container)
    engine.client.eventually(lambda: engine.client.get(f"/containers/{container}/json").status == 404)


@check(PRUNE, since="1.25")
def prune_by_label(engine: Engine) -> None:
    label = engine.name()
    stopped, running = engine.create(Labels={label: "1"}), engine.run_light(Labels={label: "1"})
    answer = status(engine.prune("containers", {"label": [label]}), 200).json()
    equal(answer["ContainersDeleted"], [stopped], "ContainersDeleted")
    expect(isinstance(answer["SpaceReclaimed"], int), "SpaceReclaimed is a number")
    expect(engine.state(running)["Running"], "the running one is left")


@check(PRUNE, since="1.25")
def prune_of_nothing(engine: Engine) -> None:
    answer = status(engine.prune("containers", {"label": [engine.name()]}), 200).json()
    one_of(answer["ContainersDeleted"], (None, []), "ContainersDeleted")
    equal(answer["SpaceReclaimed"], 0, "SpaceReclaimed")


@check(PRUNE, since="1.25")
def prune_until(engine: Engine) -> None:
    label = engine.name()
    container = engine.create(Labels={label: "1"})
    filters = {"label": {label: True}, "until": {"1h": True}}
    status(engine.prune("containers", filters), 200)
    equal(engine.state(container)["Status"], "created", "it is younger than an hour")


@check(PRUNE, since="1.25")
def prune_refusals(engine: Engine) -> None:
    refused(engine.prune("containers", {"bogus": ["x"]}), 400, "invalid filter 'bogus'")
    refused(engine.prune("containers", {"until": ["x"]}), 400, "failed to parse value as time or duration")


# restart policies


@check("POST /containers/create")
def policy_on_failure_counts(engine: Engine) -> None:
    host = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}, **NONE}
    container = engine.run("sh", "-c", "exit 4", host=host)
    engine.client.eventually(
        lambda: engine.inspect(container)["RestartCount"] == 2 and engine.state(container)["Status"] == "exited"
    )
    has_fields(engine.state(container), {"ExitCode": 4, "Restarting": False}, "State")


@check("POST /containers/create")
def policy_on_failure_leaves_success_alone(engine: Engine) -> None:
    container = engine.run("true", host={"RestartPolicy": {"Name": "on-failure"}, **NONE})
    engine.wait(container)
    time.sleep(0.3)
    equal(engine.inspect(container)["RestartCount"], 0, "RestartCount")


def policy_restarts(policy: str) -> Body:
    def run(engine: Engine) -> None:
        container = engine.run("sleep", "0.05", host={"RestartPolicy": {"Name": policy}, **NONE})
        engine.client.eventually(lambda: engine.inspect(container)["RestartCount"] >= 1)
        status(engine.client.post(f"/containers/{container}/stop", {"t": 0}), 204, 304)
        count = engine.inspect(container)["RestartCount"]
        time.sleep(0.5)
        equal(engine.inspect(container)["RestartCount"], count, "no restart after a stop")
        equal(engine.state(container)["Status"], "exited", "Status")

    return run


each("POST /containers/create", "policy", [(p, policy_restarts(p)) for p in ("always", "unless-stopped")])


@check("POST /containers/create")
def policy_does_not_undo_a_kill(engine: Engine) -> None:
    container = engine.run(host={"RestartPolicy": {"Name": "always"}, **NONE})
    engine.kill(container)
    engine.wait(container)
    time.sleep(0.5)
    equal(engine.state(container)["Status"], "exited", "Status")


# what changed, and stats


@check("GET /containers/{id}/changes")
def changes(engine: Engine) -> None:
    container = engine.finish("sh", "-c", "echo x > /tmp/new; rm /etc/marker; echo y >> /etc/group").id
    seen = {row["Path"]: row["Kind"] for row in status(engine.client.get(f"/containers/{container}/changes"), 200).json()}
    has_fields(seen, {"/tmp": 0, "/tmp/new": 1, "/etc": 0, "/etc/marker": 2, "/etc/group": 0}, "changes")


@check("GET /containers/{id}/changes")
def changes_of_an_untouched_container(engine: Engine) -> None:
    one_of(status(engine.client.get(f"/containers/{engine.create()}/changes"), 200).json(), (None, []), "changes")


@check("GET /containers/{id}/stats")
def stats_of_a_running_container(engine: Engine) -> None:
    container = engine.run_light()
    stats = status(engine.client.get(f"/containers/{container}/stats", {"stream": 0}), 200).json()
    has_fields(stats, {"id": container}, "stats")
    expect(stats["memory_stats"]["usage"] > 0 and stats["cpu_stats"]["online_cpus"] > 0, "memory usage and CPUs")
    expect(stats["cpu_stats"]["system_cpu_usage"] > stats["precpu_stats"]["system_cpu_usage"] > 0, "two samples")
    matches(r"/.+", stats["name"], "name")


@check("GET /containers/{id}/stats")
def stats_of_a_stopped_container(engine: Engine) -> None:
    stats = status(engine.client.get(f"/containers/{engine.create()}/stats", {"stream": 0}), 200).json()
    equal(stats["cpu_stats"]["cpu_usage"]["total_usage"], 0, "total_usage")
