"""A volume as it is remembered."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

ANONYMOUS = "com.docker.volume.anonymous"
"""The label of a volume nobody named; prune takes those unless it is told to take all."""


@dataclass(frozen=True, slots=True)
class Volume:
    """created: RFC 3339, whole seconds, UTC. labels and options are None when the client sent none (the API shows null)."""

    name: str
    mountpoint: Path
    created: str
    driver: str = "local"
    scope: str = "local"
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None

    @property
    def anonymous(self) -> bool:
        return ANONYMOUS in (self.labels or {})

    def dump(self) -> str:
        return json.dumps({**asdict(self), "mountpoint": str(self.mountpoint)})

    @classmethod
    def load(cls, text: str) -> "Volume":
        raw = json.loads(text)
        return cls(**{**raw, "mountpoint": Path(raw["mountpoint"])})
