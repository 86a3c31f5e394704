"""The json-file log against what dockerd 26.1 wrote for the same bytes, and against the json module for random ones."""

import json
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from compat_engine.shim.clock import rfc3339
from compat_engine.shim.filelog import open_log
from compat_engine.shim.jsonlog import BURST, JsonLines
from compat_engine.shim.lines import PIECE
from compat_engine.shim.spec import Log

REFERENCE = [
    (b'a\tb"c\\d<e>&f\r\001\177\n', rb'{"log":"a\u0009b\"c\\d\u003ce\u003e\u0026f\r\u0001' + b'\x7f\\n"'),
    ("é\u2028😀\n".encode(), '{"log":"é\\u2028😀\\n"'.encode()),
    (b"x\377\376y\303z\342\200q\355\240\200\n", rb'{"log":"x\ufffd\ufffdy\ufffdz\ufffd\ufffdq\ufffd\ufffd\ufffd\n"'),
    ("\ufffd ok\n".encode(), '{"log":"\ufffd ok\\n"'.encode()),
    (b"\0nul\n", rb'{"log":"\u0000nul\n"'),
    (b"\b\f\v\n", rb'{"log":"\u0008\u000c\u000b\n"'),
]


def records(data: bytes, step: int = 1 << 20, stream: int = 1, attributes: str = "") -> list[bytes]:
    lines = JsonLines(stream, attributes)
    out = b"".join(lines.records(data[start : start + step]) for start in range(0, len(data), step)) + lines.end()
    return out.splitlines()


def go_text(data: bytes) -> str:
    """Each byte that is no UTF-8 becomes U+FFFD."""
    text = ""
    while data:
        try:
            return text + data.decode()
        except UnicodeDecodeError as error:
            text, data = text + data[: error.start].decode() + "\ufffd", data[error.start + 1 :]
    return text


def test_escapes_as_dockerd_writes_them() -> None:
    for raw, record in REFERENCE:
        assert records(raw)[0].startswith(record + b',"stream":"stdout","time":"')


def test_stream_attributes_and_time() -> None:
    (record,) = records(b"hi\n", stream=2, attributes='{"x":"1"}')
    assert re.fullmatch(rb'\{"log":"hi\\n","stream":"stderr","attrs":\{"x":"1"\},"time":"[0-9T:.-]+Z"\}', record)
    assert rfc3339(1_700_000_000_120_000_000) == "2023-11-14T22:13:20.12Z"
    assert rfc3339(1_700_000_000_000_000_000) == "2023-11-14T22:13:20Z"


@given(
    st.lists(st.sampled_from([b"a", b"b\n", b"\n", b'"', b"\\", b"<", b"\xc3", b"\xa9", b"\xe2\x80\xa8", b"\xff", b"\0"])),
    st.integers(1, 9),
)
def test_any_bytes_in_any_chunks_read_back(parts: list[bytes], step: int) -> None:
    data = b"".join(parts)
    want = [go_text(line) for line in data.splitlines(keepends=True)] if b"\r" not in data else []
    assert [json.loads(record)["log"] for record in records(data, step)] == want


def test_long_lines_are_cut_and_share_their_first_time() -> None:
    for step in (1, 1000, PIECE, 1 << 20):
        got = [json.loads(record) for record in records(b"s\n" + b"a" * PIECE + b"\n" + b"b" * 40000 + b"\nlast", step)]
        assert [len(item["log"]) for item in got] == [2, PIECE, 1, PIECE, PIECE, 40000 - 2 * PIECE + 1, 4]
        assert got[1]["time"] == got[2]["time"]
        assert got[3]["time"] == got[4]["time"] == got[5]["time"]


def test_small_reads_stamp_each_line_and_bursts_each_read() -> None:
    few = [json.loads(record)["time"] for record in records(b"x\n" * 100)]
    assert len(set(few)) == 100
    many = {json.loads(record)["time"] for record in records(b"x\n" * BURST)}
    assert len(many) == 1


def test_rotation(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = open_log(Log(path=str(path), max_size=1000, max_file=3), report=lambda text: None)
    log.write(1, b"".join(b"%d\n" % number for number in range(60)))
    log.close()
    files = [tmp_path / "log.2", tmp_path / "log.1", path]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    kept = [json.loads(line)["log"] for file in files for line in file.read_text().splitlines()]
    assert kept == [f"{number}\n" for number in range(60 - len(kept), 60)]
    for full in files[:2]:
        size = full.stat().st_size
        assert size >= 1000 > size - len(full.read_bytes().splitlines(keepends=True)[-1])


def test_one_file_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = open_log(Log(path=str(path), max_size=200, max_file=1), report=lambda text: None)
    log.write(1, b"line\n" * 50)
    log.close()
    assert list(tmp_path.iterdir()) == [path]
    assert 0 < path.stat().st_size < 300
