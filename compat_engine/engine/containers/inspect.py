"""GET /containers/{id}/json."""

from typing import Any

from compat_engine.engine.links import link_words
from compat_engine.engine.networks import network_settings
from compat_engine.engine.parts import Engine
from compat_engine.engine.records import MountPoint
from compat_engine.engine.registry import Container
from compat_engine.engine.sizes import sizes


async def inspect(engine: Engine, word: str, size: bool = False) -> dict[str, Any]:
    """The whole document, in dockerd's order. size: with SizeRw and SizeRootFs, which takes a walk. Raises NotFound."""
    container = engine.containers.find(word)
    record, files = container.record, str(engine.tree.container(container.id))
    return {
        "Id": record.id,
        "Created": record.created,
        "Path": record.args[0] if record.args else "",
        "Args": list(record.args[1:]),
        "State": _state(container),
        "Image": record.image,
        "ResolvConfPath": f"{files}/resolv.conf",
        "HostnamePath": f"{files}/hostname",
        "HostsPath": f"{files}/hosts",
        "LogPath": str(engine.tree.log(record.id)) if record.host_config.LogConfig.Type == "json-file" else "",
        "Name": f"/{record.name}",
        "RestartCount": container.state.restart_count,
        "Driver": "overlay2",
        "Platform": record.platform,
        **({"ImageManifestDescriptor": record.manifest} if record.manifest else {}),
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": list(container.exec_ids) or None,
        "HostConfig": {**record.host_config.dump(), "Links": link_words(engine, container)},
        "GraphDriver": _graph_driver(engine, record.id),
        **(await sizes(engine, record) if size else {}),
        "Mounts": [mount_view(point) for point in record.mounts],
        "Config": record.config.dump(),
        "NetworkSettings": network_settings(engine, container),
    }


def mount_view(point: MountPoint) -> dict[str, Any]:
    """One element of Mounts. A volume's name and driver are left out elsewhere."""
    named = {"Name": point.name} if point.name else {}
    driven = {"Driver": point.driver} if point.driver else {}
    return {
        "Type": point.type,
        **named,
        "Source": point.source,
        "Destination": point.destination,
        **driven,
        "Mode": point.mode,
        "RW": point.rw,
        "Propagation": point.propagation,
    }


def _state(container: Container) -> dict[str, Any]:
    state = container.state
    return {
        "Status": state.status,
        "Running": state.running,
        "Paused": state.status == "paused",
        "Restarting": state.status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": state.status == "dead",
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started_at,
        "FinishedAt": state.finished_at,
        **({"Health": container.health.view()} if container.health else {}),
    }


def _graph_driver(engine: Engine, id: str) -> dict[str, Any]:
    overlay = engine.images.snapshots.overlay(id)
    data = {
        "LowerDir": ":".join(overlay.lower),
        "MergedDir": f"{engine.tree.layers}/{id}/merged",
        "UpperDir": overlay.upper,
        "WorkDir": overlay.work,
    }
    return {"Data": data, "Name": "overlay2"}
