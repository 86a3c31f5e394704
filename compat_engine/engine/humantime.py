"""Durations and states in the words `docker ps` shows; scripts read them, so every word is Docker's."""

from datetime import datetime

from compat_engine.engine.records import ZERO_TIME, RunState


def human_duration(seconds: float) -> str:
    """Roughly how long, as Docker says it: "About an hour", "3 weeks"."""
    whole = int(seconds)
    minutes, hours = whole // 60, int(seconds / 3600 + 0.5)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    for limit, unit, name in ((48, 1, "hours"), (24 * 14, 24, "days"), (24 * 60, 168, "weeks"), (24 * 730, 720, "months")):
        if hours < limit:
            return f"{hours // unit} {name}"
    return f"{whole // (24 * 365 * 3600)} years"


def status_text(state: RunState, health: str, now: float) -> str:
    """The STATUS column. health: "", starting, healthy or unhealthy; now: seconds since the epoch."""
    status = state.status
    if status == "removing":
        return "Removal In Progress"
    if status == "dead":
        return "Dead"
    if status == "restarting":
        return f"Restarting ({state.exit_code}) {_since(state.finished_at, now)} ago"
    if status in ("running", "paused"):
        return f"Up {_since(state.started_at, now)}{_note(status, health)}"
    if state.started_at == ZERO_TIME:
        return "Created"
    return f"Exited ({state.exit_code}) {_since(state.finished_at, now)} ago" if state.finished_at != ZERO_TIME else ""


def seconds_of(time: str) -> float:
    """RFC 3339, with any number of decimals, as seconds since the epoch."""
    whole, _, fraction = time.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")


def _note(status: str, health: str) -> str:
    if status == "paused":
        return " (Paused)"
    if not health or health == "none":
        return ""
    return f" ({'health: starting' if health == 'starting' else health})"


def _since(time: str, now: float) -> str:
    return human_duration(max(now - seconds_of(time), 0))
