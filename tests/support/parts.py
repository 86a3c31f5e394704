"""An Engine of real parts on a fake runtime, with images and networks that are as small as a test of containers needs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from compat_engine.config import Config as DaemonConfig
from compat_engine.config import Settings
from compat_engine.engine.events import Events
from compat_engine.engine.execs import Execs
from compat_engine.engine.parts import Engine
from compat_engine.engine.records import ContainerRecord, MountPoint
from compat_engine.engine.registry import Container, Registry
from compat_engine.engine.standby import Standby
from compat_engine.errors import NotFound
from compat_engine.ids import new_id
from compat_engine.runtime.fake import FakeRuntime
from compat_engine.runtime.protocol import ExecExit
from compat_engine.shim.spec import Log, Namespaces, Overlay, Process, Spec
from compat_engine.store.records import Records
from compat_engine.store.tree import Tree
from compat_engine.volumes.volumes import Volumes
from compat_engine.wire.container import Config, HostConfig

IMAGE = "sha256:" + "b" * 64


class FewImages:
    """find: by name or id. `layers` as the real Image's: only diff ids."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {"busybox": IMAGE}
        self.layers: dict[str, tuple[str, ...]] = {IMAGE: ("one",)}
        self.snapshots = self

    def find(self, word: str) -> SimpleNamespace:
        id = self.names.get(word, word)
        if id not in self.layers:
            raise NotFound(f"No such image: {word}")
        return SimpleNamespace(id=id, size=1000, layers=[SimpleNamespace(diff_id=layer) for layer in self.layers[id]])

    def overlay(self, key: str) -> Overlay:
        return Overlay(("/layers/top", "/layers/base"), f"/layers/{key}/diff", f"/layers/{key}/work")

    async def usage(self, key: str) -> int:
        return 7

    async def remove(self, key: str) -> None:
        return


class NoNetworks:
    def list(self) -> list[object]:
        return []

    def endpoints(self, container: str) -> dict[str, object]:
        return {}

    def find(self, word: str) -> object:
        raise NotFound(f"network {word} not found")

    async def rename(self, container_id: str, name: str, dns_names: object) -> None:
        """Nothing is connected."""


@dataclass
class Client:
    """A Duplex whose other end is the test."""

    typed: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    received: bytearray = field(default_factory=bytearray)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> bytes:
        return await self.typed.get()

    async def write(self, data: bytes) -> None:
        self.received += data

    async def close_write(self) -> None:
        self.closed.set()


@asynccontextmanager
async def make_engine(directory: Path) -> AsyncIterator[Engine]:
    tree = Tree(directory / "data", directory / "exec")
    tree.containers.mkdir(parents=True)
    records = Records(tree.database)
    runtime, events = FakeRuntime(), Events()
    anything = cast(Any, SimpleNamespace(path_for=lambda profile, caps: ""))
    engine = Engine(
        settings=Settings(DaemonConfig(data_root=tree.data, exec_root=tree.exec)),
        tree=tree,
        records=records,
        runtime=cast(Any, runtime),
        cgroups=anything,
        seccomp=anything,
        images=cast(Any, FewImages()),
        registries=anything,
        networks=cast(Any, NoNetworks()),
        volumes=await Volumes.open(tree, records),
        events=events,
        containers=Registry(records),
        execs=Execs(events),
        standby=Standby(),
    )
    exits = asyncio.create_task(_exec_exits(engine))
    try:
        yield engine
    finally:
        exits.cancel()
        await runtime.close()
        records.close()


async def _exec_exits(engine: Engine) -> None:
    async for exit in engine.runtime.exits():
        if isinstance(exit, ExecExit):
            engine.execs.exited(exit)


async def add(
    engine: Engine,
    name: str,
    args: tuple[str, ...] = ("sleep", "100"),
    created: str = "2026-11-24T06:41:04Z",
    mounts: tuple[MountPoint, ...] = (),
    image: str = "busybox",
    host: dict[str, object] | None = None,
    **config: object,
) -> Container:
    """A created container."""
    record = ContainerRecord(
        id=new_id(),
        name=name,
        created=created,
        config=Config.model_validate({"Image": image, "Hostname": name, **config}),
        host_config=HostConfig.model_validate({"NetworkMode": "none", "LogConfig": {"Type": "json-file"}, **(host or {})}),
        image=engine.images.find(image).id,
        endpoints={},
        args=args,
        mounts=mounts,
    )
    with engine.containers.reserve(name, record.id):
        container = await engine.containers.add(record, lambda: None)
    engine.tree.container(record.id).mkdir()
    return container


async def run(engine: Engine, name: str, *args: str, **more: Any) -> Container:
    """A running container of the fake runtime."""
    container = await add(engine, name, args or ("sleep", "100"), **more)
    spec = Spec(
        id=container.id,
        process=Process(container.record.args, ()),
        rootfs=engine.images.snapshots.overlay(container.id),
        namespaces=Namespaces(),
        log=Log(path=str(engine.tree.log(container.id))),
    )
    created = await engine.runtime.create(spec)
    started = await created.go()
    await engine.containers.update(container, state=container.state.to("running", pid=created.pid, started_at=started))
    return container
