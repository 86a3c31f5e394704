"""When to try again: passing failures, with growing pauses the client sees counted down."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from compat_engine.images.registry.failures import FAILURES, Failure, NoCredentials, Refused

T = TypeVar("T")

PAUSE = 5.0  # seconds, times the number of failures, as Docker's engine does
_LONGEST = 60.0


class Attempts:
    """The failures of one transfer. limit: how many attempts it gets; pause: seconds after the first failure."""

    def __init__(self, limit: int, say: Callable[[str], None], pause: float = PAUSE) -> None:
        self._failed = 0
        self._limit = limit
        self._say = say
        self._pause = pause

    def progressed(self) -> None:
        """What came since the last failure is worth a new beginning: the line works."""
        self._failed = 0

    async def failed(self, failure: Failure) -> None:
        """Returns when it is time for the next attempt. Raises `failure` when there is none."""
        if isinstance(failure, NoCredentials) or (isinstance(failure, Refused) and not failure.passing):
            _raise(failure)
        self._failed += 1
        if self._failed >= self._limit:
            _raise(failure)
        await self._wait(min(max(self._failed * self._pause, failure.retry_after), _LONGEST))

    async def _wait(self, seconds: float) -> None:
        while seconds > 0:
            whole = max(round(seconds), 1)
            self._say(f"Retrying in {whole} second{'' if whole == 1 else 's'}")
            await asyncio.sleep(min(seconds, 1))
            seconds -= 1


async def retried(work: Callable[[], Awaitable[T]], limit: int, pause: float) -> T:
    """The result of something small, tried again without a word to the client. Raises its last failure."""
    attempts = Attempts(limit, lambda text: None, pause)
    while True:
        try:
            return await work()
        except FAILURES as failure:
            await attempts.failed(failure)


def _raise(failure: Failure) -> NoReturn:
    raise failure
