"""The volumes of one data root: <volumes>/<name>/_data and a record each.

Who uses a volume is the engine's knowledge (its containers' mount points); here only running containers are counted, because a
volume with mount options is mounted with the first of them and unmounted with the last.
"""

import asyncio
import os
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from compat_engine.errors import Internal, NotFound
from compat_engine.ids import new_id
from compat_engine.store.records import Delete, Put, Records
from compat_engine.store.removal import remove_tree
from compat_engine.store.tree import Tree
from compat_engine.store.usage import disk_usage
from compat_engine.volumes.local import check_name, check_options, mount_volume, needs_mount, unmount_volume
from compat_engine.volumes.model import ANONYMOUS, Volume

TABLE = "volumes"


class Volumes:
    """`get`, `exists` and `list` read memory and never wait; what changes the disk is async."""

    def __init__(self, tree: Tree, records: Records) -> None:
        self._tree, self._records = tree, records
        self._volumes: dict[str, Volume] = {}
        self._lock = asyncio.Lock()  # one create or remove at a time
        self._mounting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._mounted: defaultdict[str, set[str]] = defaultdict(set)  # name -> running containers

    @classmethod
    async def open(cls, tree: Tree, records: Records) -> "Volumes":
        """Loads the records; a removal that a crash cut short is finished, and a creation undone."""
        self = cls(tree, records)
        tree.volumes.mkdir(mode=0o701, parents=True, exist_ok=True)
        tree.tmp.mkdir(parents=True, exist_ok=True)
        for name, document in (await records.load(TABLE)).items():
            volume = Volume.load(document)
            if volume.mountpoint.parent.is_dir():
                self._volumes[name] = volume
            else:
                await records.commit(Delete(TABLE, name))
        return self

    def get(self, name: str) -> Volume:
        """Raises NotFound."""
        if volume := self._volumes.get(name):
            return volume
        raise NotFound(f"get {name}: no such volume")

    def exists(self, name: str) -> bool:
        return name in self._volumes

    def list(self) -> list[Volume]:
        return list(self._volumes.values())

    async def create(
        self, name: str, driver: str = "", options: dict[str, str] | None = None, labels: dict[str, str] | None = None
    ) -> Volume:
        """The volume of that name, made unless it is there; name "" makes an anonymous one. Raises InvalidParameter, NotFound (no
        such driver), Internal, with Docker's texts."""
        if not name:
            name, labels = new_id(), {**(labels or {}), ANONYMOUS: ""}
        if driver not in ("", "local"):
            raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')
        check_name(name)
        async with self._lock:
            if volume := self._volumes.get(name):
                return volume
            check_options(name, options or {})
            created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            volume = Volume(name, self._tree.volumes / name / "_data", created, labels=labels, options=options)
            _make(volume.mountpoint)
            await self._records.commit(Put(TABLE, name, volume.dump()))
            self._volumes[name] = volume
            return volume

    async def remove(self, name: str, force: bool = False) -> None:
        """The volume and all that is in it; nobody uses it. force: no error when there is none. Raises NotFound, Internal."""
        if force and name not in self._volumes:
            return
        async with self._lock:
            volume = self.get(name)
            await asyncio.to_thread(unmount_volume, volume.mountpoint)
            trash = self._tree.tmp / f"volume-{new_id()}"
            await self._forget(volume, trash)
        with suppress(FileNotFoundError):  # somebody deleted it by hand
            await asyncio.to_thread(remove_tree, trash)

    async def _forget(self, volume: Volume, trash: Path) -> None:
        # The rename comes first: a record without a directory says at the next start that a removal was under way.
        directory = volume.mountpoint.parent
        try:
            os.rename(directory, trash)
        except FileNotFoundError:
            pass  # somebody deleted it by hand
        except OSError as error:
            raise Internal(f"remove {volume.name}: unable to remove volume: {error.strerror}: {directory}") from error
        try:
            await self._records.commit(Delete(TABLE, volume.name))
        except BaseException:
            os.rename(trash, directory)
            raise
        self._volumes.pop(volume.name, None)

    async def mount(self, name: str, container: str) -> None:
        """Before a container that has the volume starts; also for one found running after a restart of the daemon. Raises
        NotFound, Internal."""
        volume = self.get(name)
        async with self._mounting[name]:
            if needs_mount(volume.options):
                await asyncio.to_thread(mount_volume, volume.mountpoint, volume.options or {})
            self._mounted[name].add(container)

    async def unmount(self, name: str, container: str) -> None:
        """After the container has ended. Does nothing when it had not mounted the volume. Raises Internal."""
        async with self._mounting[name]:
            users = self._mounted[name]
            users.discard(container)
            volume = self._volumes.get(name)
            if not users and volume and needs_mount(volume.options):
                await asyncio.to_thread(unmount_volume, volume.mountpoint)

    async def usage(self, name: str) -> int:
        """Bytes of the files in it, each inode once; 0 while what it mounts is not mounted. Raises NotFound."""
        return await asyncio.to_thread(disk_usage, self.get(name).mountpoint)


def _make(mountpoint: Path) -> None:
    try:
        mountpoint.parent.mkdir(mode=0o701, exist_ok=True)
        mountpoint.mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        raise Internal(f"error while creating volume path '{mountpoint}': {error.strerror}") from error
