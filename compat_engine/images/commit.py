"""`docker commit`: a container's writable layer becomes the topmost layer of a new image."""

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compat_engine.errors import Internal
from compat_engine.images.intake import workspace
from compat_engine.images.layers import Incoming, IncomingLayer, Unpacked, add
from compat_engine.images.library import Library, host_platform, now_text
from compat_engine.images.records import LAYER, Descriptor, Image
from compat_engine.images.reference import Reference

_EMPTY_TAR = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"  # of 1024 zeros


@dataclass(frozen=True, slots=True)
class Step:
    """What is said of the new image. runtime: its `config` object; created_by: for the history."""

    runtime: dict[str, Any]
    created_by: str
    author: str = ""
    comment: str = ""


async def commit(library: Library, snapshot: str, parent: Image, step: Step, name: Reference | None) -> Image:
    """Adds the image; without a layer of its own when nothing was written. Raises Internal (disk full)."""
    async with workspace(library.tree.tmp) as work, library.hold(parent.digests):
        try:
            layer = await _layer(library, snapshot, work)
        except OSError as error:
            raise Internal(f"failed to register layer: {error.strerror or error}") from error
        layers = [IncomingLayer(blob, None) for blob in parent.blobs]
        if layer.blob.digest != _EMPTY_TAR:
            layers.append(layer)
        config = _config(parent, step, "" if layer.blob.digest == _EMPTY_TAR else layer.blob.digest)
        names = (name,) if name else ()
        incoming = Incoming(config, tuple(layers), names, parent=parent.id, tagged_at=now_text() if names else "")
        return await add(library, incoming, work)


async def _layer(library: Library, snapshot: str, work: Path) -> IncomingLayer:
    overlay, directory = library.snapshots.overlay(snapshot), work / "layer"
    fd = await asyncio.to_thread(_prepare, directory)
    try:
        done = await library.workers.run("root_commit", [fd], upper=overlay.upper, lowers=overlay.lower)
    finally:
        os.close(fd)
    unpacked = Unpacked(directory, done["digest"], done["unpacked"], implied=False, made_here=True)
    return IncomingLayer(Descriptor(LAYER, done["digest"], done["size"]), None, unpacked)


def _prepare(directory: Path) -> int:
    (directory / "diff").mkdir(mode=0o755, parents=True)
    (directory / "diff").chmod(0o755)
    return os.open(directory / "diff", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _config(parent: Image, step: Step, diff_id: str) -> bytes:
    now = now_text()
    system, architecture, variant = parent.platform
    said = {name: text for name, text in (("author", step.author), ("comment", step.comment)) if text}
    history = {"created": now, "created_by": step.created_by, **said, **({} if diff_id else {"empty_layer": True})}
    below = parent.config["rootfs"]["diff_ids"]
    config: dict[str, Any] = {
        "architecture": architecture or host_platform()[1],
        **said,
        "config": step.runtime,
        "created": now,
        "history": [*(parent.config.get("history") or ()), history],
        "os": system,
        "rootfs": {"type": "layers", "diff_ids": [*below, *([diff_id] if diff_id else [])]},
        **({"variant": variant} if variant else {}),
    }
    return json.dumps(config, separators=(",", ":"), ensure_ascii=False).encode()
