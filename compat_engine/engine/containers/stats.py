"""GET /containers/{id}/stats: the kernel's counters in Docker's shape, two samples each so that a client can show rates."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from compat_engine.engine.clock import rfc3339nano
from compat_engine.engine.parts import Engine
from compat_engine.engine.records import ZERO_TIME
from compat_engine.engine.registry import Container
from compat_engine.runtime.cgroups.stats import Operations, Usage
from compat_engine.runtime.protocol import NotRunning

PERIOD = 1.0  # seconds between two samples
_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")  # nanoseconds
_FIELDS = ("rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped")
_COLUMNS = (0, 1, 2, 3, 8, 9, 10, 11)  # of these in /proc/net/dev
_NO_CPU: dict[str, Any] = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}
_BLKIO = ("io_service_bytes", "io_serviced", "io_queue", "io_service_time", "io_wait_time", "io_merged", "io_time", "sectors")


async def open(engine: Engine, word: str, stream: bool, one_shot: bool) -> AsyncIterator[dict[str, Any]]:
    """One document a second, or a single one: after two samples, unless one_shot. Raises NotFound at once."""
    container = engine.containers.find(word)
    return _samples(engine, container, stream, one_shot)


async def _samples(engine: Engine, container: Container, stream: bool, one_shot: bool) -> AsyncIterator[dict[str, Any]]:
    before: dict[str, Any] = {"read": ZERO_TIME, "cpu_stats": _NO_CPU}
    if not stream and not one_shot and container.state.status == "running":
        before = await _sample(engine, container)
        await asyncio.sleep(PERIOD)
    while engine.containers.get(container.id):
        now = await _sample(engine, container)
        yield {**now, "preread": before["read"], "precpu_stats": before["cpu_stats"]}
        if not stream:
            return
        before = now
        await asyncio.sleep(PERIOD)


async def _sample(engine: Engine, container: Container) -> dict[str, Any]:
    """A container that does not run has zeros, and no time it was read at."""
    identity = {"name": f"/{container.name}", "id": container.id, "num_procs": 0, "storage_stats": {}}
    if container.state.status not in ("running", "paused"):
        return {"read": ZERO_TIME, **identity, **_nothing()}
    try:
        usage = await engine.runtime.usage(container.id)
        return {"read": rfc3339nano(), **identity, **_numbers(usage), **_networks(engine, container)}
    except (NotRunning, FileNotFoundError, ProcessLookupError):  # it ended just now
        return {"read": ZERO_TIME, **identity, **_nothing()}


def _nothing() -> dict[str, Any]:
    blkio = {f"{name}_recursive": None for name in _BLKIO}
    return {"pids_stats": {}, "blkio_stats": blkio, "cpu_stats": _NO_CPU, "memory_stats": {}}


def _numbers(usage: Usage) -> dict[str, Any]:
    return {
        "pids_stats": {"current": usage.pids, **({"limit": usage.pids_limit} if usage.pids_limit else {})},
        "blkio_stats": {
            **{f"{name}_recursive": [] for name in _BLKIO},
            "io_service_bytes_recursive": _operations(usage.io_bytes),
            "io_serviced_recursive": _operations(usage.io_operations),
        },
        "cpu_stats": {
            "cpu_usage": {
                "total_usage": usage.cpu_total,
                **({"percpu_usage": list(usage.cpu_each)} if usage.cpu_each else {}),
                "usage_in_kernelmode": usage.cpu_kernel,
                "usage_in_usermode": usage.cpu_user,
            },
            "system_cpu_usage": _system_time(Path("/proc/stat").read_text(encoding="ascii")),
            "online_cpus": os.cpu_count() or 1,
            "throttling_data": {
                "periods": usage.periods,
                "throttled_periods": usage.throttled_periods,
                "throttled_time": usage.throttled_time,
            },
        },
        "memory_stats": {
            "usage": usage.memory_usage,
            **({"max_usage": usage.memory_max} if usage.memory_max else {}),
            **({"failcnt": usage.memory_failures} if usage.memory_failures else {}),
            "stats": usage.memory_stats,
            "limit": usage.memory_limit if usage.memory_limit >= 0 else _host_memory(),
        },
    }


def _operations(found: Iterable[Operations]) -> list[dict[str, Any]]:
    return [{"major": item.major, "minor": item.minor, "op": item.op, "value": item.value} for item in found]


def _system_time(stat: str) -> int:
    """Nanoseconds all CPUs together have spent in any state: user to softirq and steal, as dockerd adds them up."""
    return sum(int(word) for word in stat.split("\n", 1)[0].split()[1:8]) * _TICK


def _host_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _networks(engine: Engine, container: Container) -> dict[str, Any]:
    """Counters of the container's own interfaces; nothing where it shares a network namespace."""
    interfaces = {endpoint.interface for endpoint in engine.networks.endpoints(container.id).values()} - {""}
    if not interfaces:
        return {}
    text = Path(f"/proc/{container.state.pid}/net/dev").read_text(encoding="ascii")
    return {"networks": {name: counters for name, counters in interface_counters(text) if name in interfaces}}


def interface_counters(text: str) -> Iterable[tuple[str, dict[str, int]]]:
    """(interface, Docker's counters) of a text as of /proc/net/dev."""
    for line in text.splitlines()[2:]:
        name, _, numbers = line.partition(":")
        words = numbers.split()
        yield name.strip(), {field: int(words[column]) for field, column in zip(_FIELDS, _COLUMNS, strict=True)}
