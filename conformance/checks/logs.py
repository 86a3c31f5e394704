"""GET /containers/{id}/logs: streams, tail, time limits, timestamps and following."""

from __future__ import annotations

import calendar
import re
import time
from typing import Any

from .. import frames
from ..assertions import contains, equal, expect, matches, refused, status
from ..engine import Engine
from ..registry import check

LOGS = "GET /containers/{id}/logs"
NONE = {"NetworkMode": "none"}
STAMP = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z "


def lines_of(engine: Engine, container: str, **query: Any) -> list[bytes]:
    return frames.join(status(engine.logs(container, **query), 200).body).splitlines()


def counting(engine: Engine, lines: int = 10) -> str:
    """A finished container that logged the numbers 1 to ``lines``."""
    return engine.finish("seq", "1", str(lines)).id


@check(LOGS)
def both_streams(engine: Engine) -> None:
    container = engine.finish("sh", "-c", "echo out; echo err >&2").id
    body = engine.logs(container).body
    equal((frames.join(body, 1), frames.join(body, 2)), (b"out\n", b"err\n"), "output")


@check(LOGS)
def one_stream(engine: Engine) -> None:
    container = engine.finish("sh", "-c", "echo out; echo err >&2").id
    equal(frames.decode(engine.logs(container, stderr=0).body), [(1, b"out\n")], "stdout alone")
    equal(frames.decode(engine.logs(container, stdout=0).body), [(2, b"err\n")], "stderr alone")


@check(LOGS, since="1.42")
def content_type(engine: Engine) -> None:
    headers = engine.logs(engine.create()).headers
    equal(headers.get("content-type"), "application/vnd.docker.multiplexed-stream", "content-type")


@check(LOGS, since="1.42")
def content_type_of_a_terminal(engine: Engine) -> None:
    equal(engine.logs(engine.create(Tty=True)).headers.get("content-type"), "application/vnd.docker.raw-stream", "content-type")


@check(LOGS)
def terminal_output_is_raw(engine: Engine) -> None:
    equal(engine.finish("echo", "hello", Tty=True).stdout, "hello\r\n", "output")


@check(LOGS)
def a_stream_is_needed(engine: Engine) -> None:
    answer = engine.client.get(f"/containers/{engine.create()}/logs")
    refused(answer, 400, "Bad parameters: you must choose at least one stream")


@check(LOGS)
def nothing_was_logged(engine: Engine) -> None:
    equal(status(engine.logs(engine.create()), 200).body, b"", "body")


@check(LOGS)
def tail(engine: Engine) -> None:
    container = counting(engine)
    equal(lines_of(engine, container, tail=3), [b"8", b"9", b"10"], "tail=3")
    equal(lines_of(engine, container, tail=0), [], "tail=0")
    equal(len(lines_of(engine, container, tail=100)), 10, "lines with tail=100")
    equal(len(lines_of(engine, container, tail="all")), 10, "lines with tail=all")


@check(LOGS)
def tail_that_is_no_number_means_all(engine: Engine) -> None:
    equal(len(lines_of(engine, counting(engine), tail="x")), 10, "lines")


@check(LOGS)
def tail_of_a_long_log(engine: Engine) -> None:
    equal(lines_of(engine, counting(engine, 50_000), tail=2), [b"49999", b"50000"], "tail=2")


@check(LOGS)
def timestamps(engine: Engine) -> None:
    for line in lines_of(engine, counting(engine, 3), timestamps=1):
        expect(re.fullmatch(STAMP + rb"\d", line), f"a time with nanoseconds, then the line: {line!r}")


@check(LOGS)
def since_and_until(engine: Engine) -> None:
    container = engine.finish("sh", "-c", "echo early; sleep 2.2; echo late").id
    stamps = [line.split()[0].decode() for line in lines_of(engine, container, timestamps=1)]
    middle = _seconds(stamps[0]) + 1
    equal(lines_of(engine, container, since=middle), [b"late"], "since")
    if engine.version >= (1, 35):
        equal(lines_of(engine, container, until=middle), [b"early"], "until")
        equal(lines_of(engine, container, since=middle, until=middle), [], "both")


@check(LOGS)
def since_with_nanoseconds(engine: Engine) -> None:
    container = engine.finish("sh", "-c", "echo early; sleep 0.3; echo late").id
    late = lines_of(engine, container, timestamps=1)[1].split()[0].decode()
    fraction = late.partition(".")[2].rstrip("Z")
    equal(lines_of(engine, container, since=f"{_seconds(late)}.{fraction}"), [b"late"], "since the second line's own time")


@check(LOGS)
def since_that_is_no_time(engine: Engine) -> None:
    refused(engine.logs(engine.create(), since="x"), (400, 500), "invalid")


@check(LOGS)
def since_before_everything(engine: Engine) -> None:
    equal(len(lines_of(engine, counting(engine), since=0)), 10, "lines")


@check(LOGS)
def follow_ends_with_the_process(engine: Engine) -> None:
    container = engine.run("sh", "-c", "echo one; sleep 0.5; echo two", host=NONE)
    equal(lines_of(engine, container, follow=1), [b"one", b"two"], "lines")


@check(LOGS)
def follow_of_a_finished_container_ends(engine: Engine) -> None:
    equal(len(lines_of(engine, counting(engine), follow=1)), 10, "lines")


@check(LOGS)
def follow_delivers_at_once(engine: Engine) -> None:
    container = engine.run("sh", "-c", "sleep 0.3; echo now; sleep 1000", host=NONE)
    query = {"stdout": 1, "follow": 1}
    with engine.client.open("GET", f"/containers/{container}/logs", query) as stream:
        frames.read_payload_until(stream, b"now\n")
    expect(engine.state(container)["Running"], "the line comes while the process runs")


@check(LOGS)
def follow_sends_its_headers_at_once(engine: Engine) -> None:
    container = engine.shared
    with engine.client.open("GET", f"/containers/{container}/logs", {"stdout": 1, "follow": 1}, timeout=30) as stream:
        equal(stream.status, 200, "status")
        equal(stream.headers.get("transfer-encoding"), "chunked", "transfer-encoding")


@check(LOGS)
def follow_with_tail(engine: Engine) -> None:
    script = "seq 1 5; echo mark; until test -e /go; do sleep 0.05; done; echo last"
    container = engine.run("sh", "-c", script, host=NONE)
    engine.until_logged(container, "mark")
    query = {"stdout": 1, "follow": 1, "tail": 1}
    with engine.client.open("GET", f"/containers/{container}/logs", query) as stream:
        equal(frames.read_payload_until(stream, b"mark\n"), b"mark\n", "the tail")
        engine.touch(container, "/go")
        equal(frames.join(stream.read_all()), b"last\n", "what follows")


@check(LOGS)
def follow_ends_with_a_kill(engine: Engine) -> None:
    container = engine.run("sh", "-c", "echo ready; sleep 1000", host=NONE)
    engine.until_logged(container, "ready")
    with engine.client.open("GET", f"/containers/{container}/logs", {"stdout": 1, "follow": 1}) as stream:
        engine.kill(container)
        equal(frames.join(stream.read_all()), b"ready\n", "output")


@check(LOGS)
def logs_survive_a_restart(engine: Engine) -> None:
    container = engine.run("echo", "hello", host=NONE)
    engine.wait(container)
    engine.start(container)
    engine.wait(container)
    equal(lines_of(engine, container), [b"hello", b"hello"], "lines")


@check(LOGS)
def long_lines_stay_whole(engine: Engine) -> None:
    done = engine.finish("sh", "-c", "head -c 40000 /dev/zero | tr '\\0' a; echo")
    equal((len(done.stdout), done.stdout.strip("a")), (40_001, "\n"), "length and rest")


@check(LOGS)
def last_line_without_a_newline(engine: Engine) -> None:
    equal(engine.finish("printf", "no newline").stdout, "no newline", "output")


@check(LOGS)
def text_that_is_not_utf_8_does_no_harm(engine: Engine) -> None:
    contains(engine.finish("printf", "a\\200b\\n").stdout, "a", "output")


@check(LOGS)
def details(engine: Engine) -> None:
    host = {"LogConfig": {"Type": "json-file", "Config": {"labels": "color", "env": "SHAPE"}}, **NONE}
    container = engine.finish("echo", "x", host=host, Labels={"color": "red"}, Env=["SHAPE=round"]).id
    equal(lines_of(engine, container, details=1), [b"SHAPE=round,color=red x"], "line")


@check(LOGS)
def rotated_logs_are_read(engine: Engine) -> None:
    host = {"LogConfig": {"Type": "json-file", "Config": {"max-size": "20k", "max-file": "3"}}, **NONE}
    container = engine.finish("seq", "1", "2000", host=host).id
    seen = [int(line) for line in lines_of(engine, container)]
    equal(seen, list(range(seen[0], 2001)), "the newest lines without a gap")
    expect(1 < seen[0] < 1900, f"the oldest are gone: the first is {seen[0]}")


@check(LOGS)
def driver_local_is_read(engine: Engine) -> None:
    host = {"LogConfig": {"Type": "local", "Config": {"max-size": "20k", "max-file": "3"}}, **NONE}
    container = engine.finish("seq", "1", "5000", host=host).id
    seen = [int(line) for line in lines_of(engine, container)]
    equal(seen, list(range(seen[0], 5001)), "the newest lines without a gap")
    expect(1 < seen[0] < 4800, f"the oldest are gone: the first is {seen[0]}")
    equal([int(line) for line in lines_of(engine, container, tail=900)], seen[-900:], "the tail")
    equal(engine.inspect(container)["LogPath"], "", "path")


@check(LOGS)
def tags_and_expressions(engine: Engine) -> None:
    options = {"labels-regex": "^co", "env-regex": "^SH", "tag": "{{.DaemonName}}={{upper .ImageName}}"}
    host = {"LogConfig": {"Type": "json-file", "Config": options}, **NONE}
    container = engine.finish("echo", "x", host=host, Labels={"color": "red"}, Env=["SHAPE=round"]).id
    image = engine.inspect(container)["Config"]["Image"].upper().replace("/", "%2F").replace(":", "%3A")
    equal(lines_of(engine, container, details=1), [f"SHAPE=round,color=red,tag=docker%3D{image} x".encode()], "line")


@check(LOGS)
def driver_none_cannot_be_read(engine: Engine) -> None:
    container = engine.create("true", host={"LogConfig": {"Type": "none"}, **NONE})
    engine.start(container)
    engine.wait(container)
    refused(engine.logs(container), (400, 500, 501), "configured logging driver does not support reading")


def _seconds(stamp: str) -> int:
    matches(r"\d{4}-.*", stamp, "time stamp")
    return calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))
