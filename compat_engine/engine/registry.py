"""The containers this daemon knows. Readers take the two records and never lock; operations take `container.lock`."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from compat_engine.engine.records import ContainerRecord, Link, RunState
from compat_engine.errors import Conflict
from compat_engine.ids import by_prefix
from compat_engine.runtime.protocol import Streams
from compat_engine.store.records import Delete, Put, Records

if TYPE_CHECKING:
    from compat_engine.engine.health import Health

CONTAINERS, STATES = "containers", "states"


@dataclass(frozen=True, slots=True)
class Ended:
    """What a waiter learns: the exit code, and an error text when the container could not be run or removed."""

    code: int
    error: str = ""


@dataclass(slots=True)
class Container:
    """A container's two records as they are now, and what only lives in memory. Replaced records, never edited ones."""

    record: ContainerRecord
    state: RunState
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    exit_waiters: list[asyncio.Future[Ended]] = field(default_factory=list)
    removal_waiters: list[asyncio.Future[Ended]] = field(default_factory=list)
    attached: list[tuple[socket.socket, Streams]] = field(default_factory=list)  # shim's ends, waiting for a start
    restart: asyncio.Task[None] | None = None  # sleeping until the next try of a restart policy
    backoff: float = 0.0  # seconds, of the last try
    started: float = 0.0  # monotonic
    health: "Health | None" = None
    prober: asyncio.Task[None] | None = None  # runs the health check while the container runs
    exec_ids: list[str] = field(default_factory=list)
    auto_remove_held: bool = False  # a restart under way: this exit must not remove it
    view: bytes = b""  # cached list entry, cleared by Registry.update

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def name(self) -> str:
        return self.record.name

    async def settled(self) -> None:
        """Wait for a start or an exit being recorded: a client may act on the first output before the start has been answered."""
        if self.lock.locked():
            async with self.lock:
                pass

    def cancel_restart(self) -> None:
        if self.restart:
            self.restart.cancel()
        self.restart = None

    def exited(self) -> asyncio.Future[Ended]:
        """Resolves at the next exit, or removal, after now."""
        return _wait_in(self.exit_waiters)

    def removed(self) -> asyncio.Future[Ended]:
        return _wait_in(self.removal_waiters)

    def announce_exit(self, error: str = "") -> None:
        _resolve(self.exit_waiters, Ended(self.state.exit_code, error))

    def announce_removal(self) -> None:
        self.announce_exit()
        _resolve(self.removal_waiters, Ended(self.state.exit_code))

    def drop_attached(self) -> None:
        """Clients that attached and will see no start: end their streams."""
        for end, _ in self.attached:
            end.close()
        self.attached.clear()


class Registry:
    """All containers by id and name. `update` and `add` write to the disk first, to memory second."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._containers: dict[str, Container] = {}
        self._names: dict[str, str] = {}  # name -> id, also of creations under way
        self._holders: dict[str, dict[str, None]] = {}  # id -> ids of containers that link, or once linked, to it

    async def load(self) -> None:
        states = await self._records.load(STATES)
        for id, document in (await self._records.load(CONTAINERS)).items():
            record = ContainerRecord.load(document)
            self._containers[id] = Container(record, RunState.load(states[id]) if id in states else RunState())
            self._names[record.name] = id
            self._show_links(record)

    def all(self) -> list[Container]:
        return list(self._containers.values())

    def find(self, word: str) -> Container:
        """By full id, name, link ("holder/alias"), or unique prefix of an id, in this order.

        Raises NotFound, InvalidParameter when ambiguous.
        """
        if found := self._containers.get(word) or self._containers.get(self._names.get(word.removeprefix("/"), "")):
            return found
        _, link = self.linked(word)
        if link and link.target in self._containers:
            return self._containers[link.target]
        return self._containers[by_prefix(word, self._containers, f"No such container: {word}")]

    def linked(self, word: str) -> tuple[Container, Link] | tuple[None, None]:
        """The link "holder/alias", and the container that holds it."""
        name, _, alias = word.removeprefix("/").partition("/")
        holder = self._containers.get(self._names.get(name, "")) if alias else None
        link = next((link for link in holder.record.links if link.alias == alias), None) if holder else None
        return (holder, link) if holder and link else (None, None)

    def holders(self, container: Container) -> list[Container]:
        """Those that have a link to it."""
        return [self._containers[id] for id in self._holders.get(container.id, ()) if id in self._containers]

    def names(self, container: Container) -> list[str]:
        """Its own, then those by which others link to it."""
        links = [(holder, link) for holder in self.holders(container) for link in holder.record.links]
        return [container.name, *(f"{holder.name}/{link.alias}" for holder, link in links if link.target == container.id)]

    def get(self, id: str) -> Container | None:
        return self._containers.get(id)

    @contextmanager
    def reserve(self, name: str, id: str) -> Iterator[None]:
        """Hold `name` for `id` while something is created or renamed. Raises Conflict when it is taken."""
        if owner := self._names.get(name):
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{owner}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        self._names[name] = id
        try:
            yield
        except BaseException:
            self._names.pop(name, None)
            raise

    def name_taken(self, name: str) -> bool:
        return name in self._names

    async def add(self, record: ContainerRecord, first: Callable[[], None]) -> Container:
        """The name has been reserved before. first: makes the container's files, as `Records.commit` has it."""
        container = Container(record, RunState())
        changes = Put(CONTAINERS, record.id, record.dump()), Put(STATES, record.id, container.state.dump())
        await self._records.commit(*changes, durable=_durable(record), first=first)
        self._containers[record.id] = container
        self._show_links(record)
        return container

    async def update(self, container: Container, record: ContainerRecord | None = None, state: RunState | None = None) -> None:
        """Replace one or both records."""
        changes = []
        if record:
            changes.append(Put(CONTAINERS, container.id, record.dump()))
        if state:
            changes.append(Put(STATES, container.id, state.dump()))
        await self._records.commit(*changes, durable=_durable(record or container.record))
        if record:
            self._show_links(container.record)
        container.record, container.state = record or container.record, state or container.state
        container.view = b""

    def mark_removing(self, container: Container, state: RunState) -> None:
        """In memory only: after a crash the removal either happened or did not. state: how it ended."""
        container.state = state.to("removing")
        container.view = b""

    async def rename(self, container: Container, name: str) -> None:
        old = container.name
        with self.reserve(name, container.id):
            await self.update(container, record=replace(container.record, name=name))
        self._names.pop(old, None)

    async def erase(self, container: Container) -> None:
        """Its records on the disk; `forget` is for memory. Raises Internal on a full disk."""
        changes = Delete(CONTAINERS, container.id), Delete(STATES, container.id)
        await self._records.commit(*changes, durable=_durable(container.record))

    def forget(self, container: Container) -> None:
        """Nobody finds it any more, and its name is free."""
        self._containers.pop(container.id, None)
        self._names.pop(container.name, None)
        self._holders.pop(container.id, None)
        self._show_links(container.record)

    def _show_links(self, record: ContainerRecord) -> None:
        """They are names of their targets: those are rendered anew."""
        for link in record.links:
            self._holders.setdefault(link.target, {})[record.id] = None
            if target := self._containers.get(link.target):
                target.view = b""

    def running(self, word: str) -> Container:
        """`find`, but raises Conflict when the container has no process."""
        container = self.find(word)
        if container.state.status not in ("running", "paused"):
            raise Conflict(f"container {container.id} is not running")
        return container


def _durable(record: ContainerRecord) -> bool:
    """With --rm nothing of it is there after a loss of power, whichever of its records that takes along."""
    return not record.host_config.AutoRemove


def _wait_in(waiters: list[asyncio.Future[Ended]]) -> asyncio.Future[Ended]:
    future: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
    waiters.append(future)
    # A client that leaves cancels its future; forget it then, or a long-lived container would collect them.
    future.add_done_callback(lambda done: waiters.remove(done) if done in waiters else None)
    return future


def _resolve(waiters: list[asyncio.Future[Ended]], ended: Ended) -> None:
    for future in list(waiters):
        if not future.done():
            future.set_result(ended)
    waiters.clear()
