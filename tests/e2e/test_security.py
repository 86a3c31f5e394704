"""What a process in a container may do: capabilities, seccomp, privileges, devices, masked paths."""

import json
from pathlib import Path

import pytest

from tests.support.docker import Docker

DEFAULT_CAPABILITIES = "00000000a80425fb"
DENIED = ("Operation not permitted", "Permission denied")


def status(docker: Docker, field: str, *args: str) -> str:
    return docker("run", "--rm", *args, "busybox", "grep", f"^{field}:", "/proc/self/status").split()[1]


def host_status(field: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))


def test_default_capabilities(docker: Docker) -> None:
    assert status(docker, "CapEff") == DEFAULT_CAPABILITIES
    assert status(docker, "CapBnd") == DEFAULT_CAPABILITIES
    assert status(docker, "CapAmb") == "0000000000000000"


def test_another_user_has_no_effective_capabilities(docker: Docker) -> None:
    assert status(docker, "CapEff", "-u", "33") == "0000000000000000"
    assert status(docker, "CapBnd", "-u", "33") == DEFAULT_CAPABILITIES


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--cap-drop", "ALL"], 0),
        (["--cap-drop", "all", "--cap-add", "CHOWN"], 1),
        (["--cap-add", "NET_ADMIN"], int(DEFAULT_CAPABILITIES, 16) | 1 << 12),
        (["--cap-drop", "cap_chown"], int(DEFAULT_CAPABILITIES, 16) & ~1),
    ],
)
def test_capabilities_added_and_dropped(docker: Docker, args: list[str], expected: int) -> None:
    assert int(status(docker, "CapEff", *args), 16) == expected


def test_a_dropped_capability_is_missed(docker: Docker) -> None:
    assert docker.run("run", "--rm", "--cap-drop", "CHOWN", "busybox", "chown", "33", "/tmp").returncode == 1


def test_unknown_capability_is_refused(docker: Docker) -> None:
    assert 'unknown capability: "CAP_NOSUCH"' in docker.fails("run", "--rm", "--cap-add", "NOSUCH", "busybox", "true", code=125)


def test_privileged(docker: Docker) -> None:
    assert status(docker, "CapEff", "--privileged") == host_status("CapEff")
    assert status(docker, "Seccomp", "--privileged") == "0"
    script = "mount -t tmpfs none /mnt 2>/dev/null || { mkdir -p /mnt && mount -t tmpfs none /mnt; } && test -e /dev/kmsg && echo yes"
    assert docker("run", "--rm", "--privileged", "busybox", "sh", "-c", script) == "yes"


def test_seccomp_is_on_by_default(docker: Docker) -> None:
    assert status(docker, "Seccomp") == "2"
    assert status(docker, "Seccomp", "--security-opt", "seccomp=unconfined") == "0"


def test_the_default_profile_denies_new_namespaces(docker: Docker) -> None:
    result = docker.run("run", "--rm", "busybox", "unshare", "-U", "true")
    assert result.returncode != 0
    assert any(word in result.stderr for word in DENIED)


def test_a_profile_of_one_s_own(docker: Docker, tmp_path: Path) -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(profile))
    result = docker.run("run", "--rm", "--security-opt", f"seccomp={file}", "busybox", "mkdir", "/x")
    assert "Operation not permitted" in result.stderr


def test_a_broken_profile_is_refused(docker: Docker, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text("{nonsense")
    docker.fails("run", "--rm", "--security-opt", f"seccomp={file}", "busybox", "true", code=125)


def test_no_new_privileges(docker: Docker) -> None:
    assert status(docker, "NoNewPrivs") == "0"
    assert status(docker, "NoNewPrivs", "--security-opt", "no-new-privileges") == "1"


def test_an_unknown_security_option_is_refused(docker: Docker) -> None:
    assert "invalid --security-opt" in docker.fails("run", "--rm", "--security-opt", "nosuch=1", "busybox", "true", code=125)


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/acpi", "/proc/scsi"])
def test_masked_paths_are_empty(docker: Docker, path: str) -> None:
    script = f"if test -d {path}; then ls -A {path} | wc -c; elif test -e {path}; then wc -c < {path}; else echo 0; fi"
    assert docker("run", "--rm", "busybox", "sh", "-c", script).strip() == "0"


@pytest.mark.parametrize("path", ["/proc/sys/kernel/msgmax", "/proc/sysrq-trigger", "/sys/kernel/profiling"])
def test_read_only_paths(docker: Docker, path: str) -> None:
    script = f"test -e {path} || {{ echo 'Read-only file system'; exit; }}; echo 0 2>&1 > {path}"
    assert "Read-only file system" in docker.run("run", "--rm", "busybox", "sh", "-c", f"({script}) 2>&1").stdout


def test_default_devices(docker: Docker) -> None:
    names = set(docker("run", "--rm", "busybox", "ls", "/dev").split())
    assert {"full", "null", "ptmx", "pts", "random", "shm", "mqueue", "stderr", "stdin", "stdout", "fd", "tty", "urandom", "zero"} <= names
    assert "console" not in names
    assert "console" in docker("run", "--rm", "-t", "busybox", "ls", "/dev").split()


def test_a_device_of_the_host(docker: Docker) -> None:
    script = "head -c 3 /dev/mine | wc -c; ls -l /dev/mine"
    out = docker("run", "--rm", "--device", "/dev/zero:/dev/mine:r", "busybox", "sh", "-c", script).split()
    assert out[0] == "3"
    assert out[1].startswith("c")


def test_a_device_keeps_to_its_permissions(docker: Docker) -> None:
    args = ["--device", "/dev/kmsg:/dev/mine:r", "busybox", "sh", "-c", "(echo x > /dev/mine) 2>&1"]
    assert "Operation not permitted" in docker.run("run", "--rm", *args).stdout


def test_other_devices_are_denied(docker: Docker) -> None:
    script = "mknod /tmp/k c 1 11 && cat /tmp/k"
    assert "Operation not permitted" in docker.run("run", "--rm", "busybox", "sh", "-c", script).stderr


def test_device_rules(docker: Docker) -> None:
    script = "mknod /tmp/k c 1 11 && dd if=/dev/null of=/tmp/k 2>/dev/null && echo ok"
    assert docker("run", "--rm", "--device-cgroup-rule", "c 1:11 rw", "busybox", "sh", "-c", script) == "ok"


def test_a_missing_device_is_refused(docker: Docker) -> None:
    assert "/dev/nosuch" in docker.fails("run", "--rm", "--device", "/dev/nosuch", "busybox", "true")


def test_a_process_cannot_leave_its_root(docker: Docker) -> None:
    out = docker("run", "--rm", "busybox", "sh", "-c", "stat -c %i /../../.. /")
    assert len(set(out.split())) == 1


def test_the_host_s_mounts_are_not_seen(docker: Docker) -> None:
    targets = {line.split()[1] for line in docker("run", "--rm", "busybox", "cat", "/proc/mounts").splitlines()}
    assert not {"/home", "/var", "/boot", "/.old"} & targets
