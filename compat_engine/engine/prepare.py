"""What a start looks up and makes on disk before the shim runs: files, devices, namespaces, cgroups, the seccomp program."""

import os
from contextlib import AsyncExitStack
from dataclasses import replace

from compat_engine.engine import logconfig, volumes
from compat_engine.engine.compile import Inputs, environment, rlimits
from compat_engine.engine.imagemounts import image_mounts
from compat_engine.engine.links import link_variables, links_alive, links_in_force
from compat_engine.engine.netfiles import network_files
from compat_engine.engine.parts import Engine
from compat_engine.engine.propagation import check_propagation
from compat_engine.engine.registry import Container
from compat_engine.engine.resources import devices, resources
from compat_engine.engine.security import parse_security
from compat_engine.engine.validate import validate_start
from compat_engine.errors import Conflict, Internal, InvalidParameter
from compat_engine.runtime.capabilities import resolve
from compat_engine.runtime.shm import mount_shm, unmount_shm
from compat_engine.shim.spec import Namespaces, Process, User
from compat_engine.wire.container import HostConfig
from compat_engine.wire.exec import ExecCreate


async def prepare(engine: Engine, container: Container, undo: AsyncExitStack) -> Inputs:
    """Everything `compile_spec` needs. Raises EngineError; what it makes is undone through `undo`."""
    record, host = container.record, container.record.host_config
    validate_start(host)
    _check_subpaths(container)
    make_bind_sources(container)
    check_propagation(record.mounts)
    for point in record.mounts:
        if point.type == "volume":
            await volumes.mount(engine, container.id, point)
            undo.push_async_callback(volumes.unmount, engine, container.id, point)
    caps = resolve(host.CapAdd or (), host.CapDrop or (), bool(host.Privileged))
    nodes, rules = devices(host)
    hostname = _hostname(engine, container)
    links = links_in_force(engine, container)
    return Inputs(
        # With --rm nothing of it is there after a crash of the host, so the kernel need not sync it at the end.
        rootfs=replace(engine.images.snapshots.overlay(container.id), volatile=host.AutoRemove),
        namespaces=_namespaces(engine, host),
        cgroups=engine.cgroups.plan(container.id, host.CgroupParent or engine.config.cgroup_parent, resources(host), rules),
        caps=caps,
        seccomp=_seccomp(engine, host, caps),
        devices=nodes,
        files=network_files(engine, container),
        log=logconfig.plan(engine.tree, record),
        shm=_shm(engine, container, undo),
        hostname=hostname,
        shm_size=host.ShmSize or engine.config.default_shm_size,
        linked=link_variables(container.name, links),
        images=image_mounts(engine, container),
    )


def release_shm(engine: Engine, container: Container) -> None:
    """After an exit: the shareable /dev/shm, if there was one, goes with the container's processes."""
    unmount_shm(engine.tree.container(container.id) / "shm")


def _check_subpaths(container: Container) -> None:
    """A link in the volume must not lead the mount out of it."""
    for point in container.record.mounts:
        if not point.subpath or point.type == "image":
            continue
        source, path = os.path.realpath(point.source), os.path.realpath(os.path.join(point.source, point.subpath))
        if not os.path.exists(path):
            raise InvalidParameter(f"cannot access path {os.path.join(point.source, point.subpath)}: no such file or directory")
        if os.path.commonpath((source, path)) != source:
            raise InvalidParameter(f"subpath {point.subpath} leads out of volume {point.name}")


def make_bind_sources(container: Container) -> None:
    """Docker makes a missing bind source, a directory of root's. Raises Internal."""
    for point in container.record.mounts:
        if point.type == "bind" and not os.path.lexists(point.source):
            try:
                os.makedirs(point.source, 0o755)
            except OSError as error:
                raise Internal(
                    f"error while creating mount source path '{point.source}': mkdir {error.filename}: {error.strerror}"
                ) from error


def _namespaces(engine: Engine, host: HostConfig) -> Namespaces:
    network = host.NetworkMode or "bridge"
    return Namespaces(
        pid=_namespace(engine, host.PidMode, "pid"),
        net="host" if network == "host" else _namespace(engine, network, "net"),
        uts="host" if host.UTSMode == "host" else _uts(engine, host),
        ipc=_namespace(engine, host.IpcMode, "ipc"),
        cgroup="host" if host.CgroupnsMode == "host" else "new",
    )


def _uts(engine: Engine, host: HostConfig) -> str:
    # A container that borrows a network shows the name by which that network knows it.
    return _namespace(engine, host.NetworkMode, "uts") if host.NetworkMode.startswith("container:") else "new"


def _namespace(engine: Engine, mode: str, kind: str) -> str:
    if mode == "host":
        return "host"
    if not mode.startswith("container:"):
        return "new"
    return f"/proc/{_peer(engine, mode, kind).state.pid}/ns/{kind}"


def _peer(engine: Engine, mode: str, kind: str = "net") -> Container:
    """The running container whose namespace is borrowed. Raises NotFound; Conflict, or Internal for pid, as dockerd."""
    peer = engine.containers.find(mode.partition(":")[2])
    if peer.state.status in ("running", "paused"):
        return peer
    if kind == "pid":
        raise Internal(f"failed to join PID namespace: container {peer.id} is not running")
    if kind == "ipc":
        raise Conflict(f"failed to join IPC namespace: container {peer.id} is not running")
    raise Conflict(f"cannot join network of a non running container: {peer.id}")


def _hostname(engine: Engine, container: Container) -> str:
    record = container.record
    mode = record.host_config.NetworkMode
    if record.config.Hostname:
        return record.config.Hostname
    return _peer(engine, mode).record.config.Hostname or "" if mode.startswith("container:") else os.uname().nodename


def _shm(engine: Engine, container: Container, undo: AsyncExitStack) -> str:
    host = container.record.host_config
    mode = host.IpcMode or "private"
    if mode == "host":
        return "/dev/shm"
    if mode.startswith("container:"):
        peer = _peer(engine, mode, "ipc")
        path = engine.tree.container(peer.id) / "shm"
        if peer.record.host_config.IpcMode != "shareable" or not path.is_mount():
            raise Conflict(
                f"cannot join IPC of container {peer.id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
            )
        return str(path)
    if mode != "shareable":
        return ""
    path = engine.tree.container(container.id) / "shm"
    mount_shm(path, host.ShmSize or engine.config.default_shm_size)
    undo.callback(unmount_shm, path)
    return str(path)


def _seccomp(engine: Engine, host: HostConfig, caps: tuple[str, ...]) -> str:
    profile = parse_security(host.SecurityOpt or ()).seccomp
    if profile == "unconfined" or (host.Privileged and profile == "builtin"):
        return ""
    return engine.seccomp.path_for(profile, frozenset(caps))


def exec_process(engine: Engine, container: Container, request: ExecCreate) -> Process:
    """A further process of a running container: its confinement, which `--privileged` lifts for this process alone."""
    record, host = container.record, container.record.host_config
    privileged = request.Privileged or host.Privileged
    caps = resolve(host.CapAdd or (), host.CapDrop or (), privileged)
    config = record.config.model_copy(update={"Env": [*(record.config.Env or ()), *(request.Env or ())]})
    hostname = record.config.Hostname or os.uname().nodename
    return Process(
        args=tuple(request.Cmd or ()),
        env=environment(config, hostname, request.Tty, link_variables(record.name, links_alive(engine, container))),
        cwd=request.WorkingDir or record.config.WorkingDir or "/",
        user=User(request.User or record.config.User, tuple(host.GroupAdd or ())),
        tty=request.Tty,
        open_stdin=request.AttachStdin,
        stdin_once=True,
        caps_bounding=caps,
        caps_effective=caps,
        no_new_privileges=parse_security(host.SecurityOpt or ()).no_new_privileges,
        seccomp="" if privileged else _seccomp(engine, host, caps),
        rlimits=rlimits(host),
        oom_score_adj=host.OomScoreAdj or None,
    )
