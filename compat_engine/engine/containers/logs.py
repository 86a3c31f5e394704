"""GET /containers/{id}/logs."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

from compat_engine.engine.parts import Engine
from compat_engine.errors import InvalidParameter, NotImplementedHere
from compat_engine.logs.query import LogQuery as LogQuery
from compat_engine.logs.read import DRIVERS, read
from compat_engine.runtime.protocol import NotRunning


@dataclass(frozen=True, slots=True)
class Logs:
    """frames: stdcopy frames, or bare lines when `tty`; many in each chunk."""

    tty: bool
    frames: AsyncIterator[bytes]


async def open(engine: Engine, word: str, query: LogQuery) -> Logs:
    """Raises NotFound, InvalidParameter when no stream is asked for, NotImplementedHere when the log driver keeps nothing."""
    if not (query.stdout or query.stderr):
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    container = engine.containers.find(word)
    driver = container.record.host_config.LogConfig.Type
    if driver not in DRIVERS:
        raise NotImplementedHere("configured logging driver does not support reading")

    async def watch() -> int:
        if container.state.status in ("running", "paused"):
            with suppress(NotRunning):  # it has just ended: what is there is all there will be
                return await engine.runtime.watch(container.id)
        return -1

    tty = container.record.config.Tty
    return Logs(tty, read(engine.tree.log(container.id, driver), query, tty, watch, driver))
