"""`docker logs` and the json-file it reads."""

import json
import os
import re
from pathlib import Path

import pytest

from tests.support.docker import Docker, eventually, readable

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


def finished(docker: Docker, script: str, *args: str) -> str:
    """The id of a container that ran `script` to its end."""
    id = docker("run", "-d", *args, "busybox", "sh", "-c", script)
    docker("wait", id)
    return id


def test_both_streams_after_the_end(docker: Docker) -> None:
    id = finished(docker, "echo out; echo err >&2; printf last")
    result = docker.run("logs", id)
    assert (result.stdout, result.stderr) == ("out\nlast", "err\n")


def test_tail(docker: Docker) -> None:
    id = finished(docker, "seq 1 3000")
    assert docker("logs", "--tail", "3", id).split() == ["2998", "2999", "3000"]
    assert docker("logs", "--tail", "0", id) == ""
    assert len(docker("logs", "--tail", "all", id).split()) == 3000
    assert len(docker("logs", "-n", "5000", id).split()) == 3000


def test_timestamps(docker: Docker) -> None:
    id = finished(docker, "echo a; sleep 0.1; echo b")
    first, second = (line.split(" ") for line in docker("logs", "-t", id).splitlines())
    assert STAMP.fullmatch(first[0])
    assert STAMP.fullmatch(second[0])
    assert first[0] < second[0]
    assert (first[1], second[1]) == ("a", "b")


def test_since_and_until(docker: Docker) -> None:
    id = finished(docker, "echo a; sleep 0.1; echo b; sleep 0.1; echo c")
    stamps = [line.split(" ")[0] for line in docker("logs", "-t", id).splitlines()]
    assert docker("logs", "--since", stamps[1], id).split() == ["b", "c"]
    assert docker("logs", "--until", stamps[1], id).split() == ["a", "b"]
    assert docker("logs", "--since", stamps[1], "--until", stamps[1], id) == "b"
    assert docker("logs", "--since", "10m", id).split() == ["a", "b", "c"]


def test_follow_ends_with_the_container(docker: Docker) -> None:
    id = docker("run", "-d", "busybox", "sh", "-c", "for i in 1 2 3 4 5; do echo $i; sleep 0.1; done")
    assert docker("logs", "-f", id).split() == ["1", "2", "3", "4", "5"]


def test_follow_shows_a_line_at_once(docker: Docker, unique: str) -> None:
    docker("run", "-d", "-i", "--name", unique, "busybox", "cat")
    follower = docker.start("logs", "-f", "--tail", "0", unique)
    writer = docker.start("attach", unique)
    assert writer.stdin is not None and follower.stdout is not None
    while not readable(follower.stdout):  # it is not following yet
        writer.stdin.write(b"hello\n")
    assert follower.stdout.readline() == b"hello\n"
    for process in (follower, writer):
        process.kill()
        process.communicate()


def test_follow_from_the_middle(docker: Docker) -> None:
    id = docker("run", "-d", "busybox", "sh", "-c", "seq 1 100; until test -e /go; do sleep 0.02; done; seq 101 200")
    eventually(lambda: docker("logs", "--tail", "1", id) == "100")
    follower = docker.start("logs", "-f", "--tail", "2", id)
    assert follower.stdout is not None and follower.stdout.readline() == b"99\n"
    docker("exec", id, "touch", "/go")
    assert follower.communicate(timeout=60)[0].split() == [b"%d" % number for number in range(100, 201)]


def test_logs_of_a_terminal(docker: Docker) -> None:
    id = finished(docker, "echo a; echo b >&2", "-t")
    assert docker("logs", id).splitlines() == ["a", "b"]


def test_logs_of_a_container_never_started(docker: Docker) -> None:
    assert docker("logs", docker("create", "busybox")) == ""


def test_lines_longer_than_a_record_come_back_whole(docker: Docker) -> None:
    id = finished(docker, "head -c 100000 /dev/zero | tr '\\0' x; echo; echo short")
    assert docker("logs", id) == "x" * 100000 + "\nshort"


def test_any_text_comes_back_unchanged(docker: Docker) -> None:
    text = "tab\tquote\" back\\slash <&> \x01\x1b[0m ünïcödé 漢字 🎉 \u2028"
    id = docker("run", "-d", "-e", f"T={text}", "busybox", "sh", "-c", 'echo "$T"')
    docker("wait", id)
    assert docker("logs", id) == text


def test_a_second_run_adds_to_the_log(docker: Docker) -> None:
    id = finished(docker, "echo once more")
    docker("start", "-a", id)
    assert docker("logs", id).splitlines() == ["once more", "once more"]


def test_the_file_has_docker_s_format(docker: Docker) -> None:
    id = finished(docker, "echo out; echo err >&2; printf end")
    path = Path(docker.inspect(id)["LogPath"])
    if not path.exists():
        assert os.environ.get("COMPAT_TEST_HOST"), f"{path} does not exist"
        pytest.skip("the other engine has a root directory of its own")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted((record["stream"], record["log"]) for record in records) == [("stderr", "err\n"), ("stdout", "end"), ("stdout", "out\n")]
    assert all(STAMP.fullmatch(record["time"]) or record["time"].endswith("Z") for record in records)
    assert all(list(record) == ["log", "stream", "time"] for record in records)


def test_rotation(docker: Docker) -> None:
    args = ["--log-opt", "max-size=20k", "--log-opt", "max-file=3"]
    id = finished(docker, "seq 1 3000", *args)
    shown = docker("logs", id).split()
    assert shown[-1] == "3000"
    assert 300 < len(shown) < 1500
    assert [int(number) for number in shown] == list(range(int(shown[0]), 3001))
    path = Path(docker.inspect(id)["LogPath"])
    if path.parent.exists():
        assert sorted(file.name for file in path.parent.glob("*-json.log*")) == [path.name, f"{path.name}.1", f"{path.name}.2"]


def test_no_log_no_logs(docker: Docker) -> None:
    id = finished(docker, "echo x", "--log-driver", "none")
    assert "configured logging driver does not support reading" in docker.fails("logs", id)


def test_an_unknown_driver_is_refused(docker: Docker) -> None:
    said = docker.fails("run", "--rm", "--log-driver", "nosuch", "busybox", "true", code=125)
    assert 'error looking up logging plugin nosuch: plugin "nosuch" not found' in said


def test_a_bad_option_is_refused(docker: Docker) -> None:
    assert "unknown log opt 'nosuch'" in docker.fails("create", "--log-opt", "nosuch=1", "busybox")


def test_a_bad_value_fails_the_start(docker: Docker) -> None:
    id = docker("create", "--log-opt", "max-file=0", "busybox")
    words = "failed to create task for container: failed to initialize logging driver: max-file cannot be less than 1"
    assert words in docker.fails("start", id)
    assert docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", id) == f"created 128 {words}"


@pytest.mark.parametrize("driver", ["local", "json-file"])
def test_compressed_rotation(docker: Docker, driver: str) -> None:
    args = ["--log-driver", driver, "--log-opt", "max-size=20k", "--log-opt", "max-file=3", "--log-opt", "compress=true"]
    id = finished(docker, "seq 1 5000", *args)
    shown = docker("logs", id).split()
    assert 400 < len(shown) < 3000
    assert [int(number) for number in shown] == list(range(int(shown[0]), 5001))
    assert docker("logs", "--tail", "350", id).split() == shown[-350:]
    assert docker("logs", "--since", "10m", id).split() == shown


def test_compression_stays_out_of_the_container(docker: Docker) -> None:
    """What compresses is no process of the container's, and execs afterwards still are."""
    script = "seq 1 9000; echo last; exec sleep 1000"
    id = docker("run", "-d", "--log-driver", "local", "--log-opt", "max-size=20k", "busybox", "sh", "-c", script)
    eventually(lambda: docker("logs", "--tail", "1", id) == "last")
    assert docker("exec", id, "sh", "-c", "readlink /proc/self/ns/pid") == docker("exec", id, "readlink", "/proc/1/ns/pid")
    assert docker("exec", id, "ps", "-o", "comm").split() == ["COMMAND", "sleep", "ps"]


def test_the_local_driver(docker: Docker) -> None:
    id = finished(docker, "echo one; echo; printf 'three and\\n no end'", "--log-driver", "local")
    assert docker("logs", id) == "one\n\nthree and\n no end"
    assert docker("logs", "--tail", "1", id) == " no end"
    assert docker("inspect", "-f", "[{{.LogPath}}] {{.HostConfig.LogConfig.Type}}", id) == "[] local"


def test_follow_a_local_log(docker: Docker) -> None:
    id = docker("run", "-d", "--log-driver", "local", "busybox", "sh", "-c", "seq 1 9; until test -e /go; do sleep 0.02; done; seq 10 90")
    eventually(lambda: docker("logs", "--tail", "1", id) == "9")
    follower = docker.start("logs", "-f", "--tail", "2", id)
    assert follower.stdout is not None and follower.stdout.readline() == b"8\n"
    docker("exec", id, "touch", "/go")
    assert follower.communicate(timeout=60)[0].split() == [b"%d" % number for number in range(9, 91)]


def test_a_log_that_never_blocks(docker: Docker) -> None:
    args = ["--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=10m"]
    id = finished(docker, "seq 1 1000", *args)
    assert docker("logs", id).split() == [str(number) for number in range(1, 1001)]


def test_details(docker: Docker) -> None:
    id = finished(docker, "echo x", "--log-opt", "env=A", "-e", "A=1")
    assert docker("logs", "--details", id) == "A=1 x"


def test_details_of_expressions_and_a_tag(docker: Docker) -> None:
    options = {"labels-regex": "^a", "env-regex": "^B", "env": "C", "tag": "{{.ImageName}}/{{.DaemonName}} {{upper .Name}}"}
    args = [word for name, value in options.items() for word in ("--log-opt", f"{name}={value}")]
    id = finished(docker, "echo x", *args, "-l", "ab=1 2", "-l", "b=2", "-e", "B=<", "-e", "C=", "-e", "D=3")
    tag = "busybox%2Fdocker+" + docker("inspect", "-f", "{{.Name}}", id).removeprefix("/").upper()
    assert docker("logs", "--details", id) == f"B=%3C,C=,ab=1+2,tag={tag} x"
