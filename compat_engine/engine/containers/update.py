"""POST /containers/{id}/update: new limits and restart policy; what is zero stays as it is."""

from dataclasses import replace
from typing import Any

from compat_engine.engine.containers.create import attributes
from compat_engine.engine.parts import Engine
from compat_engine.engine.resources import resources
from compat_engine.engine.validate import validate
from compat_engine.errors import Conflict, InvalidParameter
from compat_engine.wire.container import Config, HostConfig, UpdateRequest


async def update(engine: Engine, word: str, request: UpdateRequest) -> list[str]:
    """Warnings. Applied to the running container first, then recorded: a limit the kernel refuses is not remembered.

    Raises NotFound, InvalidParameter, Conflict, Internal with the kernel's reason.
    """
    container = engine.containers.find(word)
    async with container.lock:
        if container.state.status in ("removing", "dead"):
            raise Conflict("container is marked for removal and cannot be \"update\"")
        host = _merged(container.record.host_config, request)
        warnings = validate(Config(), host)
        if container.state.status in ("running", "paused"):
            await engine.runtime.update(container.id, resources(host))
        await engine.containers.update(container, record=replace(container.record, host_config=host))
    engine.events.publish("container", "update", container.id, attributes(container.record))
    return warnings


def _merged(host: HostConfig, request: UpdateRequest) -> HostConfig:
    asked: dict[str, Any] = {name: value for name, value in request.dump().items() if value and name != "RestartPolicy"}
    if host.NanoCpus and (asked.get("CpuPeriod") or asked.get("CpuQuota")):
        raise InvalidParameter("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
    if request.RestartPolicy.Name:
        if host.AutoRemove and request.RestartPolicy.Name != "no":
            raise InvalidParameter("Restart policy cannot be updated because AutoRemove is enabled for the container")
        asked["RestartPolicy"] = request.RestartPolicy.dump()
    return HostConfig.model_validate({**host.dump(), **asked})
