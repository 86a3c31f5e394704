"""A small event loop: descriptors, timers, nothing else."""

import select
import time
from collections.abc import Callable

IN, OUT = select.EPOLLIN, select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLERR  # always reported, whatever was asked for

Handler = Callable[[int], None]


class Loop:
    """Handlers are called with the events seen. A handler may add and remove any descriptor, its own too."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: dict[int, tuple[float, Callable[[], None]]] = {}
        self._next_timer = 0
        self.stopped = False

    def add(self, fd: int, events: int, handler: Handler) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def modify(self, fd: int, events: int) -> None:
        """One that is not there is no error."""
        if fd in self._handlers:
            self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Must come before the descriptor is closed; one that is not there is no error."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def after(self, seconds: float, call: Callable[[], None]) -> int:
        """Call once, later; the handle is for `cancel`."""
        self._next_timer += 1
        self._timers[self._next_timer] = (time.monotonic() + seconds, call)
        return self._next_timer

    def cancel(self, timer: int) -> None:
        self._timers.pop(timer, None)

    def stop(self) -> None:
        self.stopped = True

    def run(self) -> None:
        while not self.stopped:
            for fd, events in self._epoll.poll(self._wait()):
                handler = self._handlers.get(fd)
                if handler is not None:
                    handler(events)
            self._fire()

    def _wait(self) -> float:
        if not self._timers:
            return -1
        return max(0.0, min(due for due, _ in self._timers.values()) - time.monotonic())

    def _fire(self) -> None:
        if not self._timers:
            return
        now = time.monotonic()
        for timer, (due, call) in sorted(self._timers.items()):
            if due <= now and self._timers.pop(timer, None) is not None:
                call()
