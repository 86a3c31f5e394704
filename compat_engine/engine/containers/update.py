"""POST /containers/{id}/update: new limits and restart policy; what is zero stays as it is."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

from compat_engine.engine.containers.create import attributes
from compat_engine.engine.limits import discarded
from compat_engine.engine.parts import Engine
from compat_engine.engine.registry import Container
from compat_engine.engine.resources import resources
from compat_engine.engine.validate import validate
from compat_engine.errors import Conflict, Internal
from compat_engine.runtime.protocol import NotRunning
from compat_engine.wire.container import Config, HostConfig, UpdateRequest


async def update(engine: Engine, word: str, request: UpdateRequest) -> list[str]:
    """Warnings. Applied to the running container first, then recorded: a limit the kernel refuses is not remembered.

    Raises NotFound, InvalidParameter, Conflict, Internal with the kernel's reason.
    """
    container = engine.containers.find(word)
    # Looked at alone, as dockerd does: more swap than memory is a matter of what there is already.
    alone = request if request.Memory else request.model_copy(update={"MemorySwap": 0})
    asked = HostConfig.model_validate(alone.dump())
    warnings = validate(Config(), asked) + discarded(asked, engine.cgroups, engine.config.cgroup_parent)
    async with container.lock:
        if container.state.status in ("removing", "dead"):
            raise _refused(container, 'Container is marked for removal and cannot be "update"')
        host = _merged(container, request)
        await engine.standby.dismiss(container)
        if container.state.status in ("running", "paused"):
            try:
                with suppress(NotRunning):  # it has just ended
                    await engine.runtime.update(container.id, resources(host))
            except Internal as error:
                raise Internal(f"Cannot update container {container.id}: {error}") from error
        await engine.containers.update(container, record=replace(container.record, host_config=host))
    engine.events.publish("container", "update", container.id, attributes(container.record))
    return warnings


def _refused(container: Container, why: str) -> Conflict:
    return Conflict(f"Cannot update container {container.id}: {why}")


def _merged(container: Container, request: UpdateRequest) -> HostConfig:
    """Raises Conflict for what does not go with what the container has already."""
    host = container.record.host_config
    for one, its_name, other, other_name in (
        (request.NanoCpus, "Nano CPUs", host.CpuPeriod, "CPU Period"),
        (request.NanoCpus, "Nano CPUs", host.CpuQuota, "CPU Quota"),
        (request.CpuPeriod, "CPU Period", host.NanoCpus, "NanoCPUs"),
        (request.CpuQuota, "CPU Quota", host.NanoCpus, "NanoCPUs"),
    ):
        if one and other:
            raise _refused(container, f"Conflicting options: {its_name} cannot be updated as {other_name} has already been set")
    if not request.MemorySwap and host.MemorySwap != -1 and request.Memory > host.MemorySwap:
        words = "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        raise _refused(container, words)
    changes: dict[str, Any] = {name: value for name, value in request.dump().items() if value and name != "RestartPolicy"}
    if request.PidsLimit is not None:
        changes["PidsLimit"] = max(request.PidsLimit, 0)
    if request.RestartPolicy.Name:
        if host.AutoRemove and request.RestartPolicy.Name != "no":
            raise _refused(container, "Restart policy cannot be updated because AutoRemove is enabled for the container")
        changes["RestartPolicy"] = request.RestartPolicy.dump()
    return HostConfig.model_validate({**host.dump(), **changes})
