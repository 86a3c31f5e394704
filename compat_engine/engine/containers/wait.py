"""POST /containers/{id}/wait: what to wait for is settled before the headers go out, so nothing between is missed."""

import asyncio
from dataclasses import dataclass

from compat_engine.engine.parts import Engine
from compat_engine.engine.registry import Ended
from compat_engine.errors import InvalidParameter

CONDITIONS = ("", "not-running", "next-exit", "removed")


@dataclass(frozen=True, slots=True)
class Waiter:
    future: "asyncio.Future[Ended]"

    async def result(self) -> Ended:
        """Cancelling this (the client left) forgets the wait."""
        return await self.future


def open(engine: Engine, word: str, condition: str) -> Waiter:
    """Raises NotFound, InvalidParameter."""
    if condition not in CONDITIONS:
        raise InvalidParameter(f'invalid condition: "{condition}"')
    container = engine.containers.find(word)
    if condition == "removed":
        return Waiter(container.removed())
    if condition == "next-exit" or container.state.running:
        return Waiter(container.exited())
    future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
    future.set_result(Ended(container.state.exit_code, container.state.error))
    return Waiter(future)
