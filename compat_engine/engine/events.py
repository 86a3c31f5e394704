"""What happened, told to whoever listens: a ring of the last events and live subscriptions (GET /events)."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

log = logging.getLogger(__name__)

REMEMBERED: Final = 256
_BACKLOG: Final = 4096  # events a slow reader may be behind before it loses some
_PREFIXED: Final = ("exec_create", "exec_start", "health_status")  # actions that carry more after a colon
_BY_ACTOR: Final = ("container", "volume", "network", "daemon", "plugin", "builder", "node", "service", "secret", "config")

Event = Mapping[str, Any]
"""As it travels: Type, Action, Actor {ID, Attributes}, scope, time (seconds), timeNano; old: status, id, from. Never edited."""
Filters = Mapping[str, Sequence[str]]


class Events:
    """One per daemon; everything in it runs on the event loop's thread."""

    def __init__(self) -> None:
        self._ring: deque[Event] = deque(maxlen=REMEMBERED)
        self._subscriptions: set[Subscription] = set()

    @property
    def listeners(self) -> int:
        return len(self._subscriptions)

    def publish(self, kind: str, action: str, id: str, attributes: Mapping[str, str]) -> None:
        """kind: container, image, volume, network, daemon, builder. Never waits, never fails."""
        event = _event(kind, action, id, attributes, time.time_ns())
        self._ring.append(event)
        for subscription in self._subscriptions:
            subscription.offer(event)

    def subscribe(self, filters: Filters | None = None, since: int | None = None, until: int | None = None) -> "Subscription":
        """From now on nothing is missed, also before the iteration begins. Times are nanoseconds since the epoch.

        With `since` or `until` the remembered events between them come first; the iteration ends at `until`.
        """
        remembered = [event for event in self._ring if _between(event, since, until)] if since or until else []
        subscription = Subscription(filters or {}, until, self._subscriptions)
        for event in remembered:
            subscription.offer(event)
        return subscription


class Subscription:
    """Iterate with `async for`; leave by `close`, or use as a context manager."""

    def __init__(self, filters: Filters, until: int | None, registered: "set[Subscription]") -> None:
        self._filters = {name: values for name, values in filters.items() if values}
        self._until = until
        self._registered = registered
        self._queue: deque[Event] = deque()
        self._filled = asyncio.Event()
        self._lost = 0
        registered.add(self)

    def offer(self, event: Event) -> None:
        """Queue it if it is asked for; a reader that is too far behind loses it."""
        if self._until is not None and event["timeNano"] > self._until:
            return
        if not matches(event, self._filters):
            return
        if len(self._queue) >= _BACKLOG:
            self._lost += 1
            if self._lost == 1:
                log.warning("a reader of events is %d behind and loses events", _BACKLOG)
            return
        self._queue.append(event)
        self._filled.set()

    def close(self) -> None:
        self._registered.discard(self)

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Event:
        while not self._queue:
            self._filled.clear()
            if not await self._more():
                raise StopAsyncIteration
        return self._queue.popleft()

    async def _more(self) -> bool:
        """False once `until` has passed."""
        if self._until is None:
            return await self._filled.wait()
        try:
            return await asyncio.wait_for(self._filled.wait(), max(0.0, (self._until - time.time_ns()) / 1e9))
        except TimeoutError:
            return bool(self._queue)


def matches(event: Event, filters: Filters) -> bool:
    """Every filter must match by one of its values. Keys nobody knows match everything, as in dockerd."""
    return all(_matches(event, name, values) for name, values in filters.items())


def _matches(event: Event, name: str, values: Sequence[str]) -> bool:
    actor = event["Actor"]
    attributes: Mapping[str, str] = actor["Attributes"]
    if name == "event":
        return any(_same_action(event["Action"], value) for value in values)
    if name == "type":
        return event["Type"] in values
    if name == "scope":
        return event["scope"] in values
    if name == "label":
        return all(_labelled(attributes, value) for value in values)
    if name == "image":
        return any(word in values for word in _image_words(event))
    if name in _BY_ACTOR:
        return event["Type"] == name and any(
            actor["ID"].startswith(value) or attributes.get("name", "").startswith(value) for value in values
        )
    return True


def _same_action(action: str, asked: str) -> bool:
    return action == asked or (asked in _PREFIXED and action.startswith(f"{asked}:"))


def _labelled(attributes: Mapping[str, str], asked: str) -> bool:
    key, has_value, value = asked.partition("=")
    return key in attributes and (not has_value or attributes[key] == value)


def _image_words(event: Event) -> set[str]:
    """What an image filter may say of this event: the image's id, its reference, and either without the tag."""
    attributes = event["Actor"]["Attributes"]
    if event["Type"] == "container":
        words = {attributes.get("image", "")}
    elif event["Type"] == "image":
        words = {event["Actor"]["ID"], attributes.get("name", "")}
    else:
        return set()
    return words | {_without_tag(word) for word in words}


def _without_tag(reference: str) -> str:
    head, _, tail = reference.rpartition(":")
    return head if head and "/" not in tail else reference


def _between(event: Event, since: int | None, until: int | None) -> bool:
    return (since is None or event["timeNano"] >= since) and (until is None or event["timeNano"] <= until)


def _event(kind: str, action: str, id: str, attributes: Mapping[str, str], now: int) -> Event:
    old = {"status": action, "id": id} if kind in ("container", "image") else {}
    if kind == "container" and attributes.get("image"):
        old["from"] = attributes["image"]
    return {
        **old,
        "Type": kind,
        "Action": action,
        "Actor": {"ID": id, "Attributes": dict(sorted(attributes.items()))},
        "scope": "local",
        "time": now // 1_000_000_000,
        "timeNano": now,
    }
