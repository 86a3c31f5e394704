"""What the engine remembers of a container: what was asked for (ContainerRecord) and how it is doing (RunState).

Two records, replaced whole, because they change at different times for different reasons. Config and HostConfig are kept as the
client sent them, in the newest API version, and never edited; what the engine resolved stands beside.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from compat_engine.wire.container import Config, HostConfig
from compat_engine.wire.network import EndpointSettings

ZERO_TIME = "0001-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One resolved mount of a container, as `inspect` shows it in Mounts.

    type: bind, volume, tmpfs or image. name and driver are a volume's, name also an image's as asked for; source is the host path
    ("" for tmpfs), or the image's id.
    anonymous: made for this container and removed with it (`rm -v`, --rm).
    """

    type: str
    source: str
    destination: str
    name: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = True
    propagation: str = ""
    anonymous: bool = False
    flags: tuple[str, ...] = ()  # extra fstab words for init: rbind or bind, rro, ...
    data: str = ""  # tmpfs options
    copy_up: bool = False  # a volume that takes the image's content while it is empty
    subpath: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """`--link` on the default bridge: the container `target` (id) is found as `alias`. name: what it was called then."""

    alias: str
    target: str
    name: str


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    id: str
    name: str  # without slash
    created: str  # RFC 3339, ns, UTC
    config: Config  # as merged with the image's: what inspect shows
    host_config: HostConfig
    image: str  # image id, sha256:...
    endpoints: dict[str, EndpointSettings]  # network name -> what was asked for (IPAMConfig, Aliases, MacAddress...)
    args: tuple[str, ...]  # entrypoint + cmd, args[0] the path
    mounts: tuple[MountPoint, ...] = ()
    platform: str = "linux"
    manifest: dict[str, Any] | None = None  # ImageManifestDescriptor
    links: tuple[Link, ...] = ()

    def dump(self) -> str:
        plain = {name: getattr(self, name) for name in ("id", "name", "created", "image", "args", "platform", "manifest")}
        plain["mounts"] = [asdict(mount) for mount in self.mounts]
        plain["links"] = [asdict(link) for link in self.links]
        plain["config"] = self.config.dump()
        plain["host_config"] = self.host_config.dump()
        plain["endpoints"] = {name: endpoint.dump() for name, endpoint in self.endpoints.items()}
        return json.dumps(plain)

    @classmethod
    def load(cls, text: str) -> "ContainerRecord":
        raw = json.loads(text)
        return cls(
            **{
                **raw,
                "args": tuple(raw["args"]),
                "mounts": tuple(MountPoint(**{**mount, "flags": tuple(mount["flags"])}) for mount in raw["mounts"]),
                "links": tuple(Link(**link) for link in raw.get("links", ())),
                "config": Config.model_validate(raw["config"]),
                "host_config": HostConfig.model_validate(raw["host_config"]),
                "endpoints": {name: EndpointSettings.model_validate(item) for name, item in raw["endpoints"].items()},
            }
        )


@dataclass(frozen=True, slots=True)
class RunState:
    """status: created, running, paused, restarting, exited, dead, removing. Times RFC 3339 ns or ZERO_TIME."""

    status: str = "created"
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: str = ZERO_TIME
    finished_at: str = ZERO_TIME
    restart_count: int = 0
    stopped_by_user: bool = False  # a manual stop or kill: restart policies leave it alone

    @property
    def running(self) -> bool:
        """As Docker's State.Running: also while paused or about to restart."""
        return self.status in ("running", "paused", "restarting")

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> "RunState":
        return cls(**json.loads(text))

    def to(self, status: str, **changes: Any) -> "RunState":
        return replace(self, status=status, **changes)
