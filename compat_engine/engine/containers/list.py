"""GET /containers/json. An entry is rendered once and kept with the container; what changes by itself is spliced in each time."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from compat_engine.engine.containers.inspect import mount_view
from compat_engine.engine.containers.selection import Selection
from compat_engine.engine.filters import Filters
from compat_engine.engine.humantime import seconds_of, status_text
from compat_engine.engine.networks import network_settings, ports_summary
from compat_engine.engine.parts import Engine
from compat_engine.engine.records import MountPoint
from compat_engine.engine.registry import Container
from compat_engine.engine.sizes import sizes
from compat_engine.errors import EngineError, NotFound

_STATUS, _IMAGE = b"\x01", b"\x02"  # placeholders in a kept entry: JSON text cannot contain these bytes


@dataclass(frozen=True, slots=True)
class ListOptions:
    """all: also what does not run; a limit above 0 (the newest so many) and a status filter imply it."""

    all: bool = False
    limit: int = 0
    size: bool = False
    filters: Filters = field(default_factory=dict)


async def list(engine: Engine, options: ListOptions) -> bytes:
    """The JSON array, newest container first. Raises InvalidParameter and NotFound for filters."""
    found = select(engine, options)
    now = time.time()
    images: dict[tuple[str, str], bytes] = {}
    entries = [_entry(engine, container, now, images) for container in found]
    if options.size:
        entries = [entry async for entry in _with_sizes(engine, found, entries)]
    return b"[" + b",".join(entries) + b"]"


async def _with_sizes(engine: Engine, found: Sequence[Container], entries: Sequence[bytes]) -> AsyncIterator[bytes]:
    """Measuring takes a while: what is removed meanwhile is no longer listed."""
    for container, entry in zip(found, entries, strict=True):
        with suppress(NotFound):
            yield _json({**json.loads(entry), **(await sizes(engine, container.record))})


def select(engine: Engine, options: ListOptions) -> Sequence[Container]:
    """The containers asked for, newest first."""
    selection = Selection(engine, options.filters)
    everything = options.all or options.limit > 0 or bool(options.filters.get("status"))
    ordered = sorted(engine.containers.all(), key=lambda item: item.record.created, reverse=True)
    found = [item for item in selection.between(ordered) if (everything or item.state.running) and selection.accepts(item)]
    return found[: options.limit] if options.limit > 0 else found


def _entry(engine: Engine, container: Container, now: float, images: dict[tuple[str, str], bytes]) -> bytes:
    if not container.view:
        container.view = _render(engine, container)
    record = container.record
    key = (record.config.Image, record.image)
    if key not in images:
        images[key] = _json(_image_name(engine, *key))[1:-1]
    status = status_text(container.state, container.health.status if container.health else "", now).encode()
    return container.view.replace(_STATUS, status).replace(_IMAGE, images[key])


def _image_name(engine: Engine, name: str, id: str) -> str:
    """The name it was created from, as long as that still means the same image."""
    try:
        return name if engine.images.find(name).id == id else id
    except EngineError:
        return id


def _render(engine: Engine, container: Container) -> bytes:
    record, annotations = container.record, container.record.host_config.Annotations
    parts = (
        {"Id": record.id, "Names": [f"/{name}" for name in engine.containers.names(container)]},
        {
            "ImageID": record.image,
            **({"ImageManifestDescriptor": record.manifest} if record.manifest else {}),
            "Command": command_text(record.args),
            "Created": int(seconds_of(record.created)),
            "Ports": ports_summary(engine, container),
            "Labels": record.config.Labels or {},
            "State": container.state.status,
        },
        {
            "HostConfig": {
                "NetworkMode": record.host_config.NetworkMode,
                **({"Annotations": annotations} if annotations else {}),
            },
            "NetworkSettings": {"Networks": network_settings(engine, container)["Networks"]},
            "Mounts": [_mount(point) for point in record.mounts],
        },
    )
    identity, middle, rest = (_json(part)[1:-1] for part in parts)
    return b'{%b,"Image":"%b",%b,"Status":"%b",%b}' % (identity, _IMAGE, middle, _STATUS, rest)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def command_text(args: tuple[str, ...]) -> str:
    """The COMMAND column: words with a space in quotes, but for the first."""
    return " ".join([*args[:1], *(f"'{word}'" if " " in word else word for word in args[1:])])


def _mount(point: MountPoint) -> dict[str, Any]:
    view = mount_view(point)
    return {**view, "Source": ""} if point.type == "volume" else view
