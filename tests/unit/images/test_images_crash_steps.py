"""kill -9 at every single step of load, pull, commit, push, removal and prune: the store that is opened next is whole, has what it
had, and the next try finishes. A step is a file or directory made, renamed or removed, or a commit, as in tests/support/crashing.py.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from compat_engine.config import Config, Settings
from compat_engine.images.commit import Step
from compat_engine.images.images import Images
from compat_engine.images.reference import parse
from compat_engine.images.registry.auth import ANONYMOUS
from compat_engine.images.registry.pull import Wanted, pull
from compat_engine.images.registry.push import Offered, push
from compat_engine.images.registry.registries import Registries
from compat_engine.kernel.libc import check, libc
from compat_engine.store.records import Records
from compat_engine.store.tree import Tree
from tests.support.crashing import Steps
from tests.support.fake_registry import FakeRegistry, fake_registry
from tests.support.tars import Item, body, docker_archive, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
BASE, TOP, OTHER = (tar(Item(name, name.encode())) for name in ("base", "top", "other"))
KEPT, NEW = docker_archive(BASE, tags=("kept:1",)), docker_archive(BASE, TOP, OTHER, tags=("new:1",))
AMD64 = ("linux", "amd64", "")
LIMIT = 200  # steps
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
Act = Callable[["Store"], Awaitable[None]]


class Store:
    """A store below a directory, with a registry of its own."""

    def __init__(self, directory: Path, registry: FakeRegistry) -> None:
        self.tree, self.registry = Tree(directory / "data", directory / "exec"), registry
        self.tree.data.mkdir(exist_ok=True)
        self.records = Records(self.tree.database)

    async def open(self) -> None:
        self.images = await Images.open(self.tree, self.records)
        self.registries = Registries(Settings(Config()), self.images.library, pause=0.01)

    async def close(self) -> None:
        await self.registries.close()
        await self.images.close()
        self.records.close()

    async def load(self, archive: bytes) -> None:
        async for _ in self.images.load(body(archive)):
            pass

    def names(self) -> set[str]:
        return {tag for image in self.images.all() for tag in self.images.tags(image.id)}

    def check(self) -> None:
        """Every image is all there, and nothing is there that belongs to none."""
        layers, blobs, unkept = {"empty"} | self.images.snapshots.keys(), set(), set()
        for image in self.images.all():
            assert all(os.path.isdir(path) for path in self.images.directories(image))
            layers |= {layer.cache_id for layer in image.layers}
            blobs |= {digest.removeprefix("sha256:") for digest in image.digests}
            unkept |= {layer.diff_id.removeprefix("sha256:") for layer in image.layers if layer.made_here}
        assert set(os.listdir(self.tree.layers)) == layers
        assert blobs - unkept <= set(os.listdir(self.tree.blobs)) <= blobs
        assert os.listdir(self.tree.tmp) == []


async def _load(store: Store) -> None:
    await store.load(NEW)


async def _pull(store: Store) -> None:
    store.registry.add("new", "1", BASE, TOP, OTHER)
    wanted = Wanted(parse(f"{store.registry.host}/new:1"), AMD64, ANONYMOUS)
    await pull(store.registries, wanted, lambda reference, image: None, lambda line: None)


async def _container(store: Store) -> None:
    store.images.snapshots.claim("container", store.images.find("kept:1").id)()
    overlay = store.images.snapshots.overlay("container")
    Path(overlay.upper, "written").write_text("here")


async def _commit(store: Store) -> None:
    await store.images.commit("container", store.images.find("kept:1"), Step({}, "sh"), parse("new:1"))


async def _committed(store: Store) -> None:
    await _container(store)
    await _commit(store)


async def _save(store: Store) -> None:
    async for _ in store.images.save(["new:1"] if "new:1" in store.names() else []):
        pass


async def _push(store: Store) -> None:
    name = parse(f"{store.registry.host}/new:1")
    await store.images.tag(store.images.find("kept:1"), name)
    await push(store.registries, Offered(name, None, ANONYMOUS), lambda reference, image: None, lambda line: None)


async def _remove(store: Store) -> None:
    if "new:1" in store.names():
        await store.images.remove("new:1", False, False, lambda id: [])


async def _prune(store: Store) -> None:
    doomed = [image for image in store.images.all() if "kept:1" not in store.images.tags(image.id)]
    await store.images.prune(doomed, False, lambda id: [])


@pytest.mark.parametrize(
    ("before", "act", "names"),
    [
        pytest.param(None, _load, {"kept:1", "new:1"}, id="load"),
        pytest.param(None, _pull, {"kept:1", "HOST/new:1"}, id="pull"),
        pytest.param(_container, _commit, {"kept:1", "new:1"}, id="commit"),
        pytest.param(_committed, _save, {"kept:1", "new:1"}, id="save"),
        pytest.param(None, _push, {"kept:1", "HOST/new:1"}, id="push"),
        pytest.param(_load, _remove, {"kept:1"}, id="remove"),
        pytest.param(_load, _prune, {"kept:1"}, id="prune"),
    ],
)
def test_every_step(tmp_path: Path, before: Act | None, act: Act, names: set[str]) -> None:
    for fatal in range(1, LIMIT):
        directory = tmp_path / str(fatal)
        directory.mkdir()
        survived = _apart(partial(_crash, directory, before, act, fatal))
        asyncio.run(_look(directory, act, names))
        if survived:
            assert fatal > 3
            return
    raise AssertionError(f"more than {LIMIT} steps")


async def _crash(directory: Path, before: Act | None, act: Act, fatal: int) -> None:
    async with fake_registry() as registry:
        store = Store(directory, registry)
        await store.open()
        await store.load(KEPT)
        if before is not None:
            await before(store)
        with _counting(directory, fatal):
            await act(store)
        await store.close()


async def _look(directory: Path, act: Act, names: set[str]) -> None:
    async with fake_registry() as registry:
        store = Store(directory, registry)
        await store.open()
        try:
            store.check()
            assert "kept:1" in store.names()
            await act(store)
            found = {"HOST/new:1" if name.endswith("/new:1") else name for name in store.names()}
            assert found == names
            await store.images.snapshots.sweep(set())
            store.check()
        finally:
            await store.close()


@contextmanager
def _counting(directory: Path, fatal: int) -> Iterator[None]:
    (directory / "fatal").write_text(str(fatal))
    steps = Steps(directory / "fatal")
    sys.addaudithook(steps.hook)  # of this process alone, and for good
    commit = Records._commit

    def watched(self: Records, *arguments: Any) -> None:
        steps.step()
        commit(self, *arguments)
        steps.step()

    Records._commit = watched  # type: ignore[assignment, method-assign]
    steps.arm()
    yield
    steps.disarm()


def _apart(work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Runs it in a process of its own until that and all it started are gone; false when it was killed, as it may be."""
    supervisor = os.fork()
    if supervisor == 0:
        code = 2
        try:
            check(libc.prctl(_SUBREAPER, 1, 0, 0, 0))
            child = os.fork()
            if child == 0:
                asyncio.run(work())
                os._exit(0)
            code = _outcome(child)
        finally:
            os._exit(code)
    _, status = os.waitpid(supervisor, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 1), "the operation failed without being killed"
    return code == 0


def _outcome(child: int) -> int:
    """0 when it ended well, 1 when it was killed; known when no descendant is left either."""
    outcome = 2
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            return outcome
        if pid == child:
            ended = os.waitstatus_to_exitcode(status)
            outcome = {0: 0, -signal.SIGKILL: 1}.get(ended, 2)
