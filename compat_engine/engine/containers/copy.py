"""HEAD, GET and PUT /containers/{id}/archive: `docker cp`."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any

from compat_engine.engine.containers import roots
from compat_engine.engine.containers.create import attributes
from compat_engine.engine.parts import Engine
from compat_engine.errors import InvalidParameter
from compat_engine.images.roots import Rules


@dataclass(frozen=True, slots=True)
class Archive:
    """stat: name, size, mode (Go's os.FileMode), mtime, linkTarget. pieces: the tar, to be read to its end or closed."""

    stat: dict[str, Any]
    pieces: AsyncGenerator[bytes, None]


async def stat(engine: Engine, word: str, path: str) -> dict[str, Any]:
    """What is at `path`. Raises NotFound, InvalidParameter for an empty path."""
    _check(path)
    container = roots.find(engine, word)
    with roots.failures(container, path, word):
        async with roots.readable(engine, container) as view:
            return await engine.images.roots.stat(view, path)


async def read(engine: Engine, word: str, path: str, encoding: str = "") -> Archive:
    """A tar of what is at `path`, named by its last part. encoding: "", "gzip", "deflate". Raises NotFound, InvalidParameter."""
    _check(path)
    container = roots.find(engine, word)
    async with AsyncExitStack() as stack:
        stack.enter_context(roots.failures(container, path, word))
        view = await stack.enter_async_context(roots.readable(engine, container))
        download = await engine.images.roots.read(view, path, encoding)
        held = stack.pop_all()
    engine.events.publish("container", "archive-path", container.id, attributes(container.record))
    return Archive(download.stat, _holding(held, download.tar))


async def write(
    engine: Engine, word: str, path: str, body: AsyncIterator[bytes], keep_kind: bool = False, as_user: bool = False
) -> None:
    """Unpack a tar, compressed or not, into the directory `path`.

    keep_kind: directories and other things do not replace each other. as_user: everything becomes the container's user's.
    Raises NotFound, InvalidParameter, Internal with Docker's texts.
    """
    _check(path)
    container = roots.find(engine, word)
    record = container.record
    volumes = tuple((point.destination, point.rw) for point in record.mounts)
    user = record.config.User or "" if as_user else ""
    rules = Rules(keep_kind, user, volumes, bool(record.host_config.ReadonlyRootfs))
    with roots.failures(container, path, word):
        async with roots.writable(engine, container) as view:
            await engine.images.roots.write(view, path, body, rules)
    engine.events.publish("container", "extract-to-dir", container.id, attributes(container.record))


def _check(path: str) -> None:
    if not path:
        raise InvalidParameter("bad parameter: pathcannot be empty")  # dockerd's own words


async def _holding(held: AsyncExitStack, tar: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    async with held, aclosing(tar):  # type: ignore[type-var]
        async for piece in tar:
            yield piece
