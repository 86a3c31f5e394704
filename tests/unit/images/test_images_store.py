"""The store as a whole: load, save, import, removal, snapshots, crashes. Needs root."""

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compat_engine.errors import Conflict, Internal, InvalidParameter, NotFound
from compat_engine.images import layers
from compat_engine.images.commit import Step
from compat_engine.images.images import Image, Images, User
from compat_engine.images.reference import parse
from compat_engine.store.records import Records
from compat_engine.store.tree import Tree
from tests.support.tars import (
    COMPRESSORS,
    Item,
    body,
    digest,
    directory,
    docker_archive,
    files,
    legacy_archive,
    oci_layout,
    read,
    symlink,
    tar,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
BASE = tar(directory("d", 0o700, owner=(5, 6)), Item("d/f", b"base"), Item("only", b"1"), symlink("link", "d"))
TOP = tar(Item("d/g", b"top"), Item(".wh.only"))


@dataclass
class Store:
    tree: Tree
    records: Records
    images: Images

    @classmethod
    async def open(cls, directory: Path) -> "Store":
        tree = Tree(directory / "data", directory / "exec")
        tree.data.mkdir(parents=True, exist_ok=True)
        records = Records(tree.database)
        return cls(tree, records, await Images.open(tree, records))

    async def close(self) -> None:
        await self.images.close()
        self.records.close()

    async def load(self, archive: bytes, quiet: bool = True) -> list[dict[str, Any]]:
        return [item async for item in self.images.load(body(archive), quiet)]

    async def save(self, *words: str) -> bytes:
        return b"".join([piece async for piece in self.images.save(list(words))])

    def files(self) -> tuple[set[str], set[str], list[str]]:
        """Layer directories, blobs, unfinished work."""
        return set(os.listdir(self.tree.layers)) - {"empty"}, set(os.listdir(self.tree.blobs)), os.listdir(self.tree.tmp)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    found = await Store.open(tmp_path)
    yield found
    await found.close()


def nobody(id: str) -> list[User]:
    return []


@pytest.mark.parametrize("outer", COMPRESSORS)
@pytest.mark.parametrize("inner", ["plain", "gzip", "zstd"])
async def test_load_and_save_keep_every_byte(store: Store, outer: str, inner: str) -> None:
    archive = docker_archive(BASE, TOP, compress=inner, config={"Labels": {"a": "b"}})
    said = await store.load(COMPRESSORS[outer](archive))
    assert said == [{"stream": "Loaded image: test:1\n"}]
    image = store.images.find("test:1")
    assert image.id == digest(read(archive)["config.json"])
    assert [layer.diff_id for layer in image.layers] == [digest(BASE), digest(TOP)]
    saved = await store.save("test:1")
    assert await store.load(saved) == said
    assert await store.save("test:1") == saved
    for layer in (BASE, TOP):
        assert COMPRESSORS[inner](layer) in read(saved).values()


async def test_oci_layouts_keep_their_manifest(store: Store) -> None:
    archive, manifest = oci_layout(BASE, TOP)
    await store.load(archive)
    saved = read(await store.save("test"))
    assert json.loads(saved["index.json"])["manifests"][0]["digest"] == manifest
    assert f"blobs/sha256/{manifest[7:]}" in saved
    assert json.loads(saved["manifest.json"])[0]["RepoTags"] == ["test:1"]


async def test_archives_of_old(store: Store) -> None:
    said = await store.load(legacy_archive(BASE, TOP, author="me"))
    assert said == [{"stream": "Loaded image: test:1\n"}]
    image = store.images.find("test:1")
    assert [layer.diff_id for layer in image.layers] == [digest(BASE), digest(TOP)]
    assert [step["created_by"] for step in image.config["history"]] == [f"/bin/sh -c step {step} && <done>" for step in (0, 1)]
    assert image.id == "sha256:c94cc3a11073e33ec32a6a2cc4131d5957b99dc5efe35981b3460cee8d02d8f9"  # dockerd's for this archive


async def test_several_images_share_layers(store: Store) -> None:
    await store.load(docker_archive(BASE, tags=("a:1", "a:2")))
    await store.load(docker_archive(BASE, TOP, tags=("b:1",)))
    directories, _, _ = store.files()
    assert len(directories) == 2
    saved = read(await store.save("a", "b:1"))
    assert [item["RepoTags"] for item in json.loads(saved["manifest.json"])] == [["a:1", "a:2"], ["b:1"]]
    assert sum(content == BASE for content in saved.values()) == 1
    assert store.images.shared_size(store.images.find("b:1")) == store.images.find("a:1").size


async def test_overlay_and_copy_up(store: Store, tmp_path: Path) -> None:
    await store.load(docker_archive(BASE, TOP))
    image = store.images.find("test:1")
    store.images.snapshots.claim("c1", image.id)()
    overlay = store.images.snapshots.overlay("c1")
    top = Path(overlay.lower[0])
    assert (top / "d").stat().st_uid == 5 and (top / "d").stat().st_mode & 0o7777 == 0o700  # as below, though TOP is silent on it
    assert store.images.snapshots.overlay("c1") == overlay
    (Path(overlay.upper) / "written").write_bytes(b"123")
    assert await store.images.snapshots.usage("c1") == 3
    target = tmp_path / "volume"
    target.mkdir()
    assert await store.images.snapshots.copy_up(image.id, "/link", target)
    assert sorted(os.listdir(target)) == ["f", "g"]
    assert (target.stat().st_uid, target.stat().st_gid, target.stat().st_mode & 0o7777) == (5, 6, 0o700)
    assert not await store.images.snapshots.copy_up(image.id, "/only", target)
    root = tmp_path / "root"
    root.mkdir()
    assert await store.images.snapshots.copy_up(image.id, "/", root)
    assert sorted(os.listdir(root)) == ["d", "link"]


async def test_removal_follows_docker(store: Store) -> None:
    await store.load(docker_archive(BASE, TOP, tags=("a:1", "b:1")))
    image = store.images.find("a:1")
    short = image.id[7:19]
    stopped, running = (lambda id: [User("c" * 64, False)]), (lambda id: [User("c" * 64, True)])

    async def refused(word: str, force: bool, users: Any, text: str) -> None:
        with pytest.raises(Conflict) as error:
            await store.images.remove(word, force, False, users)
        assert str(error.value) == text

    await refused(
        short,
        False,
        nobody,
        f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories",
    )
    assert (await store.images.remove("b:1", False, False, stopped)).records == [("Untagged", "b:1")]
    text = f'conflict: unable to remove repository reference "a:1" (must force) - container cccccccccccc is using its referenced image {short}'
    await refused("a:1", False, stopped, text)
    text = f"conflict: unable to delete {short} (must be forced) - image is being used by stopped container cccccccccccc"
    await refused(short, False, stopped, text)
    text = f"conflict: unable to delete {short} (cannot be forced) - image is being used by running container cccccccccccc"
    await refused(short, True, running, text)
    done = await store.images.remove("a:1", False, False, nobody)
    expected = [("Untagged", "a:1"), ("Deleted", image.id), *(("Deleted", layer.chain_id) for layer in reversed(image.layers))]
    assert done.records == expected
    assert done.freed == image.size
    assert store.files() == (set(), set(), [])
    with pytest.raises(NotFound, match="No such image: a:1"):
        store.images.find("a:1")


async def test_a_snapshot_keeps_its_layers(store: Store) -> None:
    await store.load(docker_archive(BASE, TOP))
    store.images.snapshots.claim("c1", "test:1")()
    overlay = store.images.snapshots.overlay("c1")
    await store.images.remove("test:1", True, False, lambda id: [User("c1", False)])
    assert all(os.path.isdir(lower) for lower in overlay.lower)
    await store.images.snapshots.remove("c1")
    assert store.files() == (set(), set(), [])


async def test_a_moved_tag_leaves_a_dangling_image(store: Store) -> None:
    await store.load(docker_archive(BASE))
    old = store.images.find("test:1")
    said = await store.load(docker_archive(TOP))
    assert said[0]["stream"] == f"The image test:1 already exists, renaming the old one with ID {old.id} to empty string\n"
    assert store.images.tags(old.id) == []
    removal = await store.images.prune(store.images.all(), True, nobody)
    assert removal.records == [("Deleted", old.id), ("Deleted", old.layers[0].chain_id)]


async def test_lookup(store: Store) -> None:
    await store.load(docker_archive(BASE))
    image = store.images.find("test:1")
    for word in (image.id, image.id[7:], image.id[7:19], image.id[:20], "docker.io/library/test:1", "index.docker.io/test:1"):
        assert store.images.find(word) is image
    for word, text in (("test", "test:latest"), ("f" * 64, "sha256:" + "f" * 64), (f"x@{image.id}", f"x@{image.id}")):
        with pytest.raises(NotFound, match=f"^No such image: {text}$"):
            store.images.find(word)
    with pytest.raises(NotFound, match="does not match the specified platform"):
        store.images.find("test:1", "linux/arm64")
    assert store.images.find("test:1", "linux/amd64") is image


@pytest.mark.parametrize(
    ("archive", "text"),
    [
        (b"", "unrecognized image archive"),
        (b"junk" * 500, "archive/tar: invalid tar header"),
        (files({"x": b"y"}), "unrecognized image archive"),
        (docker_archive(BASE)[:3000], "unexpected EOF"),
        (files({"manifest.json": b"{"}), "manifest.json is no JSON"),
        (files({"manifest.json": b"[3]"}), "malformed manifest"),
        (files({"manifest.json": b"null"}), "manifest cannot be null"),
        (files({"repositories": b'{"a":{"1":"x"}}'}), "no file x/json in it"),
        (files({"repositories": b'{"a":{"1":"x"}}', "x/json": b'{"parent":"x"}'}), "malformed parents"),
        (files({"repositories": b'{"a":{"1":""}}'}), "an image without layers"),
        (files({"manifest.json": b'[{"Config":"../../etc/passwd","Layers":[]}]'}), "no file ../../etc/passwd"),
        (docker_archive(BASE, rootfs={"diff_ids": []}), "layers length mismatch: expected 0, got 1"),
        (docker_archive(BASE, rootfs={"diff_ids": [digest(TOP)]}), "invalid diffID for layer 0"),
        (docker_archive(BASE, os="windows"), "cannot load windows image on linux"),
        (docker_archive(BASE, tags=("NO:1",)), "must be lowercase"),
        (docker_archive(tar(Item("../x"))), "outside of the archive's root"),
        (docker_archive(BASE[:800]), "unexpected EOF"),
    ],
)
async def test_bad_archives_change_nothing(store: Store, archive: bytes, text: str) -> None:
    with pytest.raises(InvalidParameter, match=text):
        await store.load(archive)
    assert store.images.all() == []
    assert store.files() == (set(), set(), [])


async def test_a_client_that_leaves_leaves_nothing(store: Store) -> None:
    archive = docker_archive(BASE, TOP)

    async def broken() -> AsyncIterator[bytes]:
        yield archive[:2000]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        async for _ in store.images.load(broken()):
            pass

    async def stuck() -> AsyncIterator[bytes]:
        yield archive[:2000]
        await asyncio.sleep(100)

    async def load() -> None:
        async for _ in store.images.load(stuck()):
            pass

    task = asyncio.create_task(load())
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert store.files() == (set(), set(), [])


@pytest.mark.parametrize("step", ["_stage", "_move", "commit"])
async def test_a_crash_at_any_step_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    store = await Store.open(tmp_path)
    await store.load(docker_archive(BASE, tags=("kept:1",)))
    kept = store.files()

    class Crash(Exception):
        pass

    def crash(*_: object) -> None:
        raise Crash

    async def no_cleanup(*_: object) -> None:
        return

    monkeypatch.setattr(store.images.library if step == "commit" else layers, step, crash)
    monkeypatch.setattr("compat_engine.images.intake.uninterrupted", lambda work: (work.close(), no_cleanup())[1])
    with pytest.raises(Crash):
        await store.load(docker_archive(BASE, TOP))
    monkeypatch.undo()
    await store.close()
    again = await Store.open(tmp_path)
    assert [again.images.tags(image.id) for image in again.images.all()] == [["kept:1"]]
    assert again.files() == kept
    await again.load(docker_archive(BASE, TOP))
    await again.close()


async def test_what_is_broken_on_the_disk_is_forgotten(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    await store.load(docker_archive(BASE, tags=("a:1",)))
    await store.load(docker_archive(TOP, tags=("b:1",)))
    store.tree.blobs.joinpath(store.images.find("a:1").id[7:]).write_bytes(b"{}")
    await store.close()
    again = await Store.open(tmp_path)
    assert [again.images.tags(image.id) for image in again.images.all()] == [["b:1"]]
    assert len(again.files()[0]) == 1
    await again.close()


async def test_more_directories_without_entries_than_a_message_holds(store: Store) -> None:
    """They keep owner and mode of the layer below, however many they are."""
    names = [f"{number:04}-{'d' * 100}" for number in range(3000)]
    lower = tar(*(directory(name, 0o751, owner=(7, 8)) for name in names))
    upper = tar(*(Item(f"{name}/inside/file") for name in names))
    await store.load(docker_archive(lower, upper))
    top, _ = store.images.directories(store.images.find("test:1"))
    found = {(status.st_uid, status.st_gid, status.st_mode & 0o7777) for name in names for status in [os.stat(f"{top}/{name}")]}
    assert found == {(7, 8, 0o751)}
    assert os.listdir(os.path.dirname(top)) == ["diff"]


async def test_directories_without_entries_in_the_lowest_layer(store: Store) -> None:
    await store.load(docker_archive(tar(Item("a/b/file"))))
    (bottom,) = store.images.directories(store.images.find("test:1"))
    assert os.stat(f"{bottom}/a/b").st_mode & 0o7777 == 0o755
    assert os.listdir(os.path.dirname(bottom)) == ["diff"]


async def test_import(store: Store) -> None:
    lines = ('CMD ["x"]', "ENV A=b")
    image: Image = await store.images.import_(body(COMPRESSORS["gzip"](BASE)), parse("imp:1"), lines, "why")
    assert image.runtime == {"Cmd": ["x"], "Env": ["A=b"]}
    assert (image.config["comment"], image.layers[0].diff_id) == ("why", digest(BASE))
    assert store.images.tags(image.id) == ["imp:1"]
    with pytest.raises(InvalidParameter, match="invalid tar header"):
        await store.images.import_(body(b"junk" * 500))
    assert len(store.files()[0]) == 1 and store.files()[2] == []


async def test_the_worker_is_replaced_when_it_dies(store: Store) -> None:
    await store.load(docker_archive(BASE))
    process = store.images.library.workers._process
    assert process is not None
    process.kill()
    process.wait()
    await store.load(docker_archive(TOP, tags=("b:1",)))
    assert store.images.find("b:1").id


async def committed(store: Store, name: str) -> Image:
    """test:1 with a file more, one less, and a directory anew."""
    store.images.snapshots.claim(name, store.images.find("test:1").id)()
    overlay = store.images.snapshots.overlay(name)
    upper = Path(overlay.upper)
    (upper / "written").write_text("here")
    os.utime(upper / "written", (0, 1_700_000_000))
    os.mknod(upper / "only", stat.S_IFCHR)
    os.utime(upper / "only", (0, 1_700_000_000))
    return await store.images.commit(name, store.images.find("test:1"), Step({}, "sh"), parse(f"{name}:1"))


async def test_a_committed_layer_has_a_blob_once_it_is_wanted(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "one")
    await store.load(docker_archive(BASE))
    image = await committed(store, "made")
    top = image.layers[-1].diff_id
    assert top.removeprefix("sha256:") not in store.files()[1]
    await store.close()
    store = await Store.open(tmp_path / "one")
    assert store.images.tags(image.id) == ["made:1"]
    archive = await store.save("made:1")
    assert digest(read(archive)[f"blobs/{top.replace(':', '/')}"]) == top
    assert await store.save("made:1") == archive
    assert store.files()[2] == []
    other = await Store.open(tmp_path / "two")
    await other.load(archive)
    assert other.images.find("made:1").id == image.id
    assert digest(read(await other.save("made:1"))[f"blobs/{top.replace(':', '/')}"]) == top
    await store.images.remove("made:1", False, False, nobody)
    assert top.removeprefix("sha256:") not in store.files()[1]
    for each in (store, other):
        await each.close()


async def test_a_commit_of_what_came_with_an_image(tmp_path: Path) -> None:
    """The layer is known from an archive, which has it compressed."""
    store = await Store.open(tmp_path)
    await store.load(docker_archive(BASE))
    first = await committed(store, "first")
    layer = read(await store.save("first:1"))[f"blobs/{first.layers[-1].diff_id.replace(':', '/')}"]
    await store.images.remove("first:1", False, False, nobody)
    await store.images.snapshots.remove("first")
    await store.load(docker_archive(BASE, layer, compress="gzip", tags=("gzipped:1",)))
    second = await committed(store, "second")
    assert second.layers == first.layers[:1] + second.layers[1:]
    assert second.layers[-1].cache_id == store.images.find("gzipped:1").layers[-1].cache_id
    assert layer in read(await store.save("second:1")).values()
    await store.close()


async def test_a_committed_layer_that_was_tampered_with_is_not_saved(store: Store) -> None:
    await store.load(docker_archive(BASE))
    image = await committed(store, "made")
    Path(store.images.directories(image)[0], "written").write_text("elsewhere")
    with pytest.raises(Internal, match="is corrupt"):
        await store.save("made:1")
    assert store.files()[2] == []
