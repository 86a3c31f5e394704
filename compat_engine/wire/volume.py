"""Volumes as the Engine API spells them (API 1.51)."""

from compat_engine.wire.base import OmitNone, Wire
from compat_engine.wire.container import Empty


class VolumeCreate(Wire):
    """Body of POST /volumes/create. Name "" asks for an anonymous volume; ClusterVolumeSpec needs swarm."""

    Name: str = ""
    Driver: str = ""
    DriverOpts: dict[str, str] | None = None
    Labels: dict[str, str] | None = None
    ClusterVolumeSpec: OmitNone[Empty | None] = None
