"""The record of parts every use case takes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compat_engine.config import Config, Settings
from compat_engine.engine.events import Events
from compat_engine.engine.registry import Registry
from compat_engine.images.images import Images
from compat_engine.images.registry.registries import Registries
from compat_engine.network.networks import Networks
from compat_engine.runtime.cgroups.manager import Cgroups
from compat_engine.runtime.protocol import Runtime
from compat_engine.runtime.seccomp import SeccompCache
from compat_engine.store.records import Records
from compat_engine.store.tree import Tree
from compat_engine.volumes.volumes import Volumes

if TYPE_CHECKING:
    from compat_engine.engine.execs import Execs
    from compat_engine.engine.standby import Standby


@dataclass(frozen=True, slots=True)
class Engine:
    settings: Settings
    tree: Tree
    records: Records
    runtime: Runtime
    cgroups: Cgroups
    seccomp: SeccompCache
    images: Images
    registries: Registries
    networks: Networks
    volumes: Volumes
    events: Events
    containers: Registry
    execs: "Execs"
    standby: "Standby"

    @property
    def config(self) -> Config:
        """As it is in force now: ask again rather than keep it."""
        return self.settings.now
