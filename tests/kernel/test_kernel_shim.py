"""Launcher, shim, init and exec on the real kernel, with the test as the daemon. Needs root and a static busybox."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compat_engine.runtime.seccomp import compile_text, default_profile
from compat_engine.shim import channel, protocol
from compat_engine.shim.spec import CgroupDir, Log, Mount, Namespaces, Overlay, Rlimit, Spec, User
from tests.support.docker import eventually
from tests.support.shims import DOCKER_CAPS, MOUNTS, Container, Daemon, frames, joined, process, read_all

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("busybox"), reason="needs root and busybox")


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("shims"))
    yield daemon
    daemon.close()


@pytest.fixture
def daemon(launched: Daemon) -> Iterator[Daemon]:
    yield launched
    assert launched.release() == []


def _alive(pid: int) -> bool:
    return pid > 0 and os.path.exists(f"/proc/{pid}")


def output(container: Container) -> str:
    return "".join(line["log"] for line in container.logs())


def run(daemon: Daemon, *args: str, **changes: Any) -> str:
    container = daemon.start(*args, **changes)
    exited = container.exited()
    assert exited["code"] == 0, output(container)
    return output(container)


def test_exit_code_log_and_record(daemon: Daemon) -> None:
    container = daemon.start("sh", "-c", "echo out; echo err >&2; exit 3")
    exited = container.exited()
    assert (exited["code"], exited["oom"]) == (3, False)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", exited["time"])
    assert sorted((line["stream"], line["log"]) for line in container.logs()) == [("stderr", "err\n"), ("stdout", "out\n")]
    assert protocol.EXIT in os.listdir(container.bundle)
    assert container.report() == ""


def test_inside(daemon: Daemon) -> None:
    text = run(
        daemon, "sh", "-c", "hostname; pwd; echo $HOME; grep -E 'Cap|Sig[BI]|Groups' /proc/self/status; ls /proc/self/fd | wc -l"
    )
    assert text.splitlines()[:3] == ["box", "/", "/root"]
    assert "CapEff:\t00000000a80425fb" in text
    assert "CapBnd:\t00000000a80425fb" in text
    assert "SigIgn:\t0000000000000000" in text
    assert "Groups:\t0 10 \n" in text
    assert text.endswith("4\n")  # stdio and ls's own


def test_mounts_masks_and_read_only(daemon: Daemon) -> None:
    text = run(daemon, "sh", "-c", "cat /proc/mounts; ls -l /dev; touch /x || true", readonly_rootfs=True)
    assert "overlay / overlay ro," in text
    assert "proc /proc/sys proc ro,nosuid,nodev,noexec,relatime" in text
    assert "tmpfs /proc/keys tmpfs" in text
    assert "touch: /x: Read-only file system" in text
    assert "ptmx -> pts/ptmx" in text and "fd -> /proc/self/fd" in text


def test_a_user_has_no_capabilities_but_its_directory(daemon: Daemon) -> None:
    text = run(
        daemon, "sh", "-c", "id; pwd; grep -E 'Cap' /proc/self/status; echo fine > /dev/stdout", user=User("www"), cwd="/a/b"
    )
    assert "uid=33(www) gid=33(www) groups=26(tape),33(www)" in text
    assert "\n/a/b\n" in text and "CapEff:\t0000000000000000" in text and "fine\n" in text


def test_ambient_capabilities_reach_a_user(daemon: Daemon) -> None:
    caps = ("CAP_NET_BIND_SERVICE",)
    text = run(
        daemon,
        "grep",
        "Cap",
        "/proc/self/status",
        user=User("33"),
        caps_ambient=caps,
        caps_inheritable=caps,
        caps_bounding=DOCKER_CAPS,
    )
    assert "CapEff:\t0000000000000400" in text and "CapAmb:\t0000000000000400" in text


def test_binds(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content\n")
    (tmp_path / "sub").mkdir()
    mounts = (
        *MOUNTS,
        Mount("bind", str(tmp_path), "/data", ("rbind", "ro")),
        Mount("bind", str(tmp_path / "file"), "/new/file", ("bind",)),
    )
    text = run(daemon, "sh", "-c", "cat /data/file /new/file; touch /data/x || echo more >> /new/file", mounts=mounts)
    assert text.startswith("content\ncontent\n") and "Read-only" in text
    assert (tmp_path / "file").read_text() == "content\nmore\n"


def test_a_symlink_in_the_image_leads_nowhere_outside(daemon: Daemon, tmp_path: Path) -> None:
    (daemon.lower / "out").symlink_to("/../../tmp/inside")
    (daemon.lower / "abs").symlink_to(str(tmp_path))
    mounts = (*MOUNTS, Mount("tmpfs", "tmpfs", "/out/a"), Mount("tmpfs", "tmpfs", "/abs/b"))
    try:
        text = run(daemon, "cat", "/proc/mounts", mounts=mounts)
    finally:
        (daemon.lower / "out").unlink()
        (daemon.lower / "abs").unlink()
    assert " /tmp/inside/a tmpfs" in text and f" {tmp_path}/b tmpfs" in text
    assert not (tmp_path / "b").exists() and not Path("/tmp/inside").exists()


def test_many_layers(daemon: Daemon, tmp_path: Path) -> None:
    layers = []
    for number in range(120):
        layers.append(tmp_path / ("x" * 40 + str(number)))
        (layers[-1] / "layer").mkdir(parents=True)
        (layers[-1] / "layer" / str(number)).touch()
    main = process("sh", "-c", "ls /layer | wc -l")
    spec = daemon.spec(main)
    overlay = Overlay((*map(str, layers), *spec.rootfs.lower), spec.rootfs.upper, spec.rootfs.work)
    assert run(daemon, "sh", "-c", "ls /layer | wc -l", rootfs=overlay) == "120\n"


def test_limits_and_sysctls(daemon: Daemon) -> None:
    text = run(
        daemon, "sh", "-c", "ulimit -n; cat /proc/self/oom_score_adj /proc/sys/net/ipv4/ip_forward",
        rlimits=(Rlimit("nofile", 100, 200),), oom_score_adj=300, sysctls=(("net.ipv4.ip_forward", "1"),),
    )  # fmt: skip
    assert text.split() == ["100", "300", "1"]


IN_INIT = "error during container init: "
FAILURES: list[tuple[tuple[str, ...], dict[str, Any], str, str]] = [
    (("nosuch",), {}, "exec", 'exec: "nosuch": executable file not found in $PATH'),
    (("/nosuch",), {}, "exec", 'exec: "/nosuch": stat /nosuch: no such file or directory'),
    (("/etc",), {}, "exec", 'exec: "/etc": is a directory'),
    (("/etc/passwd",), {}, "exec", 'exec: "/etc/passwd": permission denied'),
    (("",), {}, "exec", 'exec: "": executable file not found in $PATH'),
    (("true",), {"user": User("nosuch")}, "user", "unable to find user nosuch: no matching entries in passwd file"),
    (("true",), {"cwd": "/etc/passwd"}, "cwd", "Cannot mkdir: /etc/passwd is not a directory"),
    (("true",), {"sysctls": (("net.nosuch", "1"),)}, "sysctl", f"{IN_INIT}open /proc/sys/net/nosuch: no such file or directory"),
    (("true",), {"sysctls": (("kernel.shmmax", "abc"),)}, "sysctl", f"{IN_INIT}write /proc/sys/kernel/shmmax: invalid argument"),
    (("true",), {"mounts": (*MOUNTS, Mount("bind", "/etc/passwd", "/etc"))}, "mount",
     f'{IN_INIT}error mounting "/etc/passwd" to rootfs at "/etc": mount /etc/passwd:/etc: not a directory'),
    (("true",), {"mounts": (*MOUNTS, Mount("tmpfs", "tmpfs", "/t", ("nonsense",)))}, "mount", f'{IN_INIT}unknown mount option "nonsense"'),
    (("true",), {"namespaces": Namespaces(net="/nonet")}, "namespaces",
     f"{IN_INIT}unable to enter the net namespace /nonet: no such file or directory"),
    (("true",), {"namespaces": Namespaces(pid="/nopid")}, "namespaces",
     "unable to enter the pid namespace /nopid: no such file or directory"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "changes", "step", "text"), FAILURES)
def test_failures_have_runcs_words_and_leave_nothing(
    daemon: Daemon, args: tuple[str, ...], changes: dict[str, Any], step: str, text: str
) -> None:
    fields = {key: value for key, value in changes.items() if key in Spec.__dataclass_fields__}
    main = process(*args, **{key: value for key, value in changes.items() if key not in fields})
    message = daemon.run(daemon.spec(main, **fields)).failed()
    assert (message["step"], message["text"]) == (step, text)


def test_a_limit_that_cannot_be_written(daemon: Daemon) -> None:
    path = next(path for path in daemon.cgroup_paths("limits") if "pids" in path or "cgroup/ce" in path)
    message = daemon.run(daemon.spec(process("true"), cgroups=(CgroupDir(path, (("pids.max", "abc"),)),))).failed()
    assert message["step"] == "cgroup" and f'failed to write "abc": write {path}/pids.max: invalid argument' in message["text"]
    assert not os.path.exists(path)


def test_what_the_kernel_refuses_ends_in_the_log(daemon: Daemon) -> None:
    script = daemon.lower / "script"
    script.write_text("#!/nosuch\n")
    script.chmod(0o755)
    container = daemon.start("/script")
    assert container.exited()["code"] == 1
    assert output(container) == "exec /script: no such file or directory\n"


def test_exec(daemon: Daemon) -> None:
    container = daemon.start("sleep", "100")
    client = container.exec(
        "e", process("sh", "-c", "echo out; echo err >&2; cat; exit 7", open_stdin=True, stdin_once=True), stdin=True
    )
    client.sendall(b"in")
    client.shutdown(socket.SHUT_WR)
    assert container.expect(protocol.EXEC_STARTED)["id"] == "e"
    data = read_all(client)
    assert (joined(data, 1), joined(data, 2)) == (b"out\nin", b"err\n")
    assert container.expect(protocol.EXEC_EXITED)["code"] == 7
    client = container.exec("f", process("pwd", cwd="/nosuchdir"))
    text = 'chdir to cwd ("/nosuchdir") set in config.json failed: no such file or directory'
    assert container.expect(protocol.EXEC_FAILED)["text"] == text
    assert read_all(client) == b""
    client = container.exec("g", process("sleep", "100"))
    container.expect(protocol.EXEC_STARTED)
    container.tell(protocol.SIGNAL, signal=9, exec="g")
    assert container.expect(protocol.EXEC_EXITED)["code"] == 137
    container.exec("h", process("sleep", "100"))
    container.expect(protocol.EXEC_STARTED)
    container.tell(protocol.SIGNAL, signal=9)
    assert container.expect(protocol.EXEC_EXITED)["id"] == "h"
    assert container.exited()["code"] == 137


def test_an_exec_needs_a_running_container(daemon: Daemon) -> None:
    container = daemon.run(daemon.spec(process("true")))
    container.expect(protocol.CREATED)
    client = container.exec("early", process("true"))
    assert container.expect(protocol.EXEC_FAILED)["text"] == "container is not running"
    assert read_all(client) == b""
    container.tell(protocol.GO)
    container.expect(protocol.STARTED)
    assert container.exited()["code"] == 0


def test_an_exec_is_in_the_containers_cgroups_and_terminal(daemon: Daemon) -> None:
    container = daemon.start("sleep", "100")
    client = container.exec("t", process("sh", "-c", "tty; stty size; cat /proc/self/cgroup", tty=True, console=(33, 44)))
    text = read_all(client).decode()
    assert text.startswith("/dev/pts/0\r\n33 44\r\n")
    assert all(line.endswith(":/") for line in text.split()[3:])
    os.kill(container.pid, signal.SIGKILL)


def test_terminal(daemon: Daemon) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        container = daemon.run(daemon.spec(process("sh", tty=True, open_stdin=True, console=(24, 80))))
        container.started([(theirs, {"stdin": True})])
        ours.sendall(b"tty; stty size; ls -l /dev/console; echo 'a b' | wc -w\n")
        seen = b""
        while b"2\r\n" not in seen:
            seen += ours.recv(4096)
        container.tell(protocol.RESIZE, rows=50, columns=100)
        container.tell(protocol.HELLO)
        container.expect(protocol.STATE)
        ours.sendall(b"stty size; exit 5\n")
        seen += read_all(ours)
        assert b"/dev/pts/0\r\n24 80\r\n" in seen and b"/dev/console" in seen and b"50 100\r\n" in seen
        assert container.exited()["code"] == 5


def test_stdin_once_and_back_pressure(daemon: Daemon) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        container = daemon.run(daemon.spec(process("cat", open_stdin=True, stdin_once=True)))
        container.started([(theirs, {"stdin": True})])
        ours.sendall(b"x" * 100_000)
        ours.shutdown(socket.SHUT_WR)
        assert joined(read_all(ours), 1) == b"x" * 100_000
        assert container.exited()["code"] == 0


def test_a_slow_reader_loses_nothing(daemon: Daemon) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        main = process("sh", "-c", "head -c 20000000 /dev/zero")
        container = daemon.run(daemon.spec(main, log=Log(driver="none")))
        container.started([(theirs, {})])
        time.sleep(0.5)
        assert sum(len(chunk) for _, chunk in frames(read_all(ours))) == 20_000_000
        assert container.exited()["code"] == 0


def test_a_client_that_vanishes_does_no_harm(daemon: Daemon) -> None:
    container = daemon.start("sh", "-c", "sleep 0.2; for i in 1 2 3; do echo $i; done", open_stdin=True)
    container.attach(stdin=True).close()
    assert container.exited()["code"] == 0
    assert output(container) == "1\n2\n3\n"


def test_init_reaps_and_passes_signals_on(daemon: Daemon) -> None:
    script = "trap 'echo term; exit 9' TERM; ps -o pid,args; (sleep 0.05 &); sleep 0.1; echo states; cut -d ' ' -f 3 /proc/[0-9]*/stat; echo ready; while true; do sleep 0.02; done"
    container = daemon.start("sh", "-c", script, inner_init=True)
    while "ready" not in output(container):
        time.sleep(0.02)
    container.tell(protocol.SIGNAL, signal=15)
    assert container.exited()["code"] == 9
    text = output(container)
    assert "/sbin/docker-init -- sh" in text and text.endswith("term\n")
    assert "Z" not in text.split("states")[-1].split("ready")[0]


def test_out_of_memory(daemon: Daemon) -> None:
    limit = {"memory": ("memory.limit_in_bytes", "16m"), daemon.name: ("memory.max", "16m")}
    cgroups = tuple(
        CgroupDir(path, (limit[name],) if (name := path.split("/")[4]) in limit else ()) for path in daemon.cgroup_paths("oom")
    )
    container = daemon.start("sh", "-c", "head -c 100m /dev/zero | tail", cgroups=cgroups, log=Log(driver="none"))
    assert container.exited()["oom"] is True
    assert not [item.path for item in cgroups if os.path.exists(item.path)]


def test_the_host_pid_namespace_is_left_clean(daemon: Daemon) -> None:
    container = daemon.start("sh", "-c", "sleep 100 & echo $!; exit 2", namespaces=Namespaces(pid="host"))
    assert container.exited()["code"] == 2
    assert not _alive(int(output(container)))


def test_a_daemon_that_dies_before_go_takes_the_start_with_it(daemon: Daemon) -> None:
    container = daemon.run(daemon.spec(process("true")))
    pid = container.expect(protocol.CREATED)["pid"]
    container.control.shutdown(socket.SHUT_WR)
    container.ended()  # only when nothing is left of it
    assert not _alive(pid)


def test_a_container_outlives_its_daemon_and_is_found_again(daemon: Daemon) -> None:
    container = daemon.start("sh", "-c", "read line; echo got $line", open_stdin=True)
    container.control.close()
    container.control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    container.control.connect(str(container.bundle / protocol.SOCKET))
    container.tell(protocol.HELLO)
    assert container.expect(protocol.STATE)["pid"] == container.pid
    reader, writer = os.pipe()
    container.tell(protocol.WATCH, [writer])
    os.close(writer)
    container.attach(stdin=True).sendall(b"word\n")
    assert container.exited()["code"] == 0
    assert output(container) == "got word\n"
    assert os.read(reader, 10) == b"\0" and os.read(reader, 10) == b""
    os.close(reader)


def _spare(daemon: Daemon, others: set[int]) -> int:
    """The shim that waits for a container, once there is one that is not among `others`."""
    while True:
        words = Path(f"/proc/{daemon.launcher.pid}/task/{daemon.launcher.pid}/children").read_text().split()
        if spares := {int(word) for word in words} - others:
            return spares.pop()
        time.sleep(0.005)


def test_a_spare_shim_that_is_killed_has_a_successor(daemon: Daemon) -> None:
    first = daemon.start("sleep", "100")
    taken = {int((first.bundle / protocol.PID).read_text().split()[0])}
    spare = _spare(daemon, taken)
    os.kill(spare, signal.SIGKILL)
    assert _spare(daemon, {*taken, spare}) != spare
    assert daemon.start("true").exited()["code"] == 0


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(os.path.exists("/sys/fs/cgroup/cgroup.controllers"), reason="on v2 init is forked when it is wanted")
def test_a_spare_init_that_is_killed_is_a_failure_of_its_shims(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    try:
        spare = _spare(daemon, set())
        os.kill(eventually(lambda: _children(spare))[0], signal.SIGKILL)
        assert daemon.run(daemon.spec(process("true"))).failed()["step"] == protocol.SHIM  # whereupon a daemon tries another
        assert daemon.start("true").exited()["code"] == 0
        assert daemon.release() == []
    finally:
        daemon.close()


@pytest.mark.parametrize(
    "what,word",
    [
        ({"process": process("nothing-of-that-name")}, "nothing-of-that-name"),
        ({"mounts": (*MOUNTS, Mount("tmpfs", "tmpfs", "/odd", (), "size=bad"))}, "/odd"),
    ],
    ids=["program", "mount"],
)
def test_a_failure_of_the_containers_own_is_told_after_go(daemon: Daemon, what: dict[str, Any], word: str) -> None:
    """It has had its network then, whichever of daemon and init is faster."""
    container = daemon.run(replace(daemon.spec(process("true")), **what))
    container.expect(protocol.CREATED)
    container.control.settimeout(0.3)
    with pytest.raises(TimeoutError):
        channel.receive(container.control)
    container.tell(protocol.GO)
    assert word in container.expect(protocol.FAILED)["text"]
    container.ended()


def test_all_is_done_before_go_but_the_last_step(daemon: Daemon, tmp_path: Path) -> None:
    container = daemon.run(daemon.spec(process("sleep", "100")))
    pid = container.expect(protocol.CREATED)["pid"]
    eventually(lambda: os.path.exists(f"/proc/{pid}/root/bin/busybox") and not os.path.exists(f"/proc/{pid}/root{tmp_path}"))
    assert os.path.samefile(f"/proc/{pid}/exe", "/proc/self/exe")  # not yet the container's program
    container.tell(protocol.GO)
    container.expect(protocol.STARTED)
    container.tell(protocol.SIGNAL, signal=9)
    container.exited()


def test_a_spare_shim_whose_launcher_is_killed_runs_what_it_takes(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    try:
        _spare(daemon, set())
        daemon.launcher.kill()
        daemon.launcher.wait(60)
        assert daemon.start("sh", "-c", "exit 3").exited()["code"] == 3
        assert daemon.release() == []
    finally:
        daemon.close()


def test_an_idle_shim_is_small(daemon: Daemon) -> None:
    container = daemon.start("sleep", "100")
    shim = (container.bundle / protocol.PID).read_text().split()[0]
    rollup = Path(f"/proc/{shim}/smaps_rollup").read_text()
    assert int(rollup.split("Private_Dirty:")[1].split()[0]) < 2048  # kB
    container.tell(protocol.SIGNAL, signal=9)
    container.exited()


def test_seccomp_with_and_without_new_privileges(daemon: Daemon, tmp_path: Path) -> None:
    program = tmp_path / "filter"
    program.write_bytes(compile_text(default_profile(), frozenset(DOCKER_CAPS)))
    script = "grep -E 'Seccomp:|NoNewPrivs' /proc/self/status; unshare -n true; id -u"
    for no_new, user in ((False, "33"), (True, "33"), (False, "0")):
        text = run(daemon, "sh", "-c", script, seccomp=str(program), no_new_privileges=no_new, user=User(user))
        assert "Seccomp:\t2" in text and f"NoNewPrivs:\t{int(no_new)}" in text
        assert "Operation not permitted" in text and f"\n{user}\n" in text


def test_the_interpreter_in_a_container_is_read_only(daemon: Daemon) -> None:
    """Else root in a container could write to the host's python through /proc/PID/exe."""
    container = daemon.start("sleep", "100", inner_init=True)
    assert os.statvfs(f"/proc/{container.pid}/exe").f_flag & os.ST_RDONLY
    with pytest.raises(OSError, match="Read-only file system"):
        os.chmod(f"/proc/{container.pid}/exe", 0o755)


def test_a_host_that_is_read_only_for_a_while_changes_nothing_of_that() -> None:
    script = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from compat_engine.shim.launcher import _run_read_only
_run_read_only(0)
subprocess.run(["mount", "-o", "remount,bind,rw", sys.argv[2]], check=True)
print(os.statvfs(sys.argv[2]).f_flag & os.ST_RDONLY, os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY)
"""
    interpreter, root = os.path.realpath(sys.executable), str(Path(__file__).parents[2])
    mounts = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$1" -I -S -c "$2" "$3" "$1"'
    command = ["unshare", "-m", "sh", "-c", mounts, "sh", interpreter, script, root]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["0", str(os.ST_RDONLY)], done.stderr
