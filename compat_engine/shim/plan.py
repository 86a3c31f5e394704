"""The part of a spec that the shim itself obeys. Everything else is read by init, which is gone at execve: what a shim does not
touch it does not keep in memory, and there is a shim for every container."""

from dataclasses import dataclass
from typing import Any

from compat_engine.shim.channel import decode
from compat_engine.shim.spec import SHIM_FIRST, CgroupDir, Log, load_cgroups


@dataclass(frozen=True, slots=True)
class Stream:
    """What of a process (spec.Process) concerns its stdio."""

    tty: bool
    open_stdin: bool
    stdin_once: bool

    @classmethod
    def of(cls, process: dict[str, Any]) -> "Stream":
        return cls(process["tty"], process["open_stdin"], process["stdin_once"])


@dataclass(frozen=True, slots=True)
class Plan:
    """The names are those of spec.Spec."""

    stream: Stream
    log: Log
    pid_namespace: str
    net_namespace: str
    cgroups: tuple[CgroupDir, ...]

    @property
    def directories(self) -> list[str]:
        """The cgroups' paths."""
        return [item.path for item in self.cgroups]

    @classmethod
    def load(cls, text: bytes) -> "Plan":
        """Of a spec as Spec.dump makes it, or its first line. Raises ValueError, KeyError, TypeError."""
        raw = decode(text.decode(), len(SHIM_FIRST))
        cgroups = load_cgroups(raw["cgroups"])
        return cls(Stream.of(raw), Log(**raw["log"]), raw["pid_namespace"], raw["net_namespace"], cgroups)
