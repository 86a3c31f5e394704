"""`docker exec`: a second process in a running container."""

from pathlib import Path

import pytest

from tests.support.docker import Docker, eventually


@pytest.fixture
def box(docker: Docker, unique: str) -> str:
    """A running container with something of its own in every place an exec could inherit from."""
    args = ["-e", "OWN=1", "-w", "/tmp", "-h", "box"]
    docker("run", "-d", "--name", unique, *args, "busybox", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.2; done")
    return unique


def test_output_and_exit_code(docker: Docker, box: str) -> None:
    result = docker.run("exec", box, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (result.returncode, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_it_inherits_the_container_s_settings(docker: Docker, box: str) -> None:
    assert docker("exec", box, "sh", "-c", "echo $OWN $HOSTNAME $(pwd) $HOME $(hostname)") == "1 box /tmp /root box"


def test_options(docker: Docker, box: str, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("FILE=f\n")
    args = ["-e", "MORE=2", "--env-file", str(file), "-w", "/etc", "-u", "33:100"]
    assert docker("exec", *args, box, "sh", "-c", "echo $OWN $MORE $FILE $(pwd) $(id -u):$(id -g)") == "1 2 f /etc 33:100"


def test_it_shares_every_namespace(docker: Docker, box: str) -> None:
    script = "for n in mnt pid net uts ipc cgroup; do readlink /proc/1/ns/$n; readlink /proc/self/ns/$n; done"
    lines = docker("exec", box, "sh", "-c", script).splitlines()
    assert len(lines) == 12
    assert lines[::2] == lines[1::2]
    cgroups = docker("exec", box, "cat", "/proc/1/cgroup", "/proc/self/cgroup").splitlines()
    assert len(set(cgroups)) * 2 == len(cgroups)


def test_it_has_the_container_s_privileges(docker: Docker, box: str) -> None:
    out = docker("exec", box, "sh", "-c", "grep -E '^(CapEff|Seccomp):' /proc/self/status").split()
    assert out == ["CapEff:", "00000000a80425fb", "Seccomp:", "2"]


def test_privileged(docker: Docker, box: str) -> None:
    own = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    assert docker("exec", "--privileged", box, "grep", "CapEff", "/proc/self/status").split()[1] == own


def test_standard_input(docker: Docker, box: str) -> None:
    assert docker("exec", "-i", box, "cat", input="text") == "text"
    assert docker("exec", box, "cat", input="text") == ""


def test_much_data_both_ways(docker: Docker, box: str) -> None:
    data = bytes(range(256)) * 20000
    process = docker.start("exec", "-i", box, "cat")
    assert process.communicate(data, timeout=60)[0] == data


def test_detached(docker: Docker, box: str) -> None:
    assert docker("exec", "-d", box, "sh", "-c", "sleep 0.2; echo done > /tmp/flag") == ""
    eventually(lambda: docker.run("exec", box, "cat", "/tmp/flag").stdout == "done\n")


def test_a_terminal(docker: Docker, box: str) -> None:
    with docker.terminal("exec", "-it", box, "sh", rows=30, columns=90) as terminal:
        terminal.expect("# ")
        terminal.send("tty; stty size\n")
        assert "/dev/pts/" in terminal.expect("30 90")
        terminal.resize_shell(50, 130)
        terminal.send("exit 5\n")
        assert terminal.wait() == 5


def test_detach_keys_leave_it_running(docker: Docker, box: str) -> None:
    with docker.terminal("exec", "-it", "--detach-keys", "ctrl-a,d", box, "sh", "-c", "echo up; sleep 55") as terminal:
        terminal.expect("up")
        terminal.send("\x01d")
        terminal.wait()
    assert "sleep 55" in docker("exec", box, "ps")


def test_missing_command(docker: Docker, box: str) -> None:
    result = docker.run("exec", box, "no-such-command")
    assert result.returncode in (126, 127)  # 126 up to Docker 26
    assert 'exec: "no-such-command": executable file not found in $PATH' in result.stdout + result.stderr


def test_a_file_that_cannot_run_is_126(docker: Docker, box: str) -> None:
    result = docker.run("exec", box, "/etc/passwd")
    assert result.returncode == 126
    assert "permission denied" in result.stdout + result.stderr


def test_not_in_a_stopped_container(docker: Docker, unique: str) -> None:
    id = docker("create", "--name", unique, "busybox")
    assert f"container {id} is not running" in docker.fails("exec", unique, "true", code=1).lower()


def test_not_in_a_paused_container(docker: Docker, box: str) -> None:
    docker("pause", box)
    assert "is paused" in docker.fails("exec", box, "true")
    docker("unpause", box)
    docker("exec", box, "true")


def test_not_in_a_missing_container(docker: Docker) -> None:
    assert "No such container: nosuch" in docker.fails("exec", "nosuch", "true")


def test_it_ends_with_the_container(docker: Docker, box: str) -> None:
    process = docker.start("exec", box, "sleep", "60")
    eventually(lambda: "sleep 60" in docker("exec", box, "ps"))
    docker("kill", box)
    assert process.wait(60) == 137
    process.communicate()


def test_many_at_once(docker: Docker, box: str) -> None:
    processes = [docker.start("exec", box, "sh", "-c", f"echo {number}; exit {number}") for number in range(20)]
    for number, process in enumerate(processes):
        assert (process.communicate(timeout=60)[0], process.returncode) == (b"%d\n" % number, number)
