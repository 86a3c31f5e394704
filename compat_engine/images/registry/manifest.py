"""Manifests of both kinds (OCI image spec 1.1, Docker image manifest v2 schema 2): read, checked, chosen by platform. Pure."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from compat_engine.errors import Internal
from compat_engine.images.records import CONFIG, INDEX, MANIFEST, Descriptor
from compat_engine.images.reference import is_digest

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_SCHEMA_1 = ("application/vnd.docker.distribution.manifest.v1+prettyjws", "application/vnd.docker.distribution.manifest.v1+json")
ACCEPTED = ", ".join((MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX, _SCHEMA_1[0]))
_CONFIGS = (CONFIG, DOCKER_CONFIG, "application/octet-stream", "")  # very old pushes gave none
_FOREIGN = ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",)
_LAYERS = 4096
Platform = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class ImageManifest:
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """An entry of an index. platform None: it says none, and fits any."""

    descriptor: Descriptor
    platform: Platform | None


def is_index(media_type: str, content: dict[str, Any]) -> bool:
    return _type(media_type, content) in (INDEX, DOCKER_INDEX)


def parse(media_type: str, content: bytes) -> dict[str, Any]:
    """A manifest or index as an object, of a kind this engine takes. Raises Internal for anything else."""
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError):
        raise Internal("the registry's manifest is no JSON") from None
    if not isinstance(raw, dict):
        raise Internal("the registry's manifest is no JSON object")
    kind = _type(media_type, raw)
    if kind in _SCHEMA_1 or raw.get("schemaVersion") == 1:
        hint = "suggest the author to push the image again with a current tool"
        raise Internal(f"Docker Image Format v1 and Docker Image manifest version 2, schema 1 are not supported: {hint}")
    if kind not in (MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX):
        raise Internal(f"unsupported manifest media type {kind or media_type}")
    return raw


def read_manifest(raw: dict[str, Any]) -> ImageManifest:
    """Raises Internal for an artifact that is no image, and for what is malformed."""
    artifact = raw.get("artifactType")
    config = _descriptor(raw.get("config"))
    if artifact or config.media_type not in _CONFIGS:
        raise Internal(f"unsupported media type {config.media_type if config.media_type not in _CONFIGS else artifact}")
    layers = [_descriptor(item) for item in _objects(raw.get("layers"))]
    if len(layers) > _LAYERS:
        raise Internal("max depth exceeded")
    for layer in layers:
        if not _is_layer(layer.media_type):
            raise Internal(f"unsupported media type {layer.media_type}")
    return ImageManifest(config, tuple(layers))


def choose(index: dict[str, Any], wanted: Platform) -> Choice:
    """The entry that runs best on `wanted`. Raises Internal in Docker's words when none does."""
    ranked = []
    preferred = list(_vector(wanted))
    for position, choice in enumerate(_choices(index)):
        if choice.platform is None:
            ranked.append((len(preferred), position, choice))
        elif _normal(choice.platform) in preferred:
            ranked.append((preferred.index(_normal(choice.platform)), position, choice))
    if not ranked:
        shown = "/".join(part for part in wanted if part)
        raise Internal(f"no matching manifest for {shown} in the manifest list entries")
    return min(ranked, key=lambda entry: entry[:2])[2]


def fits(have: Platform, wanted: Platform) -> bool:
    """Whether an image for `have` is what a pull for `wanted` could have chosen as its best."""
    return _normal(have)[:2] == _normal(wanted)[:2] and (not wanted[2] or _normal(have) == _normal(wanted))


def runs(have: Platform, wanted: Platform) -> bool:
    """Whether an image for `have` will do where `wanted` is asked for."""
    return _normal(have) in _vector(wanted)


def platforms(index: dict[str, Any]) -> list[dict[str, Any]]:
    """The platforms an index names, as they are in it."""
    return [item["platform"] for item in _objects(index.get("manifests")) if isinstance(item.get("platform"), dict)]


def docker_manifest(config: Descriptor, layers: list[Descriptor]) -> bytes:
    """Schema 2, byte for byte as Docker writes it."""
    raw = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": _docker(config),
        "layers": [_docker(layer) for layer in layers],
    }
    return json.dumps(raw, indent=3).encode()


def oci_manifest(config: Descriptor, layers: list[Descriptor]) -> bytes:
    raw = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config.plain(), "layers": [layer.plain() for layer in layers]}
    return json.dumps(raw, separators=(",", ":")).encode()


def _docker(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "size": descriptor.size, "digest": descriptor.digest}


def _type(media_type: str, content: dict[str, Any]) -> str:
    """What it says of itself, else what the registry said, else what it looks like."""
    own = content.get("mediaType")
    if isinstance(own, str) and own:
        return own
    if media_type in (MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX, *_SCHEMA_1):
        return media_type
    if "manifests" in content:
        return INDEX
    return MANIFEST if "config" in content and "layers" in content else ""


def _choices(index: dict[str, Any]) -> Iterator[Choice]:
    for item in _objects(index.get("manifests")):
        platform = item.get("platform")
        if not isinstance(platform, dict):
            yield Choice(_descriptor(item), None)
        elif platform.get("os") != "unknown":  # attestations
            parts = (platform.get("os"), platform.get("architecture"), platform.get("variant"))
            system, architecture, variant = (str(part or "") for part in parts)
            yield Choice(_descriptor(item), (system, architecture, variant))


def _normal(platform: Platform) -> Platform:
    """Other spellings in the usual one; the variant that goes without saying left out."""
    system, architecture, variant = (part.lower() for part in platform)
    architecture = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386"}.get(
        architecture, architecture
    )
    if architecture == "armhf":
        architecture, variant = "arm", variant or "v7"
    if architecture == "armel":
        architecture, variant = "arm", variant or "v6"
    if variant.isdigit():
        variant = f"v{variant}"
    implied = {"amd64": "v1", "arm64": "v8"}.get(architecture)
    if architecture == "arm" and not variant:
        variant = "v7"
    return system, architecture, "" if variant == implied else variant


def _vector(wanted: Platform) -> Iterator[Platform]:
    """What runs on a platform, the best first: its own variant, then older ones, then the 32-bit kin."""
    system, architecture, variant = _normal(wanted)
    yield system, architecture, variant
    if architecture == "amd64":
        yield from ((system, architecture, f"v{n}" if n > 1 else "") for n in range(_number(variant) - 1, 0, -1))
        yield system, "386", ""
    elif architecture == "arm64":
        yield from ((system, architecture, "") for _ in range(bool(variant)))
        yield from ((system, "arm", f"v{n}") for n in (8, 7, 6, 5))
    elif architecture == "arm":
        yield from ((system, architecture, f"v{n}") for n in range(_number(variant) - 1, 4, -1))


def _number(variant: str) -> int:
    return int(variant[1:]) if re.fullmatch(r"v[0-9]", variant) else 1


def _is_layer(media_type: str) -> bool:
    """A tar of some compression; image tools of old gave no or a vague type."""
    if media_type in ("", "application/octet-stream", DOCKER_LAYER, *_FOREIGN):
        return True
    known = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.diff.tar")
    return media_type.startswith(known) and "+encrypted" not in media_type


def _descriptor(raw: Any) -> Descriptor:
    if not isinstance(raw, dict):
        raise Internal("the registry's manifest is malformed")
    media_type, digest, size = raw.get("mediaType") or "", raw.get("digest"), raw.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str) or not isinstance(size, int) or size < 0:
        raise Internal("the registry's manifest is malformed")
    if not is_digest(digest) or not digest.startswith("sha256:"):
        raise Internal(f"unsupported digest {digest}")
    return Descriptor(media_type, digest, size)


def _objects(value: Any) -> list[dict[str, Any]]:
    if value is not None and not (isinstance(value, list) and all(isinstance(item, dict) for item in value)):
        raise Internal("the registry's manifest is malformed")
    return value or []
