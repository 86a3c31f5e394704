"""Documents in tables of one SQLite file (WAL): what is acknowledged is on the disk, or in the page cache where that is enough.

Whatever may wait for a disk is done by a thread; what only the page cache has to take, and at once, is done where it is asked
for. Callers keep what they loaded in memory and replace it after `commit` has returned: disk first, memory second.
"""

import asyncio
import errno
import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from compat_engine.errors import Internal

log = logging.getLogger(__name__)
T = TypeVar("T")
_RESERVE = 1 << 20  # bytes
_QUICK = 0.005  # seconds; a page cache that takes longer waits for its disk
_CHECKPOINT_CHANGES = 500  # in the write-ahead log, until it is checkpointed
_TABLE = re.compile(r"[a-z_]+")


@dataclass(frozen=True, slots=True)
class Put:
    table: str
    key: str
    document: str  # JSON


@dataclass(frozen=True, slots=True)
class Delete:
    table: str
    key: str


class Records:
    """Open with `Records(path)`, end with `close()`. Tables come into being when first named. Raises Internal on a full disk.

    volatile: the file is in memory (tmpfs) and ends with the boot, so nothing waits for a disk and no thread is needed.

    A little room is set aside beside the file: on a full disk it lets deletions through, which make room again.
    """

    def __init__(self, path: Path, volatile: bool = False) -> None:
        self._path = path
        self._connection = _connect(path, "OFF" if volatile else "FULL")
        if not volatile:
            self._connection.execute("PRAGMA wal_autocheckpoint=0")
        self._worker = None if volatile else ThreadPoolExecutor(1, thread_name_prefix="records")
        self._submitted: set[asyncio.Future[Any]] = set()  # to the worker: until it is done the connection is its
        self._quick = True  # as was the last commit that had no disk to wait for
        self._since_checkpoint = 0
        self._tables: set[str] = set()
        self._reserve = None if volatile else path.with_name(f"{path.name}-reserve")
        self._set_aside()

    async def load(self, table: str) -> dict[str, str]:
        """key -> document of every row."""
        return await self._run(self._load, table)

    async def commit(self, *changes: Put | Delete, durable: bool = True, first: Callable[[], object] | None = None) -> None:
        """All of them or none, for good on return. Not durable: a loss of power soon after may undo them, nothing else.

        first: done before, in the same thread. It may block, on a disk if durable. What it raises is raised, and nothing is
        committed.
        """
        await self._run(self._commit, changes, durable, first, here=not durable and self._quick)
        self._since_checkpoint += len(changes)
        if self._worker is not None and self._since_checkpoint >= _CHECKPOINT_CHANGES:
            self._since_checkpoint = 0
            self._submit(self._checkpoint)

    def close(self) -> None:
        if self._worker is not None:
            self._worker.shutdown()
        self._connection.close()

    async def _run(self, function: Callable[..., T], *args: object, here: bool = False) -> T:
        try:
            if self._worker is None or (here and not self._submitted):
                return function(*args)
            # Shielded: a client that leaves must not make a committed change look undone to the caller's cleanup.
            return await asyncio.shield(self._submit(function, *args))
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            raise Internal(f"cannot write to the database: {os.strerror(errno.ENOSPC).lower()}") from error

    def _submit(self, function: Callable[..., T], *args: object) -> "asyncio.Future[T]":
        future = asyncio.get_running_loop().run_in_executor(self._worker, function, *args)
        self._submitted.add(future)
        future.add_done_callback(self._submitted.discard)
        return future

    def _table(self, name: str) -> str:
        if name not in self._tables:
            if not _TABLE.fullmatch(name):
                raise ValueError(name)
            self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS {name} (key TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID"
            )
            self._tables.add(name)
        return name

    def _load(self, table: str) -> dict[str, str]:
        return dict(self._connection.execute(f"SELECT key, document FROM {self._table(table)}"))

    def _commit(self, changes: Sequence[Put | Delete], durable: bool, first: Callable[[], object] | None) -> None:
        begun = time.monotonic()
        if first is not None:
            first()
        for change in changes:
            self._table(change.table)
        if not durable:
            self._connection.execute("PRAGMA synchronous=NORMAL")  # in the log, which the next durable commit syncs whole
        try:
            self._write_or_make_room(changes)
        finally:
            if not durable:
                self._connection.execute("PRAGMA synchronous=FULL")
                self._quick = time.monotonic() - begun < _QUICK

    def _checkpoint(self) -> None:
        """What sqlite does by itself every thousand pages, but never where somebody waits for it."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.OperationalError as error:
            log.warning("checkpoint of %s: %s", self._path, error)

    def _write_or_make_room(self, changes: Sequence[Put | Delete]) -> None:
        try:
            self._write(changes)
        except sqlite3.OperationalError as error:
            deletes = any(isinstance(change, Delete) for change in changes)
            if self._reserve is None or not deletes or error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                raise
            self._reserve.unlink(missing_ok=True)
            self._write(changes)
        else:
            self._set_aside()

    def _set_aside(self) -> None:
        if self._reserve is None or self._reserve.exists():
            return
        try:
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, _RESERVE)
        except OSError:  # when there is room again
            self._reserve.unlink(missing_ok=True)

    def _write(self, changes: Sequence[Put | Delete]) -> None:
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            for change in changes:
                if isinstance(change, Put):
                    self._connection.execute(f"REPLACE INTO {change.table} VALUES (?, ?)", (change.key, change.document))
                else:
                    self._connection.execute(f"DELETE FROM {change.table} WHERE key = ?", (change.key,))


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    return connection
