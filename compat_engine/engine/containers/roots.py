"""A container's filesystem from outside of it: how to see it, running or not, and what goes wrong in Docker's words."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from compat_engine.engine.imagemounts import image_mounts
from compat_engine.engine.parts import Engine
from compat_engine.engine.prepare import make_bind_sources
from compat_engine.engine.records import MountPoint
from compat_engine.engine.registry import Container
from compat_engine.errors import Conflict, NotFound
from compat_engine.ids import new_id
from compat_engine.images.roots import View
from compat_engine.shim.spec import Mount

_KERNEL = ("/proc", "/sys", "/dev")  # mount points that are no files of the container's
_FILES = {"hosts": "/etc/hosts", "hostname": "/etc/hostname", "resolv.conf": "/etc/resolv.conf"}


def find(engine: Engine, word: str) -> Container:
    """Raises NotFound; Conflict for one on its way out."""
    container = engine.containers.find(word)
    if container.state.status in ("removing", "dead"):
        raise Conflict(f"container is marked for removal: {container.id}")
    return container


@asynccontextmanager
async def readable(engine: Engine, container: Container) -> AsyncIterator[View]:
    """All its files, with volumes; nothing is written, so a stopped one may be started meanwhile."""
    await container.settled()
    if pid := process_of(container):
        yield _running(engine, container, pid)
    else:
        async with _volumes(engine, container):
            yield _stopped(engine, container, writable=False)


@asynccontextmanager
async def writable(engine: Engine, container: Container) -> AsyncIterator[View]:
    """The same to write to. A stopped container stays so until it is left."""
    await container.settled()
    if pid := process_of(container):
        yield _running(engine, container, pid)
        return
    async with container.lock:
        if pid := process_of(container):  # another start was faster
            yield _running(engine, container, pid)
            return
        await engine.standby.dismiss(container)
        async with _volumes(engine, container):
            yield _stopped(engine, container, writable=True)


def alone(engine: Engine, container: Container) -> View:
    """Its own files, without what is mounted on them."""
    overlay = engine.images.snapshots.overlay(container.id)
    return View(overlay, process_of(container), bare=True)


@contextmanager
def failures(container: Container, path: str = "", word: str = "") -> Iterator[None]:
    """word: what the client calls it. Raises NotFound for a path that is not there, Conflict when the container has ended."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"Could not find the file {path} in container {word or container.id}") from None
    except ProcessLookupError:
        raise Conflict(f"container {container.id} is not running") from None


def process_of(container: Container) -> int:
    """Of a live container, else 0: also when its end has not been recorded yet."""
    pid = container.state.pid
    return pid if pid and os.path.exists(f"/proc/{pid}/ns/mnt") else 0


def _running(engine: Engine, container: Container, pid: int) -> View:
    taken = {point.destination for point in container.record.mounts}
    hide = tuple(path for path in _KERNEL if path not in taken)
    return View(engine.images.snapshots.overlay(container.id), pid, hide)


def _stopped(engine: Engine, container: Container, writable: bool) -> View:
    record = container.record
    mounts = {point.destination: _bind(point) for point in record.mounts if point.type in ("bind", "volume")}
    mounts |= image_mounts(engine, container)
    for name, target in _FILES.items():
        source = engine.tree.container(record.id) / name
        if target not in mounts and source.exists():
            mounts[target] = Mount("bind", str(source), target, ("bind", "rprivate"))
    overlay = engine.images.snapshots.overlay(record.id)
    ordered = sorted(mounts.values(), key=lambda mount: mount.target.count("/"))  # parents first
    workdir = (record.config.WorkingDir,) if record.config.WorkingDir else ()
    return View(overlay, mounts=tuple(ordered), directories=workdir, writable=writable)


def _bind(point: MountPoint) -> Mount:
    source = os.path.join(point.source, point.subpath) if point.subpath else point.source
    flags = point.flags or ("rbind",)
    return Mount("bind", source, point.destination, (*flags, *(() if point.rw else ("rro",)), "rprivate"))


@asynccontextmanager
async def _volumes(engine: Engine, container: Container) -> AsyncIterator[None]:
    """Mounted as for a start, and bind sources made as by one."""
    make_bind_sources(container)
    user = f"{container.id}-{new_id()}"
    names = {point.name for point in container.record.mounts if point.type == "volume"}
    mounted = []
    try:
        for name in names:
            await engine.volumes.mount(name, user)
            mounted.append(name)
        yield
    finally:
        for name in mounted:
            await engine.volumes.unmount(name, user)
