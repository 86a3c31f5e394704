"""What HostConfig and Config do, as the process inside a container sees it."""

from __future__ import annotations

from ..assertions import equal, expect, matches
from ..engine import Engine
from ..registry import Body, check, each

CREATE = "POST /containers/create"

# who and where


@check(CREATE)
def is_process_one(engine: Engine) -> None:
    equal(engine.inside("echo $$"), "1", "pid")


@check(CREATE)
def environment(engine: Engine) -> None:
    names = dict(
        line.partition("=")[::2]
        for line in engine.finish("env", Env=["A=1", "EMPTY=", "SPACE=a b"], Hostname="h").stdout.splitlines()
    )
    expected = {"A": "1", "EMPTY": "", "SPACE": "a b", "HOSTNAME": "h", "HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    equal({key: names.get(key) for key in expected}, expected, "environment")
    expect("TERM" not in names, "no TERM without a terminal")


@check(CREATE)
def environment_with_a_terminal(engine: Engine) -> None:
    equal(engine.finish("sh", "-c", "echo $TERM", Tty=True).stdout, "xterm\r\n", "TERM")


@check(CREATE)
def home_of_the_user(engine: Engine) -> None:
    equal(engine.inside("echo $HOME", User="worker"), "/home/worker", "HOME")


USERS = {
    "worker": "1000 1000 1000 2000",
    "1000": "1000 1000 1000 2000",
    "worker:extra": "1000 2000 2000",
    "12:34": "12 34 34",
    "12": "12 0 0",
    "nobody:0": "65534 0 0",
}


def user_is(user: str, ids: str) -> Body:
    def run(engine: Engine) -> None:
        equal(engine.inside("echo $(id -u) $(id -g) $(id -G)", User=user), ids, "uid, gid and groups")

    return run


each(CREATE, "user", [(user, user_is(user, ids)) for user, ids in USERS.items()])


@check(CREATE)
def additional_groups(engine: Engine) -> None:
    groups = set(engine.inside("id -G", {"GroupAdd": ["extra", "77"]}, User="12:34").split())
    equal(groups, {"34", "77", "2000"}, "groups")


@check(CREATE)
def working_directory_is_made(engine: Engine) -> None:
    equal(engine.inside("pwd", WorkingDir="/made/for/this"), "/made/for/this", "working directory")


@check(CREATE)
def hostname(engine: Engine) -> None:
    equal(engine.inside("hostname; cat /etc/hostname", Hostname="myhost"), "myhost\nmyhost", "hostname")


@check(CREATE)
def hostname_is_the_short_id(engine: Engine) -> None:
    done = engine.finish("hostname")
    equal(done.stdout.strip(), done.id[:12], "hostname")


@check(CREATE)
def domain_name(engine: Engine) -> None:
    equal(
        engine.inside("cat /proc/sys/kernel/domainname", Hostname="h", Domainname="example.test"), "example.test", "domain name"
    )


@check(CREATE)
def command_and_arguments_are_untouched(engine: Engine) -> None:
    arguments = ["a b", "", "*", "$HOME", "ü", "new\nline"]
    done = engine.finish("sh", "-c", 'for a in "$@"; do echo "<$a>"; done', "sh", *arguments)
    equal(done.stdout, "".join(f"<{argument}>\n" for argument in arguments), "arguments")


@check(CREATE)
def no_open_files_but_the_three(engine: Engine) -> None:
    equal(engine.exec_output(engine.run_light(), "ls", "/proc/1/fd")[0].split(), ["0", "1", "2"], "open files of process 1")


@check(CREATE)
def stdin_is_empty_without_open_stdin(engine: Engine) -> None:
    equal(engine.inside("cat; echo end"), "end", "output")


@check(CREATE)
def terminal(engine: Engine) -> None:
    done = engine.finish("sh", "-c", "tty; test -t 0 && test -t 1 && test -t 2 && echo yes; readlink /proc/1/fd/0", Tty=True)
    matches(r"/dev/(pts/0|console)\r\nyes\r\n.*", done.stdout, "terminal")


@check(CREATE, since="1.42")
def console_size(engine: Engine) -> None:
    equal(engine.finish("stty", "size", Tty=True, host={"ConsoleSize": [31, 99]}).stdout, "31 99\r\n", "size")


EXITS = {"exit 0": 0, "exit 1": 1, "exit 255": 255, "no-such-command": 127, "/etc/passwd": 126}


def exits_with(script: str, code: int) -> Body:
    def run(engine: Engine) -> None:
        equal(engine.finish("sh", "-c", script).code, code, "exit code")

    return run


each(CREATE, "exit_code", [(script, exits_with(script, code)) for script, code in EXITS.items()])


# namespaces


@check(CREATE)
def namespaces_are_its_own(engine: Engine) -> None:
    script = "for ns in ipc mnt net pid uts; do readlink /proc/self/ns/$ns; done"
    live = engine.exec_output(engine.shared, "sh", "-c", script)[0].split()
    modes = {"PidMode": "host", "IpcMode": "host", "UTSMode": "host", "NetworkMode": "host"}
    for title, other in (("another container", engine.inside(script)), ("one in the host's", engine.inside(script, modes))):
        equal(len(other.split()), 5, "namespaces")
        equal(set(live) & set(other.split()), set(), f"namespaces shared with {title}")


@check(CREATE)
def pid_mode_host(engine: Engine) -> None:
    container = engine.run("sleep", "1000", host={"PidMode": "host", "NetworkMode": "none"})
    pid = engine.state(container)["Pid"]
    equal(engine.exec_output(container, "cat", f"/proc/{pid}/comm")[0], "sleep\n", "the process under its number on the host")


@check(CREATE)
def pid_mode_of_a_container(engine: Engine) -> None:
    other = engine.run_light("sleep", "1234")
    equal(engine.inside("cat /proc/1/cmdline | tr '\\0' ' '", {"PidMode": f"container:{other}"}), "sleep 1234", "process 1")


@check(CREATE)
def ipc_mode_host_shares_shm(engine: Engine) -> None:
    name = f"/dev/shm/{engine.name()}"
    host = {"IpcMode": "host"}
    try:
        engine.inside(f"echo shared > {name}", host)
        equal(engine.inside(f"cat {name}", host), "shared", "the file in /dev/shm")
    finally:
        engine.inside(f"rm -f {name}", host)


@check(CREATE)
def ipc_mode_of_a_container(engine: Engine) -> None:
    other = engine.run_light("sh", "-c", "echo shared > /dev/shm/file; echo ready; sleep 1000", host={"IpcMode": "shareable"})
    engine.until_logged(other, "ready")
    equal(engine.inside("cat /dev/shm/file", {"IpcMode": f"container:{other}"}), "shared", "the file in /dev/shm")


@check(CREATE)
def uts_mode_host(engine: Engine) -> None:
    one, other = (engine.inside("hostname", {"UTSMode": "host"}) for _ in range(2))
    equal(one, other, "hostnames of two containers")


@check(CREATE)
def init_is_process_one(engine: Engine) -> None:
    done = engine.inside("echo $$; cat /proc/1/comm", {"Init": True}).split()
    expect(done[0] != "1" and "init" in done[1], f"the command is not process 1, an init is: {done}")


@check(CREATE)
def init_reaps_orphans(engine: Engine) -> None:
    orphan = "sh -c 'sleep 0.1 & echo $! > /tmp/orphan'"
    script = f"{orphan}; while test -e /proc/$(cat /tmp/orphan); do sleep 0.05; done; echo gone"
    equal(engine.inside(script, {"Init": True}), "gone", "the orphan, which would stay as a zombie")


@check(CREATE)
def init_passes_signals_on(engine: Engine) -> None:
    container = engine.run_light("sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done", host={"Init": True})
    engine.until_logged(container, "ready")
    engine.kill(container, "TERM")
    equal(engine.wait(container), 5, "exit code")
