"""Mounts, masked paths and file systems, as the process inside sees them."""

from __future__ import annotations

from typing import Any

from .. import frames
from ..assertions import (
    contains,
    equal,
    expect,
    matches,
    refused,
)
from ..engine import Engine
from ..registry import check

CREATE = "POST /containers/create"
MIB = 1 << 20


def mounts(engine: Engine, host: dict[str, Any] | None = None) -> dict[str, tuple[str, set[str]]]:
    """Mount point to file system type and options, of a new container."""
    rows = [line.split() for line in engine.inside("cat /proc/self/mounts", host).splitlines()]
    return {row[1]: (row[2], set(row[3].split(","))) for row in rows}


# files


@check(CREATE)
def default_mounts(engine: Engine) -> None:
    seen = mounts(engine)
    kinds = {
        "/proc": "proc",
        "/dev": "tmpfs",
        "/dev/pts": "devpts",
        "/sys": "sysfs",
        "/dev/mqueue": "mqueue",
        "/dev/shm": "tmpfs",
    }
    equal({path: seen[path][0] for path in kinds if path in seen}, kinds, "mounts")
    expect({"ro", "nosuid", "nodev", "noexec"} <= seen["/sys"][1], f"options of /sys: {seen['/sys'][1]}")
    expect({"nosuid", "nodev", "noexec"} <= seen["/proc"][1], f"options of /proc: {seen['/proc'][1]}")
    for path in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf"):
        contains(seen, path, "mounts")


@check(CREATE)
def default_devices(engine: Engine) -> None:
    seen = engine.inside("for d in null zero full random urandom tty; do stat -c '%n %t:%T %a' /dev/$d; done").split("\n")
    numbers = ["null 1:3", "zero 1:5", "full 1:7", "random 1:8", "urandom 1:9", "tty 5:0"]
    equal(seen, [f"/dev/{number} 666" for number in numbers], "devices")


@check(CREATE)
def device_links(engine: Engine) -> None:
    seen = engine.inside("for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done").split()
    equal(seen, ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx"], "links")


@check(CREATE)
def masked_files_are_empty(engine: Engine) -> None:
    equal(
        engine.inside("for f in kcore keys timer_list; do test -e /proc/$f && head -c 10 /proc/$f; done; ls /sys/firmware"),
        "",
        "content",
    )


@check(CREATE)
def readonly_paths(engine: Engine) -> None:
    script = "for p in bus fs irq sys sysrq-trigger; do test -e /proc/$p && echo /proc/$p; done; cat /proc/self/mounts"
    lines = engine.inside(script).splitlines()
    there = [line for line in lines if line.startswith("/proc/")]
    options = {line.split()[1]: line.split()[3].split(",") for line in lines if " " in line}
    contains(there, "/proc/sys", "paths")
    for path in there:
        contains(options.get(path, []), "ro", f"options of {path}")


@check(CREATE)
def masked_paths_of_ones_own(engine: Engine) -> None:
    host = {"MaskedPaths": ["/etc/marker", "/data"], "ReadonlyPaths": ["/home"]}
    seen = engine.inside("wc -c < /etc/marker; ls -A /data; touch /home/x 2>&1 || true; test -s /etc/passwd && echo seen", host)
    matches(r"0\ntouch: .*Read-only file system\nseen", seen, "output")


@check(CREATE)
def no_masked_paths(engine: Engine) -> None:
    seen = mounts(engine, {"MaskedPaths": [], "ReadonlyPaths": []})
    expect("/proc/kcore" not in seen and "/proc/sys" not in seen, "an empty list means none")


@check(CREATE)
def root_is_writable(engine: Engine) -> None:
    equal(engine.inside("echo x > /new && cat /new"), "x", "content")


@check(CREATE)
def readonly_root(engine: Engine) -> None:
    seen = engine.inside(
        "touch /new 2>&1 || true; touch /dev/shm/x && echo shm; echo ok > /v/x && echo volume",
        {"ReadonlyRootfs": True},
        Volumes={"/v": {}},
    )
    matches(r"touch: /new: Read-only file system\nshm\nvolume", seen, "output")


@check(CREATE)
def tmpfs(engine: Engine) -> None:
    seen = mounts(engine, {"Tmpfs": {"/t": "", "/u": "size=1m,mode=700,exec"}})
    equal((seen["/t"][0], seen["/u"][0]), ("tmpfs", "tmpfs"), "types")
    expect({"rw", "noexec", "nosuid", "nodev"} <= seen["/t"][1], f"options of /t: {seen['/t'][1]}")
    expect("noexec" not in seen["/u"][1] and {"size=1024k", "mode=700"} <= seen["/u"][1], f"options of /u: {seen['/u'][1]}")


@check(CREATE)
def tmpfs_as_a_mount(engine: Engine) -> None:
    mount = {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 2 * MIB, "Mode": 0o755}}
    equal(
        engine.inside("df -k /t | tail -1 | awk '{print $2}'; stat -c %a /t", {"Mounts": [mount]}), "2048\n755", "size and mode"
    )


@check(CREATE)
def shm_size(engine: Engine) -> None:
    equal(engine.inside("df -k /dev/shm | tail -1 | awk '{print $2}'"), "65536", "default size")
    equal(engine.inside("df -k /dev/shm | tail -1 | awk '{print $2}'", {"ShmSize": 8 * MIB}), "8192", "size")


def on_the_host(engine: Engine) -> str:
    """A directory on the engine's host that goes away with the check."""
    return str(engine.volume()["Mountpoint"])


@check(CREATE)
def bind(engine: Engine) -> None:
    directory = on_the_host(engine)
    engine.inside("echo written > /b/file", {"Binds": [f"{directory}:/b"]})
    equal(engine.inside("cat /b/file", {"Binds": [f"{directory}:/b"]}), "written", "content")


@check(CREATE)
def bind_readonly(engine: Engine) -> None:
    seen = engine.inside("touch /b/x 2>&1 || true", {"Binds": [f"{on_the_host(engine)}:/b:ro"]})
    contains(seen, "Read-only file system", "output")


@check(CREATE)
def bind_as_a_mount(engine: Engine) -> None:
    mount = {"Type": "bind", "Source": on_the_host(engine), "Target": "/b", "ReadOnly": True}
    contains(engine.inside("touch /b/x 2>&1 || true", {"Mounts": [mount]}), "Read-only file system", "output")


@check(CREATE)
def bind_of_a_file(engine: Engine) -> None:
    directory = on_the_host(engine)
    engine.inside("echo one > /b/file", {"Binds": [f"{directory}:/b"]})
    equal(engine.inside("cat /etc/motd", {"Binds": [f"{directory}/file:/etc/motd"]}), "one", "content")


@check(CREATE)
def bind_propagation(engine: Engine) -> None:
    """Where the host's mount is private it cannot be had, and that is said."""
    source = on_the_host(engine)
    container = engine.create("grep", " /b ", "/proc/self/mountinfo", host={"Binds": [f"{source}:/b:rslave"]})
    started = engine.client.post(f"/containers/{container}/start")
    if started.status != 204:
        refused(started, 500, "but it is not a shared or slave mount")
        return
    equal(engine.wait(container), 0, "exit code")
    seen = frames.join(engine.logs(container, stdout=1).body).decode()
    expect("shared:" not in seen.partition(" - ")[0], f"not shared: {seen}")


@check(CREATE)
def mounts_nest(engine: Engine) -> None:
    host = {"Tmpfs": {"/a/b": ""}, "Binds": [f"{on_the_host(engine)}:/a"]}
    equal(engine.inside("touch /a/b/x && ls /a/b", host), "x", "the inner mount is on top")
