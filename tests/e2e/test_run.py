"""`docker run`: what goes in, what comes out, and the options that describe the process."""

from pathlib import Path

import pytest

from tests.support.docker import Docker, eventually


def test_output_goes_to_its_own_stream(docker: Docker) -> None:
    result = docker.run("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (result.returncode, result.stdout, result.stderr) == (0, "out\n", "err\n")


def test_default_command_and_environment_come_from_the_image(docker: Docker) -> None:
    assert docker("run", "--rm", "-i", "busybox", input="echo $0 $PATH\n") == "sh /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.mark.parametrize("code", [1, 42, 255])
def test_exit_code_is_the_command_s(docker: Docker, code: int) -> None:
    assert docker.run("run", "--rm", "busybox", "sh", "-c", f"exit {code}").returncode == code


def test_death_by_a_signal_is_128_more(docker: Docker) -> None:
    assert docker.run("run", "--rm", "--init", "busybox", "sh", "-c", "kill -9 $$").returncode == 137


def test_missing_command_is_127(docker: Docker) -> None:
    error = docker.fails("run", "--rm", "busybox", "no-such-command", code=127)
    assert 'exec: "no-such-command": executable file not found in $PATH' in error


def test_a_file_that_cannot_run_is_126(docker: Docker) -> None:
    assert "permission denied" in docker.fails("run", "--rm", "busybox", "/etc/passwd", code=126)


def test_a_refused_option_is_125_and_leaves_no_container(docker: Docker, unique: str) -> None:
    assert "Minimum memory limit" in docker.fails("run", "--name", unique, "-m", "1k", "busybox", "true", code=125)
    assert docker("ps", "-aq", "--filter", f"name={unique}") == ""


def test_a_failed_start_leaves_a_created_container_with_the_reason(docker: Docker, unique: str) -> None:
    docker.fails("run", "--name", unique, "busybox", "no-such-command", code=127)
    state = docker.inspect(unique)["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", 127)
    assert "no-such-command" in state["Error"]


def test_missing_image_says_so(docker: Docker) -> None:
    assert "No such image" in docker.fails("create", "--pull", "never", "no-such-image:1")


def test_detached_prints_the_id_and_runs_on(docker: Docker) -> None:
    id = docker("run", "-d", "busybox", "sleep", "60")
    assert len(id) == 64
    assert docker.state(id[:12]) == "running"


def test_rm_removes_it_when_it_ends(docker: Docker, unique: str) -> None:
    docker("run", "--rm", "-d", "--name", unique, "busybox", "true")
    eventually(lambda: docker("ps", "-aq", "--filter", f"name={unique}") == "")


def test_name_is_taken_once(docker: Docker, unique: str) -> None:
    first = docker("create", "--name", unique, "busybox")
    error = docker.fails("create", "--name", unique, "busybox")
    assert f'The container name "/{unique}" is already in use by container "{first}"' in error


def test_a_name_is_checked(docker: Docker) -> None:
    assert "Invalid container name (a/b)" in docker.fails("create", "--name", "a/b", "busybox")


def test_names_are_made_up_when_not_given(docker: Docker) -> None:
    assert "_" in docker.inspect(docker("create", "busybox"))["Name"]


def test_environment(docker: Docker, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\nFROM_FILE=a b\nFROM_HOST\nOVER=file\n")
    args = ["-e", "GIVEN=x=y", "-e", "EMPTY=", "-e", "OVER=flag", "--env-file", str(file), "-h", "box"]
    env = docker.run("run", "--rm", *args, "busybox", "env", env={"FROM_HOST": "host"}).stdout.splitlines()
    assert {"GIVEN=x=y", "EMPTY=", "OVER=flag", "FROM_FILE=a b", "FROM_HOST=host", "HOSTNAME=box", "HOME=/root"} <= set(env)


def test_tty_sets_term(docker: Docker) -> None:
    assert "TERM=xterm" in docker("run", "--rm", "-t", "busybox", "env")


def test_working_directory_is_made(docker: Docker) -> None:
    assert docker("run", "--rm", "-w", "/a/b", "busybox", "pwd") == "/a/b"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("nobody", "uid=65534(nobody) gid=65534(nobody) groups=65534(nobody)"),
        ("33", "uid=33(www-data) gid=33(www-data) groups=33(www-data)"),
        ("www-data:users", "uid=33(www-data) gid=100(users) groups=100(users)"),
        ("1234", "uid=1234 gid=0(root) groups=0(root)"),
        ("1234:5678", "uid=1234 gid=5678 groups=5678"),
    ],
)
def test_user(docker: Docker, user: str, expected: str) -> None:
    assert docker("run", "--rm", "-u", user, "busybox", "id").replace("nogroup", "nobody") == expected


def test_home_follows_the_user(docker: Docker) -> None:
    assert docker("run", "--rm", "-u", "www-data", "busybox", "sh", "-c", "echo $HOME") == "/var/www"


def test_unknown_user_is_refused(docker: Docker) -> None:
    assert "unable to find user nosuch" in docker.fails("run", "--rm", "-u", "nosuch", "busybox", "true")


def test_group_add(docker: Docker) -> None:
    assert set(docker("run", "--rm", "--group-add", "disk", "--group-add", "4242", "busybox", "id", "-G").split()) >= {"0", "6", "4242"}


def test_entrypoint(docker: Docker) -> None:
    assert docker("run", "--rm", "--entrypoint", "echo", "busybox", "a", "b") == "a b"
    assert docker("run", "--rm", "--entrypoint", "", "busybox", "echo", "c") == "c"


def test_hostname_and_domain(docker: Docker) -> None:
    command = "hostname; cat /proc/sys/kernel/domainname; cat /etc/hostname; grep box /etc/hosts"
    lines = docker("run", "--rm", "-h", "box", "--domainname", "example.test", "busybox", "sh", "-c", command).splitlines()
    assert lines[:3] == ["box", "example.test", "box"]
    assert lines[3].split()[1:] == ["box.example.test", "box"]


def test_hostname_defaults_to_the_short_id(docker: Docker, tmp_path: Path) -> None:
    file = tmp_path / "cid"
    assert docker("run", "--cidfile", str(file), "busybox", "hostname") == file.read_text()[:12]


def test_labels(docker: Docker, tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_text("from=file\n")
    labels = docker.inspect(docker("create", "-l", "a=1", "-l", "bare", "--label-file", str(file), "busybox"))["Config"]["Labels"]
    assert (labels["a"], labels["bare"], labels["from"]) == ("1", "", "file")


def test_standard_input_reaches_the_command_and_ends(docker: Docker) -> None:
    assert docker("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo end", input="line\n") == "line\nend"


def test_without_i_standard_input_is_empty(docker: Docker) -> None:
    assert docker("run", "--rm", "busybox", "sh", "-c", "cat; echo end", input="line\n") == "end"


def test_a_terminal(docker: Docker) -> None:
    with docker.terminal("run", "--rm", "-it", "busybox", "sh", rows=31, columns=101) as terminal:
        terminal.expect("# ")
        terminal.send("tty; stty size\n")
        assert "/dev/pts/0" in terminal.expect("31 101")
        terminal.resize_shell(40, 120)
        terminal.send("echo go''on; sleep 50\n")
        terminal.expect("goon")
        terminal.send("\x03")
        terminal.expect("# ")
        terminal.send("exit 7\n")
        assert terminal.wait() == 7


def test_tty_alone_makes_lines_end_in_crlf(docker: Docker) -> None:
    result = docker.start("run", "--rm", "-t", "busybox", "sh", "-c", "test -t 1 && echo tty; echo err >&2")
    out, err = result.communicate(timeout=60)
    assert (out, err) == (b"tty\r\nerr\r\n", b"")


def test_init_is_process_one_and_reaps(docker: Docker, unique: str) -> None:
    docker("run", "-d", "--init", "--name", unique, "busybox", "sh", "-c", "(sleep 0.1 & echo $! > /orphan); sleep 60")
    docker.until(unique, "test -s /orphan")
    docker.until(unique, "! test -e /proc/$(cat /orphan)")  # a zombie is still there
    assert docker("exec", unique, "cat", "/proc/1/comm") != "sh"
    assert docker.inspect(unique)["HostConfig"]["Init"] is True


def test_init_passes_signals_on(docker: Docker, unique: str) -> None:
    docker("run", "-d", "--init", "--name", unique, "busybox", "sleep", "60")
    docker("stop", "-t", "20", unique)
    assert docker.inspect(unique)["State"]["ExitCode"] == 143


def test_read_only(docker: Docker) -> None:
    script = "touch /x 2>&1; touch /dev/shm/y && echo shm; touch /tmp/z && echo tmp"
    out = docker("run", "--rm", "--read-only", "--tmpfs", "/tmp", "busybox", "sh", "-c", script)
    assert "Read-only file system" in out
    assert out.splitlines()[1:] == ["shm", "tmp"]


def test_cidfile(docker: Docker, tmp_path: Path) -> None:
    file = tmp_path / "cid"
    docker("run", "--cidfile", str(file), "busybox", "true")
    assert docker.inspect(file.read_text())["Id"] == file.read_text()


def test_stop_signal_and_timeout(docker: Docker, unique: str) -> None:
    script = "trap 'exit 9' USR1; touch /ready; while :; do sleep 0.1; done"
    docker("run", "-d", "--name", unique, "--stop-signal", "USR1", "--stop-timeout", "30", "busybox", "sh", "-c", script)
    config = docker.inspect(unique)["Config"]
    assert (config["StopSignal"], config["StopTimeout"]) == ("USR1", 30)
    docker.until(unique, "test -e /ready")
    docker("stop", unique)
    assert docker.inspect(unique)["State"]["ExitCode"] == 9


def test_stop_timeout_ends_in_kill(docker: Docker, unique: str) -> None:
    docker("run", "-d", "--name", unique, "--stop-timeout", "1", "busybox", "sleep", "60")
    docker("stop", unique)
    assert docker.inspect(unique)["State"]["ExitCode"] == 137


def test_what_the_command_changed_is_kept_until_removal(docker: Docker, unique: str) -> None:
    docker("run", "--name", unique, "busybox", "sh", "-c", "test -e /kept && echo again; touch /kept")
    assert docker("start", "-a", unique) == "again"


def test_much_output_arrives_whole(docker: Docker) -> None:
    out = docker("run", "--rm", "busybox", "sh", "-c", "seq 1 200000")
    assert out.splitlines() == [str(number) for number in range(1, 200001)]


def test_binary_passes_both_ways_unchanged(docker: Docker) -> None:
    data = bytes(range(256)) * 20000
    process = docker.start("run", "--rm", "-i", "busybox", "cat")
    out, _ = process.communicate(data, timeout=60)
    assert out == data


def test_inspect_echoes_what_was_asked(docker: Docker) -> None:
    args = ["-e", "A=1", "-w", "/w", "-u", "33", "--entrypoint", "sleep", "-h", "box", "--expose", "81"]
    found = docker.inspect(docker("create", *args, "busybox", "9"))
    config = found["Config"]
    assert (config["Env"][0], config["WorkingDir"], config["User"], config["Hostname"]) == ("A=1", "/w", "33", "box")
    assert (config["Entrypoint"], config["Cmd"], config["Image"], config["ExposedPorts"]) == (["sleep"], ["9"], "busybox", {"81/tcp": {}})
    assert (found["Path"], found["Args"], found["State"]["Status"], found["Driver"]) == ("sleep", ["9"], "created", "overlay2")


def test_a_variable_without_a_value_removes_what_the_engine_sets(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("B=1\n")
    args = ["--network", "none", "--env-file", str(tmp_path / "env"), "-e", "B", "-e", "HOSTNAME"]
    shown = docker("run", "--rm", *args, "busybox", "/bin/env").split()
    assert "B=1" in shown
    assert not [word for word in shown if word.startswith("HOSTNAME=")]


def test_a_directory_does_not_cover_a_file(docker: Docker) -> None:
    said = docker.fails("run", "--rm", "--network", "none", "-v", "/etc:/etc/passwd", "busybox", "true", code=125)
    assert "Are you trying to mount a directory onto a file (or vice-versa)?" in said


def test_a_directory_of_devices(docker: Docker) -> None:
    """What else is in it is left out."""
    assert docker("run", "--rm", "--network", "none", "--device", "/dev:/dev2", "busybox", "ls", "/dev2/null") == "/dev2/null"
