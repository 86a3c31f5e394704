from pathlib import Path

from compat_engine.kernel import mountinfo


def test_a_name_of_any_bytes_is_in_one_line(tmp_path: Path) -> None:
    """A carriage return, a form feed, U+0085 and U+2028 end lines for Python, and \\xff is no text."""
    names = [b"/a\rb", b"/a\x0cb", "/a\x85b".encode(), "/a\u2028b".encode(), b"/a\xffb"]
    (tmp_path / "mountinfo").write_bytes(b"".join(b"30 22 0:26 / %s rw shared:9 - tmpfs tmpfs rw\n" % name for name in names))
    lines = mountinfo.lines(str(tmp_path / "mountinfo"))
    assert [line.split(" ")[4] for line in lines] == [name.decode(errors="surrogateescape") for name in names]
    assert any(line.split(" ")[4] == "/" for line in mountinfo.lines())
