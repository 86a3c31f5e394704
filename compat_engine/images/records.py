"""What the store remembers of images: three tables (images, tags, layers) and the values they hold.

images: image id -> how it came (manifest, blobs, parent). tags: canonical reference -> image id. layers: chain id -> the
directory it is unpacked in. An image's configuration is a blob, named by its id.
"""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

IMAGES, TAGS, LAYERS = "images", "tags", "layers"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A blob by digest, as manifests name it. size in bytes."""

    media_type: str
    digest: str
    size: int

    def plain(self) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Layer:
    """One unpacked layer. size: bytes of the files in it; parent: chain id below, "" at the bottom; cache_id: its directory;
    made_here: by a commit, so that its tar can be made of the directory at any time."""

    diff_id: str
    chain_id: str
    cache_id: str
    size: int
    parent: str = ""
    made_here: bool = False

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> "Layer":
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Image:
    """An image of this store. id: digest of its config; layers bottom first; blobs: the layers' as they came, bottom first."""

    id: str
    config: dict[str, Any]
    layers: tuple[Layer, ...]
    blobs: tuple[Descriptor, ...]
    config_size: int
    manifest: Descriptor | None = None  # as loaded or pulled; None: made when the image is saved
    parent: str = ""
    tagged_at: str = ""  # RFC 3339 ns of the last tag made here, "" for never
    added_at: str = ""
    claimed: tuple[tuple[str, str, str], ...] = ()  # platforms that indexes it was pulled by give it and its config does not

    @cached_property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers)

    @property
    def runtime(self) -> dict[str, Any]:
        """The configuration's `config` object: Env, Cmd, Entrypoint, User, Labels..."""
        return self.config.get("config") or {}

    @property
    def created(self) -> str:
        return self.config.get("created") or ""

    @property
    def labels(self) -> dict[str, str]:
        return self.runtime.get("Labels") or {}

    @property
    def chain(self) -> str:
        """Chain id of the topmost layer, "" for an image without layers."""
        return self.layers[-1].chain_id if self.layers else ""

    @property
    def chains(self) -> list[str]:
        """Of every layer, bottom first."""
        return [layer.chain_id for layer in self.layers]

    @property
    def platform(self) -> tuple[str, str, str]:
        return self.config.get("os") or "linux", self.config.get("architecture") or "", self.config.get("variant") or ""

    @property
    def platforms(self) -> tuple[tuple[str, str, str], ...]:
        """What it may be asked for as: some images are built for another platform than their configuration says."""
        return (self.platform, *self.claimed)

    @property
    def digests(self) -> set[str]:
        """Every blob that must stay as long as the image does."""
        return {self.id, *(blob.digest for blob in self.blobs), *([self.manifest.digest] if self.manifest else [])}

    def dump(self) -> str:
        return json.dumps(
            {
                "blobs": [asdict(blob) for blob in self.blobs],
                "chains": self.chains,
                "config_size": self.config_size,
                "manifest": asdict(self.manifest) if self.manifest else None,
                "parent": self.parent,
                "tagged_at": self.tagged_at,
                "added_at": self.added_at,
                "claimed": self.claimed,
            }
        )

    @classmethod
    def load(cls, id: str, text: str, config: dict[str, Any], layers: dict[str, Layer]) -> "Image":
        """Raises KeyError when a layer's record is missing."""
        raw = json.loads(text)
        return cls(
            id=id,
            config=config,
            layers=tuple(layers[chain] for chain in raw["chains"]),
            blobs=tuple(Descriptor(**blob) for blob in raw["blobs"]),
            config_size=raw["config_size"],
            manifest=Descriptor(**raw["manifest"]) if raw["manifest"] else None,
            parent=raw["parent"],
            tagged_at=raw["tagged_at"],
            added_at=raw["added_at"],
            claimed=tuple((system, architecture, variant) for system, architecture, variant in raw.get("claimed", ())),
        )


def chain_ids(diff_ids: list[str] | tuple[str, ...]) -> list[str]:
    """Chain id of each layer, bottom first: the digest of the chain below and the layer's own diff id (OCI image spec)."""
    chains: list[str] = []
    for diff_id in diff_ids:
        chains.append(f"sha256:{sha256(f'{chains[-1]} {diff_id}'.encode()).hexdigest()}" if chains else diff_id)
    return chains
