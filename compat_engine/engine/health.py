"""Health checks: one task a container probes it by exec while it runs (Docker's HEALTHCHECK and --health-*)."""

import asyncio
import logging
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compat_engine.engine import execs
from compat_engine.engine.clock import rfc3339nano
from compat_engine.engine.containers.create import attributes
from compat_engine.engine.parts import Engine
from compat_engine.engine.registry import Container
from compat_engine.errors import EngineError
from compat_engine.wire.container import Config, HealthConfig
from compat_engine.wire.exec import ExecCreate, ExecStart

log = logging.getLogger(__name__)
INTERVAL, TIMEOUT, START_INTERVAL, RETRIES = 30.0, 30.0, 5.0, 3  # seconds; what 0 in the configuration means
KEPT, OUTPUT = 5, 4096  # results, bytes of each
STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"


@dataclass(frozen=True, slots=True)
class Probe:
    """One result. exit_code -1: it did not end in time, or could not be run."""

    start: str
    end: str
    exit_code: int
    output: str

    def view(self) -> dict[str, Any]:
        return {"Start": self.start, "End": self.end, "ExitCode": self.exit_code, "Output": self.output}


@dataclass(frozen=True, slots=True)
class Health:
    """State.Health of inspect."""

    status: str = STARTING
    failing_streak: int = 0
    probes: tuple[Probe, ...] = ()

    def after(self, probe: Probe, retries: int, in_start_period: bool) -> "Health":
        """Failures while it starts up count for nothing until it has been healthy once."""
        probes = (*self.probes, probe)[-KEPT:]
        if probe.exit_code == 0:
            return Health(HEALTHY, 0, probes)
        if in_start_period and self.status == STARTING:
            return Health(STARTING, self.failing_streak, probes)
        streak = self.failing_streak + 1
        return Health(UNHEALTHY if streak >= retries else self.status, streak, probes)

    def view(self) -> dict[str, Any]:
        return {"Status": self.status, "FailingStreak": self.failing_streak, "Log": [probe.view() for probe in self.probes]}


def command(config: Config) -> list[str]:
    """The probe's command line; [] when there is no check."""
    test = list((config.Healthcheck.Test if config.Healthcheck else None) or ())
    if test[:1] == ["CMD"]:
        return test[1:]
    if test[:1] == ["CMD-SHELL"]:
        return [*(config.Shell or ("/bin/sh", "-c")), *test[1:]]
    return []


def watch(engine: Engine, container: Container) -> None:
    """The container has started (or was adopted): probe it from now on."""
    unwatch(container)
    check = container.record.config.Healthcheck
    words = command(container.record.config)
    if check and words:
        container.prober = asyncio.get_running_loop().create_task(_probe_on(engine, container, check, words))


def unwatch(container: Container) -> None:
    """It has ended; its last health stays to be seen."""
    if container.prober:
        container.prober.cancel()
        container.prober = None


async def _probe_on(engine: Engine, container: Container, check: HealthConfig, words: Sequence[str]) -> None:
    begun, start_period = time.monotonic(), check.StartPeriod / 1e9
    health = container.health = Health()
    while True:
        starting = health.status == STARTING and time.monotonic() - begun < start_period
        await asyncio.sleep((check.StartInterval / 1e9 or START_INTERVAL) if starting else (check.Interval / 1e9 or INTERVAL))
        if container.state.status != "running":
            continue  # paused
        probe = await _probe(engine, container, words, check.Timeout / 1e9 or TIMEOUT)
        in_start_period = time.monotonic() - begun < start_period
        before, health = health.status, health.after(probe, check.Retries or RETRIES, in_start_period)
        container.health = health
        if health.status != before:
            engine.events.publish("container", f"health_status: {health.status}", container.id, attributes(container.record))


async def _probe(engine: Engine, container: Container, words: Sequence[str], timeout: float) -> Probe:
    start, output, id = rfc3339nano(), _Output(), ""
    try:
        request = ExecCreate(Cmd=list(words), AttachStdout=True, AttachStderr=True)
        id = await execs.create(engine, container.id, request)
        session = await execs.open(engine, id, ExecStart())
        await asyncio.wait_for(session.run(output), timeout)
        code = engine.execs.find(id).exit_code
        return Probe(start, rfc3339nano(), -1 if code is None else code, output.text())
    except TimeoutError:
        await _kill(engine, container, id)
        return Probe(start, rfc3339nano(), -1, f"Health check exceeded timeout ({timeout:g}s): {output.text()}")
    except EngineError as error:
        return Probe(start, rfc3339nano(), -1, str(error))


async def _kill(engine: Engine, container: Container, exec_id: str) -> None:
    try:
        await engine.runtime.signal(container.id, signal.SIGKILL, exec_id)
    except EngineError as error:
        log.debug("a health check of %s ended by itself: %s", container.id, error)


class _Output:
    """Takes a probe's stdcopy frames in place of a client."""

    def __init__(self) -> None:
        self._data = b""
        self._silent = asyncio.Event()

    async def read(self) -> bytes:
        await self._silent.wait()  # a client that says nothing and stays
        return b""

    async def write(self, data: bytes) -> None:
        if len(self._data) < 4 * OUTPUT:
            self._data += data

    async def close_write(self) -> None:
        self._silent.set()

    def text(self) -> str:
        found, rest = b"", self._data
        while len(rest) > 8:
            size = int.from_bytes(rest[4:8], "big")
            found, rest = found + rest[8 : 8 + size], rest[8 + size :]
        return found[:OUTPUT].decode(errors="replace")
