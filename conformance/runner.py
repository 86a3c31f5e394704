"""Runs checks against an engine: picks the API versions, keeps failures apart, removes what was made."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

from .assertions import CheckFailed, Skipped, Unsupported
from .client import Client
from .engine import Engine, Setup
from .registry import Check, Version, parse_version


class Verdict(Enum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one check under one API version (``version`` is empty when it never ran)."""

    check: Check
    version: str
    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions an engine takes, and those asked for (none: each check's newest)."""

    oldest: Version
    newest: Version
    asked: tuple[Version, ...] = ()

    @classmethod
    def of(cls, client: Client, asked: Sequence[str] = ()) -> Versions:
        """Ask the engine; versions newer than it advertises count when it takes them nevertheless."""
        answer = client.get("/version").json()
        oldest, newest = parse_version(answer.get("MinAPIVersion", "1.24")), parse_version(answer["ApiVersion"])
        for text in asked:
            beyond = Client(client.address, text)
            if parse_version(text) > newest and beyond.get("/_ping").status == 200:
                newest = parse_version(text)
        return cls(oldest, newest, tuple(map(parse_version, asked)))

    def choose(self, check: Check) -> tuple[list[Version], str]:
        """The versions to run a check with, or none and the reason."""
        if check.since > self.newest:
            return [], f"needs API {text_of(check.since)}, the engine takes up to {text_of(self.newest)}"
        if check.until < self.oldest:
            return [], f"holds up to API {text_of(check.until)}, the engine takes from {text_of(self.oldest)}"
        if not self.asked:
            return [min(check.until, self.newest)], ""
        chosen = [v for v in self.asked if check.holds_for(v) and self.oldest <= v <= self.newest]
        return chosen, "" if chosen else "holds for none of the versions asked for that the engine takes"


def text_of(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def run_check(check: Check, version: Version, client: Client, setup: Setup) -> Outcome:
    """Run one check; whatever it raises becomes a verdict, and what it made is removed."""
    started = time.monotonic()
    engine = Engine(Client(client.address, text_of(version), client.timeout), setup)
    verdict, reason = _verdict(check, engine)
    complaints = _clean_up(engine)
    if complaints and verdict is Verdict.PASSED:
        verdict, reason = Verdict.FAILED, "left behind: " + "; ".join(complaints)
    return Outcome(check, text_of(version), verdict, reason, time.monotonic() - started)


def _verdict(check: Check, engine: Engine) -> tuple[Verdict, str]:
    try:
        check.body(engine)
    except Skipped as reason:
        return Verdict.SKIPPED, str(reason)
    except Unsupported as refusal:
        allowed = engine.setup.allow_unsupported
        return Verdict.SKIPPED if allowed else Verdict.FAILED, f"{refusal} ({_place(refusal)})"
    except CheckFailed as failure:
        return Verdict.FAILED, f"{failure} ({_place(failure)})"
    except Exception as error:
        return Verdict.FAILED, f"{type(error).__name__}: {error} ({_place(error)})"
    return Verdict.PASSED, ""


def _clean_up(engine: Engine) -> list[str]:
    try:
        return engine.clean_up()
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]


def _place(error: BaseException) -> str:
    """Where in a check's own file the failure arose."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "checks" in frame.filename] or frames[-1:]
    return f"{own[-1].filename.rpartition('/')[2]}:{own[-1].lineno}"


def run_all(
    checks: Iterable[Check], versions: Versions, client: Client, setup: Setup, jobs: int, report: Callable[[Outcome], None]
) -> list[Outcome]:
    """Run the checks, ``jobs`` at a time, those marked alone by themselves at the end; ``report`` sees each outcome."""
    outcomes: list[Outcome] = []
    together: list[tuple[Check, Version]] = []
    alone: list[tuple[Check, Version]] = []
    for check in checks:
        chosen, reason = versions.choose(check)
        if not chosen:
            outcomes.append(Outcome(check, "", Verdict.SKIPPED, reason))
        (alone if check.alone else together).extend((check, version) for version in chosen)

    def run(item: tuple[Check, Version]) -> None:
        outcome = run_check(*item, client, setup)
        outcomes.append(outcome)
        report(outcome)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, together))
    for item in alone:
        run(item)
    return outcomes
