"""`docker attach`: streams, detaching, clients that leave or stop reading."""

import time
from itertools import takewhile

from tests.support.docker import Docker, eventually, readable

ECHO = "while read line; do echo \"got $line\"; done; echo bye"


def test_it_sees_what_comes_and_the_exit_code(docker: Docker, unique: str) -> None:
    docker("run", "-d", "-i", "--name", unique, "busybox", "sh", "-c", "read a; echo got $a; read b; echo bye; exit 6")
    process = docker.start("attach", unique)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"a\n")
    assert process.stdout.readline() == b"got a\n"
    process.stdin.write(b"b\n")
    assert process.stdout.readline() == b"bye\n"
    assert process.wait(60) == 6
    process.communicate()


def test_two_at_once_see_the_same(docker: Docker, unique: str) -> None:
    docker("run", "-d", "-i", "--name", unique, "busybox", "sh", "-c", ECHO)
    first, second = docker.start("attach", unique), docker.start("attach", "--no-stdin", unique)
    assert first.stdin is not None and first.stdout is not None and second.stdout is not None
    while not readable(second.stdout):  # it is not attached yet
        first.stdin.write(b"x\n")
    first.stdin.write(b"y\n")
    for stream in (first.stdout, second.stdout):
        assert set(takewhile(lambda line: line != b"got y\n", stream)) == {b"got x\n"}
    docker("kill", unique)
    for process in (first, second):
        process.communicate(timeout=60)
        assert process.returncode == 137


def test_detach_keys(docker: Docker, unique: str) -> None:
    with docker.terminal("run", "-it", "--name", unique, "busybox", "sh") as terminal:
        terminal.expect("# ")
        terminal.send("\x10\x11")
        terminal.wait()
    assert docker.state(unique) == "running"
    with docker.terminal("attach", "--detach-keys", "ctrl-x,x", unique) as terminal:
        terminal.send("echo b''ack\n")
        terminal.expect("back")
        terminal.send("\x18x")
        terminal.wait()
    assert docker.state(unique) == "running"


def test_a_killed_client_does_not_stop_the_container(docker: Docker, unique: str) -> None:
    process = docker.start("run", "-i", "--name", unique, "busybox", "sh", "-c", "while :; do echo tick; sleep 0.1; done")
    assert process.stdout is not None
    assert process.stdout.readline() == b"tick\n"
    process.kill()
    process.communicate()
    time.sleep(0.5)
    assert docker.state(unique) == "running"
    assert docker("logs", "--tail", "1", unique) == "tick"


def test_a_client_that_stops_reading_does_not_stop_others(docker: Docker, unique: str) -> None:
    docker("run", "-d", "-i", "--name", unique, "busybox", "sh", "-c", "read go; seq 1 400000; sleep 60")
    deaf = docker.start("attach", unique)
    assert deaf.stdin is not None
    deaf.stdin.write(b"go\n")
    time.sleep(1)
    assert docker("exec", unique, "echo", "alive") == "alive"
    assert docker.state(unique) == "running"
    deaf.kill()
    deaf.communicate()
    eventually(lambda: docker("logs", "--tail", "1", unique) == "400000")


def test_signals_are_passed_on(docker: Docker, unique: str) -> None:
    script = "trap 'echo hup; exit 4' HUP; echo up; while :; do sleep 0.1; done"
    process = docker.start("run", "--name", unique, "busybox", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(1)
    out, _ = process.communicate(timeout=60)
    assert (out, process.returncode) == (b"hup\n", 4)


def test_start_attached_and_interactive(docker: Docker, unique: str) -> None:
    docker("create", "-i", "--name", unique, "busybox", "sh", "-c", "cat; exit 2")
    result = docker.run("start", "-ai", unique, input="text")
    assert (result.stdout, result.returncode) == ("text", 2)


def test_attaching_to_a_stopped_container_is_refused(docker: Docker, unique: str) -> None:
    docker("create", "--name", unique, "busybox")
    assert "cannot attach to a stopped container" in docker.fails("attach", unique)


def test_stdin_stays_open_for_the_next_client(docker: Docker, unique: str) -> None:
    docker("run", "-d", "-i", "--name", unique, "busybox", "sh", "-c", ECHO)
    for word in ("one", "two"):
        process = docker.start("attach", unique)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(word.encode() + b"\n")
        assert process.stdout.readline() == f"got {word}\n".encode()
        process.kill()
        process.communicate()
    assert docker.state(unique) == "running"
