"""Bytes from a client into files of the store's own, through a worker, without the event loop touching the disk."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from compat_engine.errors import Internal
from compat_engine.images.ring import Sender
from compat_engine.images.waiting import uninterrupted
from compat_engine.images.workers import Workers
from compat_engine.store.removal import remove_tree


class Unstorable(Internal):
    """The host refused the bytes; the cause is the OSError."""


@contextlib.asynccontextmanager
async def workspace(tmp: Path) -> AsyncIterator[Path]:
    """A directory of one's own below Tree.tmp, gone with everything in it afterwards."""
    making = asyncio.ensure_future(asyncio.to_thread(mkdtemp, "", "image-", tmp))
    try:
        yield Path(await asyncio.shield(making))
    finally:
        await uninterrupted(_remove(making))


async def _remove(making: "asyncio.Future[str]") -> None:
    """Also the directory of a waiter that was cancelled before it had it."""
    await asyncio.to_thread(remove_tree, await making)


async def feed(workers: Workers, job: str, body: AsyncIterator[bytes], *targets: int, **arguments: Any) -> dict[str, Any]:
    """Runs `job` on [*ring, *targets] and puts `body` into the ring.

    Raises what `body` does, InvalidParameter for a bad archive, Unstorable when the bytes cannot be stored.
    """
    ended: list[OSError] = []
    try:
        return await inflow(workers, job, body, *targets, failed=ended.append, **arguments)
    except OSError as error:
        if error in ended:
            raise Unstorable(f"cannot store the archive: {error.strerror}") from error
        raise


async def inflow(
    workers: Workers,
    job: str,
    body: AsyncIterator[bytes],
    *targets: int,
    failed: Callable[[OSError], None] = lambda error: None,
    **arguments: Any,
) -> dict[str, Any]:
    """The same, but an OSError of the job's is raised as it is, once `failed` has heard of it."""
    with contextlib.closing(Sender()) as ring:
        task = asyncio.ensure_future(workers.run(job, [*ring.fds, *targets], **arguments))
        try:
            await _pour(body, ring, task)
            ring.end()
            return await _result(task, failed)
        except BaseException:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise


async def _result(job: "asyncio.Future[dict[str, Any]]", failed: Callable[[OSError], None]) -> dict[str, Any]:
    try:
        return await job
    except OSError as error:
        failed(error)
        raise


async def _pour(body: AsyncIterator[bytes], ring: Sender, job: "asyncio.Future[Any]") -> None:
    """Puts the body in until it ends or the job does: a job that gave up early has its failure to tell."""
    async for chunk in body:
        view = memoryview(chunk)
        while view:
            if job.done():
                return
            taken = ring.put(view)
            view = view[taken:]
            if not taken:
                await _room(ring, job)


async def _room(ring: Sender, job: "asyncio.Future[Any]") -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(ring.freed, _resolve, ready)
    try:
        await asyncio.wait({ready, job}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(ring.freed)


def _resolve(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
