import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from compat_engine.errors import EngineError, InvalidParameter, NotFound
from compat_engine.store.records import Records
from compat_engine.store.tree import Tree
from compat_engine.volumes.local import mount_options
from compat_engine.volumes.model import ANONYMOUS
from compat_engine.volumes.volumes import Volumes


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "data").mkdir()
    return Tree(tmp_path / "data", tmp_path / "exec")


@pytest.fixture
async def records(tree: Tree) -> AsyncIterator[Records]:
    records = Records(tree.database)
    yield records
    records.close()


async def test_create_is_idempotent_and_survives_a_restart(tree: Tree, records: Records) -> None:
    volumes = await Volumes.open(tree, records)
    made = await volumes.create("data", labels={"a": "1"})
    assert made.mountpoint == tree.volumes / "data" / "_data" and made.mountpoint.is_dir()
    assert await volumes.create("data", labels={"b": "2"}) is made
    assert (await Volumes.open(tree, records)).get("data") == made
    anonymous = await volumes.create("")
    assert len(anonymous.name) == 64 and anonymous.labels == {ANONYMOUS: ""}


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("x", {}, "create x: volume name is too short, names should be at least two alphanumeric characters"),
        ("a/b", {}, 'create a/b: "a/b" includes invalid characters for a local volume name'),
        ("vol", {"foo": "bar"}, 'create vol: invalid option: "foo"'),
        ("vol", {"type": "tmpfs"}, 'create vol: missing required option: "device"'),
        ("vol", {"device": "/tmp"}, 'create vol: missing required option: "type"'),
        ("vol", {"size": "10m"}, "create vol: quota size requested but no quota support"),
    ],
)
async def test_refusals(tree: Tree, records: Records, name: str, options: dict[str, str], text: str) -> None:
    volumes = await Volumes.open(tree, records)
    with pytest.raises(InvalidParameter) as refusal:
        await volumes.create(name, options=options)
    assert str(refusal.value).startswith(text)
    assert volumes.list() == []


async def test_other_drivers_are_not_found(tree: Tree, records: Records) -> None:
    volumes = await Volumes.open(tree, records)
    with pytest.raises(NotFound, match='create vol: error looking up volume plugin nope: plugin "nope" not found'):
        await volumes.create("vol", "nope")


async def test_remove(tree: Tree, records: Records) -> None:
    volumes = await Volumes.open(tree, records)
    made = await volumes.create("data")
    (made.mountpoint / "file").write_text("x" * 10)
    assert await volumes.usage("data") == 10
    await volumes.remove("data")
    assert not made.mountpoint.parent.exists() and not volumes.exists("data")
    assert list(tree.tmp.iterdir()) == []
    await volumes.remove("data", force=True)
    with pytest.raises(NotFound, match="get data: no such volume"):
        await volumes.remove("data")


async def test_a_removal_cut_short_is_finished_at_the_next_start(tree: Tree, records: Records) -> None:
    made = await (await Volumes.open(tree, records)).create("data")
    os.rename(made.mountpoint.parent, tree.tmp / "volume-x")
    assert not (await Volumes.open(tree, records)).exists("data")
    assert await records.load("volumes") == {}


def test_mount_options() -> None:
    assert mount_options("ro,nosuid,size=1m,uid=7") == (1 | 2, "size=1m,uid=7")
    assert mount_options("ro,rw") == (0, "")
    assert mount_options("bind") == (4096, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
async def test_options_are_mounted_while_somebody_runs(tree: Tree, records: Records) -> None:
    volumes = await Volumes.open(tree, records)
    made = await volumes.create("ram", options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=0700"})
    bound = await volumes.create("bound", options={"type": "none", "device": str(tree.tmp), "o": "bind,ro"})
    await volumes.mount("ram", "one")
    await volumes.mount("ram", "two")
    await volumes.mount("bound", "one")
    (made.mountpoint / "file").write_text("here")
    with pytest.raises(OSError, match="Read-only"):
        (bound.mountpoint / "file").write_text("not here")
    await volumes.unmount("ram", "one")
    assert (made.mountpoint / "file").exists()
    await volumes.unmount("ram", "two")
    assert not (made.mountpoint / "file").exists()
    await volumes.unmount("bound", "one")
    await volumes.remove("bound")
    assert tree.tmp.is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
async def test_a_failed_mount_has_docker_s_words(tree: Tree, records: Records) -> None:
    volumes = await Volumes.open(tree, records)
    made = await volumes.create("gone", options={"type": "none", "device": "/nonexist", "o": "bind"})
    with pytest.raises(EngineError) as failure:
        await volumes.mount("gone", "one")
    assert str(failure.value) == (
        f"error while mounting volume '{made.mountpoint}': failed to mount local volume: "
        f"mount /nonexist:{made.mountpoint}, flags: 0x1000: no such file or directory"
    )
