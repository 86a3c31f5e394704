"""The report at the end of a run: by endpoint and API version, with a reason for all that did not pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .runner import Outcome, Verdict


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """One line for each endpoint and API version."""
    counts: dict[tuple[str, str], Counter[Verdict]] = {}
    for outcome in outcomes:
        counts.setdefault((outcome.check.endpoint, outcome.version or "-"), Counter())[outcome.verdict] += 1
    width = max((len(endpoint) for endpoint, _ in counts), default=8)
    lines = [f"{'endpoint':{width}}  {'API':>5}  passed  failed  skipped"]
    for (endpoint, version), count in sorted(counts.items(), key=lambda item: (_path(item[0][0]), item[0][1])):
        numbers = (count[Verdict.PASSED], count[Verdict.FAILED], count[Verdict.SKIPPED])
        lines.append(f"{endpoint:{width}}  {version:>5}  {numbers[0]:6}  {numbers[1]:6}  {numbers[2]:7}")
    return lines


def reasons(outcomes: Sequence[Outcome], verdict: Verdict) -> list[str]:
    chosen = sorted((o for o in outcomes if o.verdict is verdict), key=lambda o: (o.check.name, o.version))
    return [f"{verdict.name} {line(outcome)}" for outcome in chosen]


def line(outcome: Outcome) -> str:
    version = f" (API {outcome.version})" if outcome.version else ""
    reason = f": {outcome.reason}" if outcome.reason else ""
    return f"{outcome.check.endpoint} {outcome.check.name}{version}{reason}"


def closing(outcomes: Sequence[Outcome]) -> str:
    count = Counter(outcome.verdict for outcome in outcomes)
    return f"{count[Verdict.PASSED]} passed, {count[Verdict.FAILED]} failed, {count[Verdict.SKIPPED]} skipped"


def _path(endpoint: str) -> tuple[str, str]:
    method, _, path = endpoint.partition(" ")
    return path, method
