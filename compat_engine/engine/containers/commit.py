"""POST /commit: an image of what a container has become."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from compat_engine.engine.containers import roots
from compat_engine.engine.containers.create import attributes
from compat_engine.engine.containers.pause import pause, unpause
from compat_engine.engine.images import CONFIG_KEYS, checked_name
from compat_engine.engine.merge import merge
from compat_engine.engine.parts import Engine
from compat_engine.engine.registry import Container
from compat_engine.errors import EngineError, InvalidParameter
from compat_engine.images import changes
from compat_engine.images.commit import Step
from compat_engine.wire.container import Config

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """config: what replaces parts of the container's own; changes: Dockerfile instructions, several lines each."""

    repository: str = ""
    tag: str = ""
    author: str = ""
    comment: str = ""
    pause: bool = True
    changes: tuple[str, ...] = ()
    config: Config | None = None


async def commit(engine: Engine, word: str, options: CommitOptions) -> str:
    """The new image's id. Raises NotFound, Conflict, InvalidParameter."""
    if not word:
        raise InvalidParameter('invalid name or ID supplied: ""')
    container = roots.find(engine, word)
    name = checked_name(options.repository, options.tag)
    parent = engine.images.find(container.record.image)
    created_by = " ".join(container.record.config.Cmd or ())
    step = Step(_runtime(container, options), created_by, options.author, options.comment)
    await container.settled()
    async with _still(engine, container, options.pause):
        image = await engine.images.commit(container.id, parent, step, name)
        if name is not None:
            engine.events.publish("image", "tag", image.id, {**image.labels, "name": name.familiar})
        said = {"comment": options.comment, "imageID": image.id, "imageRef": name.familiar if name else ""}
        engine.events.publish("container", "commit", container.id, {**attributes(container.record), **said})
    return image.id


def _runtime(container: Container, options: CommitOptions) -> dict[str, Any]:
    own = container.record.config
    base = (options.config or own).dump()
    changed = changes.apply(base, _instructions(options.changes))
    merged = merge(Config.parse(changed), own).dump()
    merged["OnBuild"] = changed.get("OnBuild")  # which only an image gives, to a container
    return {key: merged[key] for key in CONFIG_KEYS if merged.get(key)}


def _instructions(texts: tuple[str, ...]) -> list[str]:
    lines = "\n".join(texts).replace("\\\n", "").split("\n")
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


@asynccontextmanager
async def _still(engine: Engine, container: Container, wanted: bool) -> AsyncIterator[None]:
    """Paused meanwhile, if it runs and that is wanted."""
    if not wanted or container.state.status != "running":
        yield
        return
    await pause(engine, container.id)
    try:
        yield
    finally:
        try:
            await unpause(engine, container.id)
        except EngineError as error:
            log.info("container %s is not paused any more after its commit: %s", container.id, error)
