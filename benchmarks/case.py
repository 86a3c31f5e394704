"""What a case is, and the measurement most cases are: the time of one docker command."""

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.peer import Peer


def nothing(peer: Peer) -> None:
    del peer


@dataclass(frozen=True)
class Case:
    """`goals`: the ratio ours/theirs to stay below (above where more is better), by kind of peer; "" is a limit for ours."""

    unit: str
    measure: Callable[[Peer], float]
    prepare: Callable[[Peer], None] = nothing
    rounds: int = 0  # 0: as many as asked for; else at most these, as one is long or all are alike
    more_is_better: bool = False
    goals: dict[str, float] = field(default_factory=dict)


def command(*args: str) -> Callable[[Peer], float]:
    """ms of a docker command; {words} in it are what the set-up kept."""
    return lambda peer: peer.seconds(*(arg.format_map(peer.kept) for arg in args)) * 1000
