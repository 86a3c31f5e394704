"""The ring of events, subscriptions and their filters."""

import time
from typing import Any

import pytest

from compat_engine.engine.events import REMEMBERED, Events, Subscription, matches

NAMED = {"name": "web", "image": "busybox:latest", "tier": "front"}


async def collect(subscription: Subscription) -> list[str]:
    return [event["Action"] async for event in subscription]


def seconds_ago(seconds: float) -> int:
    return time.time_ns() - int(seconds * 1e9)


async def test_the_past_then_the_present_until_the_end() -> None:
    events = Events()
    events.publish("container", "create", "c", {})
    with events.subscribe(since=seconds_ago(5), until=seconds_ago(-1)) as subscription:
        events.publish("container", "start", "c", {})
        assert await collect(subscription) == ["create", "start"]
    assert events.listeners == 0


async def test_without_since_only_what_comes() -> None:
    events = Events()
    events.publish("container", "create", "c", {})
    with events.subscribe() as subscription:
        events.publish("container", "start", "c", {})
        assert (await anext(subscription))["Action"] == "start"


async def test_until_in_the_past_ends_at_once() -> None:
    events = Events()
    events.publish("container", "create", "c", {})
    assert await collect(events.subscribe(until=seconds_ago(60))) == []
    assert await collect(events.subscribe(until=seconds_ago(-0.01))) == ["create"]


async def test_the_ring_forgets_the_oldest() -> None:
    events = Events()
    for number in range(REMEMBERED + 10):
        events.publish("volume", str(number), "v", {})
    found = await collect(events.subscribe(since=1, until=seconds_ago(-0.01)))
    assert (len(found), found[0]) == (REMEMBERED, "10")


async def test_a_slow_reader_loses_events_and_holds_nobody_back() -> None:
    events = Events()
    with events.subscribe() as subscription:
        for _ in range(10_000):
            events.publish("volume", "create", "v", {})
        assert len(subscription._queue) < 5_000


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, True),
        ({"event": ["start", "die"]}, False),
        ({"event": ["exec_create"]}, True),
        ({"event": ["exec_create: ls "]}, True),
        ({"type": ["container"]}, True),
        ({"type": ["image"]}, False),
        ({"container": ["ab"]}, True),
        ({"container": ["web"]}, True),
        ({"container": ["b"]}, False),
        ({"volume": ["web"]}, False),
        ({"image": ["busybox"]}, True),
        ({"image": ["busybox:latest"]}, True),
        ({"image": ["alpine"]}, False),
        ({"label": ["tier"]}, True),
        ({"label": ["tier=front", "tier=back"]}, False),
        ({"scope": ["local"]}, True),
        ({"scope": ["swarm"]}, False),
        ({"nobody-knows": ["x"]}, True),
    ],
)
async def test_filters(filters: dict[str, Any], expected: bool) -> None:
    events = Events()
    events.publish("container", "exec_create: ls ", "abcd", NAMED)
    assert matches(events._ring[0], filters) is expected


def test_the_old_fields() -> None:
    events = Events()
    events.publish("container", "start", "c", {"image": "busybox"})
    events.publish("network", "connect", "n", {})
    first, second = events._ring
    assert list(first)[:3] == ["status", "id", "from"]
    assert "status" not in second
