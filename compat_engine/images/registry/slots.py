"""How many of one kind of work go on at once, where the limit may change meanwhile."""

import asyncio
from collections.abc import Callable


class Slots:
    """`async with` one. limit: asked whenever somebody enters."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self._used = 0
        self._freed = asyncio.Event()

    def locked(self) -> bool:
        """Whether entering would wait."""
        return self._used >= self._limit()

    async def __aenter__(self) -> None:
        while self.locked():
            await self._freed.wait()
        self._used += 1

    async def __aexit__(self, *_: object) -> None:
        self._used -= 1
        self._freed.set()  # all who wait look again, the first comer first
        self._freed.clear()
