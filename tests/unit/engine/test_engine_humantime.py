import pytest

from compat_engine.engine.clock import rfc3339nano
from compat_engine.engine.humantime import human_duration, seconds_of, status_text
from compat_engine.engine.records import RunState

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (3 * MINUTE, "3 minutes"),
        (59 * MINUTE + 59, "59 minutes"),
        (HOUR, "About an hour"),
        (1.6 * HOUR, "2 hours"),
        (47 * HOUR, "47 hours"),
        (2 * DAY, "2 days"),
        (13 * DAY, "13 days"),
        (14 * DAY, "2 weeks"),
        (59 * DAY, "8 weeks"),
        (61 * DAY, "2 months"),
        (729 * DAY, "24 months"),
        (731 * DAY, "2 years"),
    ],
)
def test_durations_are_docker_s(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_status_texts() -> None:
    now = 1_795_502_464.5
    ago = rfc3339nano(int((now - 200) * 1e9))
    up = RunState(started_at=ago)
    assert status_text(RunState(), "", now) == "Created"
    assert status_text(up.to("running"), "", now) == "Up 3 minutes"
    assert status_text(up.to("running"), "starting", now) == "Up 3 minutes (health: starting)"
    assert status_text(up.to("running"), "unhealthy", now) == "Up 3 minutes (unhealthy)"
    assert status_text(up.to("paused"), "healthy", now) == "Up 3 minutes (Paused)"
    assert status_text(up.to("restarting", exit_code=1, finished_at=ago), "", now) == "Restarting (1) 3 minutes ago"
    assert status_text(up.to("exited", exit_code=137, finished_at=ago), "", now) == "Exited (137) 3 minutes ago"
    assert status_text(up.to("removing"), "", now) == "Removal In Progress"
    assert status_text(up.to("dead"), "", now) == "Dead"


def test_seconds_of_any_precision() -> None:
    assert seconds_of("2026-11-24T06:41:04Z") == 1795502464
    assert seconds_of("2026-11-24T06:41:04.5Z") == 1795502464.5
    assert abs(seconds_of("2026-11-24T06:41:04.412771141Z") - 1795502464.412771141) < 1e-6
