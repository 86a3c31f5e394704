"""Any stack of layers, with whiteouts and opaque directories, is the tree a simple model says. Needs root."""

import asyncio
import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compat_engine.images.images import Images
from compat_engine.kernel.mounts import MS_RDONLY, mount, umount2
from compat_engine.store.records import Records
from compat_engine.store.tree import Tree
from tests.support.tars import Item, body, directory, docker_archive, symlink, tar

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
Node = tuple[str, object]  # ("f", content), ("l", target) or ("d", mode)
Nodes = dict[str, Node]  # by path, every parent among them


@dataclass(frozen=True)
class Layer:
    """entries: what it brings, in the tar's order, no path twice; hidden: what it hides of the layers below; opaque: directories
    it hides the content of."""

    entries: Sequence[tuple[str, Node]]
    hidden: frozenset[str] = field(default_factory=frozenset)
    opaque: frozenset[str] = field(default_factory=frozenset)

    def tar(self) -> bytes:
        items = [_item(path, kind, value) for path, (kind, value) in self.entries]
        marks = [f"{parent}.wh.{name}" for parent, name in map(_split, sorted(self.hidden))]
        marks += [f"{path}/.wh..wh..opq" for path in sorted(self.opaque)]
        half = len(marks) // 2  # whiteouts may come before what they make room for, and after it
        return tar(*map(Item, marks[:half]), *items, *map(Item, marks[half:]))


def applied(below: Nodes, layer: Layer) -> Nodes:
    """The model (OCI image spec, layer.md): first what is hidden goes, then what the layer brings is put in its place."""
    tree = dict(below)
    for path in [*layer.hidden, *(f"{path}/" for path in layer.opaque)]:
        for found in [found for found in tree if found == path or found.startswith(f"{path.rstrip('/')}/")]:
            del tree[found]
    silent = [*(path for path, _ in layer.entries), *layer.hidden, *(f"{path}/" for path in layer.opaque)]
    implied = {parent for path in silent for parent in _parents(path)}
    for path, node in [*((path, ("d", 0o755)) for path in sorted(implied)), *sorted(layer.entries)]:
        if path in implied and tree.get(path, ("", 0))[0] == "d" and path not in dict(layer.entries):
            continue  # keeps the mode it has
        if node[0] != "d" or tree.get(path, ("d", 0))[0] != "d":
            tree = {found: other for found, other in tree.items() if not found.startswith(f"{path}/")}
        tree[path] = node
    return tree


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    nodes = st.one_of(
        st.tuples(st.just("f"), st.binary(max_size=3)),
        st.tuples(st.just("l"), st.sampled_from(["a", "../b", "/c", "nowhere"])),
        st.tuples(st.just("d"), st.sampled_from([0o700, 0o755, 0o1777])),
    )
    entries = dict(draw(st.lists(st.tuples(PATHS, nodes), max_size=6)))
    kept = [(path, node) for path, node in entries.items() if all(entries.get(up, ("d",))[0] == "d" for up in _parents(path))]
    leaves = {path for path, node in kept if node[0] != "d"}
    marks = st.frozensets(PATHS.filter(lambda path: not leaves & set(_parents(path))), max_size=3)
    hidden, opaque = draw(marks), draw(marks) - leaves
    return Layer(kept, hidden, frozenset(path for path in opaque if not leaves & set(_parents(path))))


def test_any_stack_of_layers(tmp_path: Path) -> None:
    with asyncio.Runner() as runner, _images(runner, tmp_path) as images:

        @settings(max_examples=60)
        @given(st.lists(layers(), min_size=1, max_size=4))
        def check(stack: list[Layer]) -> None:
            expected: Nodes = {}
            for layer in stack:
                expected = applied(expected, layer)
            runner.run(_checked(images, stack, expected, tmp_path))

        check()


async def _checked(images: Images, stack: list[Layer], expected: Nodes, directory: Path) -> None:
    archive = docker_archive(*(layer.tar() for layer in stack))
    assert [line async for line in images.load(body(archive), True)] == [{"stream": "Loaded image: test:1\n"}]
    image = images.find("test:1")
    copied = directory / "copied"
    copied.mkdir()
    try:
        with _mounted(images.snapshots.view(image.id).lower, directory) as merged:
            assert dict(_rows(merged)) == expected, "as the kernel merges them"
        await images.snapshots.copy_up(image.id, "/", copied)
        assert dict(_rows(copied)) == expected, "as they are merged without a mount"
    finally:
        await images.remove("test:1", True, False, lambda id: [])
        shutil.rmtree(copied)


@contextmanager
def _images(runner: asyncio.Runner, directory: Path) -> Iterator[Images]:
    tree = Tree(directory / "data", directory / "exec")
    tree.data.mkdir(parents=True)
    records = Records(tree.database)
    images = runner.run(Images.open(tree, records))
    try:
        yield images
    finally:
        runner.run(images.close())
        records.close()


@contextmanager
def _mounted(lower: tuple[str, ...], directory: Path) -> Iterator[Path]:
    target, empty = directory / "merged", directory / "empty"
    target.mkdir(exist_ok=True)
    empty.mkdir(exist_ok=True)
    mount("overlay", str(target), "overlay", MS_RDONLY, f"lowerdir={':'.join((str(empty), *lower))}")
    try:
        yield target
    finally:
        umount2(str(target), 0)


def _rows(root: Path) -> Iterator[tuple[str, Node]]:
    """What can be looked at: overlayfs lists whiteouts too where a directory is of one layer alone."""
    for path in sorted(root.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            yield str(path.relative_to(root)), _node(path, path.lstat().st_mode)


def _node(path: Path, mode: int) -> Node:
    if stat.S_ISDIR(mode):
        return "d", stat.S_IMODE(mode)
    return ("l", os.readlink(path)) if stat.S_ISLNK(mode) else ("f", path.read_bytes())


def _item(path: str, kind: str, value: object) -> Item:
    if kind == "f":
        assert isinstance(value, bytes)
        return Item(path, value)
    if kind == "l":
        return symlink(path, str(value))
    assert isinstance(value, int)
    return directory(path, value)


def _parents(path: str) -> list[str]:
    """All directories above a path, the outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _split(path: str) -> tuple[str, str]:
    parent, slash, name = path.rpartition("/")
    return parent + slash, name
