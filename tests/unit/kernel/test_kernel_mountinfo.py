from pathlib import Path

import pytest

from compat_engine.kernel import mountinfo


def test_a_name_of_any_bytes_is_in_one_line(tmp_path: Path) -> None:
    """A carriage return, a form feed, U+0085 and U+2028 end lines for Python, and \\xff is no text."""
    names = [b"/a\rb", b"/a\x0cb", "/a\x85b".encode(), "/a\u2028b".encode(), b"/a\xffb"]
    (tmp_path / "mountinfo").write_bytes(b"".join(b"30 22 0:26 / %s rw shared:9 - tmpfs tmpfs rw\n" % name for name in names))
    lines = mountinfo.lines(str(tmp_path / "mountinfo"))
    assert [line.split(" ")[4] for line in lines] == [name.decode(errors="surrogateescape") for name in names]
    assert any(line.split(" ")[4] == "/" for line in mountinfo.lines())


def test_the_mount_a_path_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest point that is a part of the path, as it is written; the last of several there."""
    rows = ["/ rw - ext4 /dev/x rw", "/a rw shared:9 - tmpfs t rw", "/a rw master:3 - xfs x rw", r"/a/b\040c rw - btrfs y rw"]
    monkeypatch.setattr(mountinfo, "lines", lambda: [f"30 22 0:26 / {row}" for row in rows])
    found = [mountinfo.mount_of(path) for path in ("/ab", "/a/x", "/a/b c", "/")]
    assert [(mount.point, mount.type, mount.peers) for mount in found] == [
        ("/", "ext4", ()), ("/a", "xfs", ("master:3",)), ("/a/b c", "btrfs", ()), ("/", "ext4", ()),
    ]  # fmt: skip
