"""Containers' files as archives, without containers: names, modes, rules of copying in, differences, trees as tars."""

import io
import os
import resource
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from compat_engine.images import changes, copyin, difference, merged
from compat_engine.images.codecs import BadArchive
from compat_engine.images.copyin import CopyIn, owner_of
from compat_engine.images.extract import Extractor
from compat_engine.images.rootjobs import absolute, file_mode
from compat_engine.images.tarreader import Source, TarReader
from compat_engine.images.treewriter import PipeSink, TreeWriter
from compat_engine.store.removal import remove_tree
from tests.support import tars

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes and trusted attributes")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/"),
        ("a", "/a"),
        ("../../a/", "/a/"),
        ("/a/.", "/a/."),
        ("/a//b/..", "/a"),
        ("/.", "/."),
        (".", "/."),
        ("//a", "/a"),
    ],
)
def test_paths_keep_what_their_end_says(path: str, expected: str) -> None:
    assert absolute(path) == expected


def test_modes_are_those_of_go() -> None:
    assert file_mode(stat.S_IFDIR | 0o1777) == 1 << 31 | 1 << 20 | 0o777
    assert file_mode(stat.S_IFREG | 0o6755) == 1 << 23 | 1 << 22 | 0o755
    assert file_mode(stat.S_IFLNK | 0o777) == 1 << 27 | 0o777
    assert file_mode(stat.S_IFCHR | 0o600) == 1 << 26 | 1 << 21 | 0o600


def copy_in(directory: Path, *items: tars.Item, keep_kind: bool = False, owner: tuple[int, int] | None = None) -> None:
    reader = TarReader(Source(iter([tars.tar(*items)])))
    CopyIn(os.fsencode(directory), keep_kind, owner).run(reader)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (tars.Item("../x"), "is outside of"),
        (tars.Item("a/../../x"), "is outside of"),
        (tars.symlink("l", "../../x"), "invalid symlink"),
        (tars.hard_link("h", "../x"), "invalid hardlink"),
    ],
)
def test_copying_in_refuses_what_points_above(here: Path, item: tars.Item, text: str) -> None:
    with pytest.raises(BadArchive, match=text):
        copy_in(here, item)
    assert list(here.parent.iterdir()) == [here]


@needs_root
def test_no_directory_gives_a_copied_file_its_group(here: Path) -> None:
    for name in ("plain", "shared"):
        (here / name).mkdir()
    os.chown(here / "shared", 0, 7)
    (here / "shared").chmod(0o2775)
    copy_in(
        here,
        tars.symlink("way", "plain"), tars.Item("way/a"),
        tars.symlink("way", "shared"), tars.Item("way/b"),
        tars.Item("plain/c"), tars.directory("plain", 0o2775, owner=(0, 7)), tars.Item("plain/d"), tars.Item("plain/e/f"),
    )  # fmt: skip
    made = {path.name: path.stat().st_gid for path in here.rglob("*") if path.is_file()}
    assert made == dict.fromkeys("abcdf", 0)


@needs_root
def test_a_daemon_of_another_group_gives_it_to_no_file(here: Path) -> None:
    os.chown(here, 0, 0)
    os.setegid(7)
    try:
        copy_in(here, tars.Item("a"), tars.Item("b", owner=(0, 7)))
    finally:
        os.setegid(0)
    assert {path.name: path.stat().st_gid for path in here.iterdir()} == {"a": 0, "b": 7}


def test_copying_in_takes_names_from_the_root_as_its_own(here: Path) -> None:
    owner = os.geteuid(), os.getegid()
    copy_in(here, tars.Item("/a", b"1"), tars.Item("b/../../here/c", b"2"), tars.Item(".wh.d", b"3"), owner=owner)
    assert sorted(path.name for path in here.iterdir()) == [".wh.d", "a", "c"]


def test_an_absolute_name_leads_nowhere_above_the_destination(here: Path) -> None:
    owner = os.geteuid(), os.getegid()
    copy_in(here, tars.Item("/../a"), tars.Item("/b/../../c/d"), tars.Item("//../here/e"), tars.directory("/.."), owner=owner)
    assert sorted(str(path.relative_to(here)) for path in here.rglob("*")) == ["a", "c", "c/d", "here", "here/e"]
    with pytest.raises(BadArchive, match="invalid hardlink"):
        copy_in(here, tars.hard_link("f", "/../a"), owner=owner)


def test_kinds_are_kept_when_asked(here: Path) -> None:
    (here / "d").mkdir()
    (here / "f").write_text("x")
    owner = os.geteuid(), os.getegid()
    with pytest.raises(BadArchive, match="cannot overwrite directory"):
        copy_in(here, tars.Item("d", b""), keep_kind=True)
    with pytest.raises(BadArchive, match="cannot overwrite non-directory"):
        copy_in(here, tars.directory("f"), keep_kind=True)
    copy_in(here, tars.Item("d", b"new"), owner=owner)
    assert (here / "d").read_text() == "new"


def test_owners_by_name_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"/etc/passwd": "root:x:0:0::/:\nbroken\nme:x:7:8::/:\n", "/etc/group": "root:x:0:\nus:x:9:me\n"}
    monkeypatch.setattr(copyin, "_read", files.__getitem__)
    assert owner_of("me") == (7, 8)
    assert owner_of("7") == (7, 8)
    assert owner_of("me:us") == (7, 9)
    assert owner_of("1000") == (1000, 0)
    assert owner_of("1000:1001") == (1000, 1001)
    with pytest.raises(BadArchive, match="unable to find user nobody"):
        owner_of("nobody")


def whiteout(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR, 0)


def layers(tmp_path: Path) -> tuple[Path, Path]:
    """An upper and a lower directory."""
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for name in ("same", "opaque", "gone"):
        (lower / name).mkdir(parents=True)
        (lower / name / "old").write_text("old")
    (lower / "file").write_text("old")
    (upper / "same").mkdir(parents=True)
    (upper / "opaque").mkdir()
    (upper / "opaque" / "new").write_text("new")
    os.setxattr(upper / "opaque", "trusted.overlay.opaque", b"y")
    whiteout(upper / "gone")
    whiteout(upper / "never")
    (upper / "file").write_text("changed")
    for name in ("dev", "proc", "etc"):
        (upper / name).mkdir()
    (upper / "etc" / "hosts").touch()
    (upper / ".dockerenv").touch()
    return upper, lower


@needs_root
def test_difference(tmp_path: Path) -> None:
    upper, lower = layers(tmp_path)
    expected = [("/file", 0), ("/gone", 2), ("/opaque", 0), ("/opaque/new", 1), ("/opaque/old", 2)]
    assert difference.changes(str(upper), [str(lower)]) == expected


@needs_root
def test_what_a_start_left_is_a_change_once_it_is_used(tmp_path: Path) -> None:
    upper, lower = layers(tmp_path)
    (upper / "etc" / "mine").touch()
    (upper / "proc" / "mine").touch()
    found = dict(difference.changes(str(upper), [str(lower)]))
    assert {path for path in found if path.startswith(("/etc", "/proc", "/dev"))} == {"/etc", "/etc/mine", "/proc", "/proc/mine"}


def nested(root: Path, depth: int) -> str:
    """`root` with as many directories in each other; the innermost."""
    path = str(root)
    for _ in range(depth + 1):
        os.mkdir(path)
        path += "/d"
    return path.removesuffix("/d")


@needs_root
def test_a_tree_deeper_than_a_path_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:02}{'n' * 250}" for number in range(40)]
    monkeypatch.chdir(tmp_path)
    for name in names:
        Path("beside").touch()
        os.mkdir(name)
        os.chdir(name)
    os.chdir(tmp_path)
    out = io.BytesIO()
    writer = TreeWriter(Collecting(out))
    try:
        writer.tree(b"", b"")
    finally:
        remove_tree(names[0])
    writer.end()
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        found = archive.getnames()
    expected = [f"{'/'.join([*names[:depth], ''])}{last}" for depth in range(40) for last in (names[depth], "beside")]
    assert sorted(found) == sorted(expected)
    assert os.getcwd() == str(tmp_path)


class Collecting:
    def __init__(self, out: io.BytesIO) -> None:
        self._out = out

    def write(self, data: bytes) -> None:
        self._out.write(data)

    def copy(self, file: int, size: int) -> None:
        self.write(os.read(file, size))

    def close(self) -> None:
        pass


def test_trees_deeper_than_recursion(tmp_path: Path, many_files: None) -> None:
    depth = 1200
    upper, lower, copy = (str(tmp_path / name) for name in ("upper", "lower", "copy"))
    Path(nested(tmp_path / "upper", depth), "file").touch()
    nested(tmp_path / "lower", depth)
    os.mkdir(copy)
    try:
        assert len(difference.changes(upper, [])) == depth + 1
        assert difference.changes(upper, [lower])[-1] == ("/d" * depth + "/file", difference.ADDED)
        into = os.open(copy, os.O_RDONLY | os.O_DIRECTORY)
        assert merged.copy_tree([upper, lower], "", into)
        os.close(into)
        assert difference.changes(copy, [upper]) == []
    finally:
        for tree in (upper, lower, copy):
            remove_tree(tree)


@pytest.fixture
def many_files() -> Iterator[None]:
    """As the daemon has them."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def written(tmp_path: Path, layer: bool = False, skip: frozenset[bytes] = frozenset()) -> bytes:
    """The current directory as a tar."""
    path = tmp_path / "out.tar"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        writer = TreeWriter(PipeSink(fd), layer, skip)
        writer.tree(b"", b"")
        writer.end()
    finally:
        os.close(fd)
    return path.read_bytes()


def test_a_tree_as_a_tar(here: Path, tmp_path: Path) -> None:
    (here / "d").mkdir()
    (here / "d" / "big").write_bytes(os.urandom(300_001))  # goes through sendfile
    (here / "e").write_bytes(b"small")
    os.link(here / "e", here / "f")
    (here / "l").symlink_to("x" * 150)
    os.mkfifo(here / "p")
    written(tmp_path)
    with tarfile.open(tmp_path / "out.tar") as tar:
        assert tar.getnames() == ["d", "d/big", "e", "f", "l", "p"]
        assert (tar.getmember("f").islnk(), tar.getmember("f").linkname) == (True, "e")
        assert tar.getmember("l").linkname == "x" * 150
        big = tar.extractfile("d/big")
        assert big is not None
        assert big.read() == (here / "d" / "big").read_bytes()


@needs_root
def test_a_layer_comes_out_as_it_went_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upper, lower = layers(tmp_path)
    skip = difference.furniture(str(upper), [str(lower)])
    assert skip == {".dockerenv", "dev", "proc", "etc", "etc/hosts"}
    monkeypatch.chdir(upper)
    data = written(tmp_path, layer=True, skip=frozenset(map(os.fsencode, skip)))
    copy = tmp_path / "copy"
    copy.mkdir()
    monkeypatch.chdir(copy)
    Extractor().run(TarReader(Source(iter([data]))))
    assert difference.changes(str(copy), [str(lower)]) == difference.changes(str(upper), [str(lower)])


def test_an_entrypoint_drops_the_command() -> None:
    config = {"Cmd": ["old"]}
    assert changes.apply(config, ['ENTRYPOINT ["x"]']) == {"Entrypoint": ["x"]}
    assert changes.apply(config, ['CMD ["a"]', 'ENTRYPOINT ["x"]']) == {"Cmd": ["a"], "Entrypoint": ["x"]}
