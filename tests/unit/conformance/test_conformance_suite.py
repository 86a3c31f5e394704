"""The suite's own parts, without an engine: framing, versions, selection, and that it stands alone."""

import ast
import socket
import sys
from pathlib import Path

import pytest

import conformance
from conformance import frames, image, summary
from conformance.__main__ import selected
from conformance.assertions import CheckFailed, nanoseconds, refused
from conformance.client import Address, ProtocolError, Response, Stream, decode_json_stream
from conformance.registry import Check, parse_version
from conformance.runner import Outcome, Verdict, Versions


def check(name: str = "a", since: str = "1.24", until: str = "1.99") -> Check:
    return Check("GET /x", name, parse_version(since), parse_version(until), lambda engine: None)


def answer(raw: bytes, method: str = "GET") -> tuple[Stream, bytes]:
    """A stream that has read the head of ``raw``, and its body."""
    near, far = socket.socketpair()
    with far:
        far.sendall(raw)
        far.shutdown(socket.SHUT_WR)
        with Stream(near) as stream:
            stream.read_head(method)
            return stream, stream.read_all()


def test_imports_the_standard_library_alone() -> None:
    for path in Path(conformance.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in sys.stdlib_module_names, f"{path}: {name}"


def test_chunked_body() -> None:
    stream, body = answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
    assert (stream.status, body) == (200, b"abcde")


def test_cut_bodies_are_errors() -> None:
    for raw in (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"):
        with pytest.raises(ProtocolError):
            answer(raw)


def test_hijacked_connection_is_read_to_its_end() -> None:
    stream, body = answer(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\n\r\nraw bytes", "POST")
    assert (stream.reason, body, stream.first_packet) == ("UPGRADED", b"raw bytes", b"raw bytes")


def test_frames() -> None:
    data = b"\1\0\0\0\0\0\0\2ab\2\0\0\0\0\0\0\1c\1\0\0\0\0\0\0\0"
    assert frames.decode(data) == [(1, b"ab"), (2, b"c"), (1, b"")]
    assert frames.join(data, frames.STDOUT) == b"ab"
    with pytest.raises(ProtocolError):
        frames.decode(data[:-9])


def test_json_stream() -> None:
    assert list(decode_json_stream('{"a": 1}\r\n[2] "x"')) == [{"a": 1}, [2], "x"]


def test_addresses() -> None:
    assert Address.parse("unix:///a/b").path == "/a/b"
    assert Address.parse("tcp://h").port == 2375
    with pytest.raises(ValueError, match="unsupported host"):
        Address.parse("/a/b")


def test_versions_are_chosen_by_range() -> None:
    versions = Versions((1, 24), (1, 45))
    assert versions.choose(check())[0] == [(1, 45)]
    assert versions.choose(check(until="1.41"))[0] == [(1, 41)]
    assert versions.choose(check(since="1.46")) == ([], "needs API 1.46, the engine takes up to 1.45")
    asked = Versions((1, 24), (1, 45), ((1, 30), (1, 45), (1, 51)))
    assert asked.choose(check(since="1.31"))[0] == [(1, 45)]


def test_selection_by_part_and_glob() -> None:
    checks = [check("logs.tail"), check("exec.tail")]
    assert selected(checks, []) == checks
    assert selected(checks, ["logs"]) == checks[:1]
    assert selected(checks, ["*.tail"]) == checks


def test_summary() -> None:
    outcomes = [Outcome(check("a"), "1.45", Verdict.PASSED), Outcome(check("b"), "1.45", Verdict.FAILED, "why")]
    assert summary.table(outcomes)[1].split() == ["GET", "/x", "1.45", "1", "1", "0"]
    assert summary.reasons(outcomes, Verdict.FAILED) == ["FAILED GET /x b (API 1.45): why"]
    assert summary.closing(outcomes) == "1 passed, 1 failed, 0 skipped"


def test_a_refusal_needs_status_type_and_text() -> None:
    good = Response(404, "", {"content-type": "application/json"}, b'{"message": "No such thing"}')
    refused(good, 404, "No such")
    for status, text in ((409, "No such"), (404, "else")):
        with pytest.raises(CheckFailed):
            refused(good, status, text)


def test_times_compare_whatever_their_fraction() -> None:
    assert nanoseconds("2024-01-01T00:00:00.5Z") - nanoseconds("2024-01-01T00:00:00.48Z") == 20_000_000
    assert nanoseconds("1970-01-01T00:00:01Z") == 10**9


def test_image_id_is_the_digest_of_its_config() -> None:
    layers = [image.small_layer("file", "x")]
    assert image.image_id(layers).removeprefix("sha256:").encode() in image.archive("a:1", layers)
    assert image.image_id(layers) != image.image_id(layers, {"User": "u"})
