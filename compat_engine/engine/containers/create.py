"""POST /containers/create: a record, a writable layer and volumes; no kernel object until start."""

import asyncio
import os
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from compat_engine.engine.clock import rfc3339nano
from compat_engine.engine.compile import MASKED, READONLY
from compat_engine.engine.connections import check_endpoints
from compat_engine.engine.limits import discarded
from compat_engine.engine.links import resolve_links
from compat_engine.engine.logconfig import resolve
from compat_engine.engine.merge import arguments, merge
from compat_engine.engine.mounts import VolumeRequest, mount_points
from compat_engine.engine.names import random_name
from compat_engine.engine.parts import Engine
from compat_engine.engine.records import ContainerRecord, MountPoint
from compat_engine.engine.registry import Container
from compat_engine.engine.validate import validate
from compat_engine.errors import InvalidParameter, NotFound
from compat_engine.ids import check_name, new_id, short
from compat_engine.images.images import Image
from compat_engine.wire.container import Config, CreateRequest, HostConfig
from compat_engine.wire.network import EndpointSettings


async def create(engine: Engine, request: CreateRequest, name: str, platform: str) -> tuple[str, list[str]]:
    """The new container's id and warnings. Raises InvalidParameter, Conflict (name), NotFound (image, containers referred to)."""
    asked, host = request.config, _host_config(engine, request.HostConfig)
    bare = check_name(name) if name else ""
    warnings = validate(asked, host) + discarded(host, engine.cgroups, engine.config.cgroup_parent)
    image = engine.images.find(asked.Image or "", platform)
    config = merge(asked, Config.parse(image.runtime))
    args = arguments(config)
    if not args or not args[0]:
        raise InvalidParameter("no command specified")
    links = resolve_links(engine, host)
    host = _resolve_modes(engine, host)
    endpoints = _endpoints(request, host)
    check_endpoints(engine, endpoints)
    id = new_id()
    bare = bare or random_name(engine.containers.name_taken)
    with engine.containers.reserve(bare, id):
        async with AsyncExitStack() as undo:
            points, volumes = mount_points(config, host, lambda word: _referred(engine, word).record.mounts)
            points = tuple(_with_image(engine, point) for point in points)
            points = await _make_volumes(engine, id, image, points, volumes, undo)
            make_layer = engine.images.snapshots.claim(id, image.id)
            undo.push_async_callback(engine.images.snapshots.remove, id)
            undo.push_async_callback(asyncio.to_thread, shutil.rmtree, engine.tree.container(id), True)
            record = ContainerRecord(
                id=id,
                name=bare,
                created=rfc3339nano(),
                config=_finish(config, id, host),
                host_config=host,
                image=image.id,
                endpoints=endpoints,
                args=args,
                mounts=points,
                links=links,
            )
            await engine.containers.add(record, partial(_make_files, make_layer, engine.tree.container(id)))
            undo.pop_all()
    engine.events.publish("container", "create", id, attributes(record))
    return id, warnings


def expect_start(engine: Engine, id: str) -> None:
    """The client knows of the container. Never raises: it may be gone already."""
    if container := engine.containers.get(id):
        engine.standby.offer(engine, container)


def _make_files(make_layer: Callable[[], None], directory: Path) -> None:
    make_layer()
    directory.mkdir(mode=0o710, parents=True)


def attributes(record: ContainerRecord) -> dict[str, str]:
    """What every container event carries: the labels, the image as asked for, the name."""
    return {**(record.config.Labels or {}), "image": record.config.Image or "", "name": record.name}


def _host_config(engine: Engine, host: HostConfig) -> HostConfig:
    """Docker fills these in at create and shows them in inspect."""
    cgroupns = host.CgroupnsMode or ("private" if engine.cgroups.version == 2 else "host")
    changes: dict[str, Any] = {
        "NetworkMode": "bridge" if host.NetworkMode in ("", "default") else host.NetworkMode,
        "IpcMode": host.IpcMode or "private",
        "CgroupnsMode": cgroupns,
        "ShmSize": host.ShmSize or engine.config.default_shm_size,
        "LogConfig": resolve(engine.config, host.LogConfig),
        "Runtime": host.Runtime or "runc",
        "RestartPolicy": host.RestartPolicy.model_copy(update={"Name": host.RestartPolicy.Name or "no"}),
    }
    if host.MemorySwappiness == -1:
        changes["MemorySwappiness"] = None
    if not host.Privileged:
        changes["MaskedPaths"] = list(MASKED) if host.MaskedPaths is None else host.MaskedPaths
        changes["ReadonlyPaths"] = list(READONLY) if host.ReadonlyPaths is None else host.ReadonlyPaths
    else:
        changes |= {"MaskedPaths": None, "ReadonlyPaths": None, "SecurityOpt": _privileged_security(host)}
    if host.Memory and not host.MemorySwap:
        changes["MemorySwap"] = host.Memory * 2
    if host.PidsLimit is not None and host.PidsLimit <= 0:
        changes["PidsLimit"] = None
    return host.model_copy(update=changes)


def _privileged_security(host: HostConfig) -> list[str]:
    return [*(host.SecurityOpt or ()), *(() if "label=disable" in (host.SecurityOpt or ()) else ("label=disable",))]


def _resolve_modes(engine: Engine, host: HostConfig) -> HostConfig:
    """container:NAME becomes container:ID, so that a rename or a reused name changes nothing. A network's container may be
    missing until the start, as in dockerd."""
    changes = {}
    for field in ("NetworkMode", "PidMode", "IpcMode"):
        mode = getattr(host, field)
        if mode.startswith("container:"):
            try:
                changes[field] = f"container:{_referred(engine, mode.partition(':')[2]).id}"
            except InvalidParameter:
                if field != "NetworkMode":
                    raise
    return host.model_copy(update=changes)


def _referred(engine: Engine, word: str) -> Container:
    """404 would tell the client that the image is missing. Raises InvalidParameter."""
    try:
        return engine.containers.find(word)
    except NotFound as error:
        raise InvalidParameter(str(error)) from error


def _finish(config: Config, id: str, host: HostConfig) -> Config:
    """Docker names a container after its id, unless it shows another's name."""
    hostname = config.Hostname
    if not hostname and not host.NetworkMode.startswith("container:"):
        hostname = os.uname().nodename if "host" in (host.UTSMode, host.NetworkMode) else short(id)
    return config.model_copy(update={"Hostname": hostname})


def _endpoints(request: CreateRequest, host: HostConfig) -> dict[str, EndpointSettings]:
    """What was asked of each network, by name; NetworkMode alone when nothing was. The CLI's "default" means the bridge."""
    mode = host.NetworkMode or "bridge"
    if mode.startswith("container:"):
        return {}
    asked = dict((request.NetworkingConfig.EndpointsConfig if request.NetworkingConfig else None) or {})
    if "default" in asked and mode == "bridge":
        asked["bridge"] = asked.pop("default")
    if not asked or mode == "host":
        asked = {mode: asked.get(mode), **asked}
    return {name: item or EndpointSettings() for name, item in asked.items()}


def _with_image(engine: Engine, point: MountPoint) -> MountPoint:
    """Raises NotFound."""
    return replace(point, source=engine.images.find(point.name).id) if point.type == "image" else point


async def _make_volumes(
    engine: Engine,
    id: str,
    image: Image,
    points: tuple[MountPoint, ...],
    requests: tuple[VolumeRequest, ...],
    undo: AsyncExitStack,
) -> tuple[MountPoint, ...]:
    """Create what is missing; the points with their sources, and the image's content in volumes that are still empty."""
    made: dict[str, str] = {}
    for request in requests:
        known = engine.volumes.exists(request.name)
        volume = await engine.volumes.create(request.name, request.driver, request.options or None, request.labels or None)
        made[request.name] = str(volume.mountpoint)
        if not known:
            undo.push_async_callback(engine.volumes.remove, request.name, True)
            engine.events.publish("volume", "create", request.name, {"driver": request.driver})
    placed = tuple(replace(point, source=made[point.name]) if point.name in made else point for point in points)
    for point in placed:
        if point.copy_up and point.name in made and not engine.volumes.get(point.name).options and not os.listdir(point.source):
            await engine.images.snapshots.copy_up(image.id, point.destination, point.source)
    return placed
