"""Two ways to wait for several things without leaving any of them behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """`work`, run to its end even when the waiter is cancelled; the cancellation comes after it."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # seen: the waiter learns of its cancellation instead
        raise cancelled
    return task.result()


async def together(works: list[Coroutine[Any, Any, T]]) -> list[T]:
    """All results; the first failure cancels the others and is raised when they have ended."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def narrated(work: Callable[[Callable[[T], None]], Awaitable[None]]) -> AsyncIterator[T]:
    """What `work(say)` says while it runs; its failure is raised at the end. Closing the iterator cancels it and waits."""
    said: asyncio.Queue[T | None] = asyncio.Queue()

    async def run() -> None:
        try:
            await work(said.put_nowait)
        finally:
            said.put_nowait(None)

    task = asyncio.ensure_future(run())
    try:
        while (item := await said.get()) is not None:
            yield item
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
