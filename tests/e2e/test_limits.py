"""Resource limits, as the kernel sees them: through cgroup files on v1 and v2, rlimits and sysctls."""

from pathlib import Path

import pytest

from tests.support.docker import Docker

V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
FILES = {
    "memory": ("memory/memory.limit_in_bytes", "memory.max"),
    "swap": ("memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
    "reservation": ("memory/memory.soft_limit_in_bytes", "memory.low"),
    "pids": ("pids/pids.max", "pids.max"),
    "cpus": ("cpuset/cpuset.cpus", "cpuset.cpus"),
    "shares": ("cpu/cpu.shares", "cpu.weight"),
}


def limit(docker: Docker, what: str, *args: str) -> str:
    """What a container started with `args` reads as its own limit."""
    old, new = FILES[what]
    return docker("run", "--rm", *args, "busybox", "cat", f"/sys/fs/cgroup/{new if V2 else old}")


def test_memory(docker: Docker) -> None:
    assert limit(docker, "memory", "-m", "64m") == str(64 << 20)


def test_memory_and_swap(docker: Docker) -> None:
    if not V2 and not Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists():
        pytest.skip("this kernel does not account swap")
    assert limit(docker, "swap", "-m", "64m", "--memory-swap", "96m") == str((32 if V2 else 96) << 20)


def test_memory_reservation(docker: Docker) -> None:
    assert limit(docker, "reservation", "--memory-reservation", "32m") == str(32 << 20)


def test_memory_over_the_limit_is_killed_and_told(docker: Docker, unique: str) -> None:
    docker.run("run", "--name", unique, "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", "tail /dev/zero")
    state = docker.inspect(unique)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (137, True)


def test_swap_below_memory_is_refused(docker: Docker) -> None:
    error = docker.fails("create", "-m", "64m", "--memory-swap", "32m", "busybox")
    assert "Minimum memoryswap limit should be larger than memory limit" in error


def test_cpus(docker: Docker) -> None:
    script = "cat /sys/fs/cgroup/cpu.max 2>/dev/null || echo $(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us)"
    assert docker("run", "--rm", "--cpus", "0.5", "busybox", "sh", "-c", script) == "50000 100000"


def test_too_many_cpus_are_refused(docker: Docker) -> None:
    assert "Range of CPUs is from 0.01 to" in docker.fails("create", "--cpus", "1000", "busybox")


def test_cpu_set(docker: Docker) -> None:
    assert limit(docker, "cpus", "--cpuset-cpus", "0") == "0"
    assert docker("run", "--rm", "--cpuset-cpus", "0", "busybox", "sh", "-c", "grep Cpus_allowed_list /proc/self/status").split()[1] == "0"


def test_cpu_set_outside_the_machine_is_refused(docker: Docker) -> None:
    assert "Requested CPUs are not available" in docker.fails("create", "--cpuset-cpus", "4000", "busybox")


def test_cpu_shares(docker: Docker) -> None:
    assert limit(docker, "shares", "--cpu-shares", "512") in ("512", "20", "59")  # the v2 mapping changed in newer runtimes


def test_pids(docker: Docker) -> None:
    assert limit(docker, "pids", "--pids-limit", "20") == "20"
    script = "for i in $(seq 1 50); do sleep 3 & done; wait"
    assert "can't fork" in docker.run("run", "--rm", "--pids-limit", "20", "busybox", "sh", "-c", script).stderr


def test_shm_size(docker: Docker) -> None:
    assert docker("run", "--rm", "--shm-size", "3m", "busybox", "df", "-k", "/dev/shm").split()[-5] == "3072"
    assert docker("run", "--rm", "busybox", "df", "-k", "/dev/shm").split()[-5] == "65536"


def test_ulimits(docker: Docker) -> None:
    out = docker("run", "--rm", "--ulimit", "nofile=123:456", "--ulimit", "core=0", "busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c")
    assert out.split() == ["123", "456", "0"]


def test_a_bad_ulimit_is_refused(docker: Docker) -> None:
    assert "ulimit soft limit must be less than or equal to hard limit" in docker.fails("create", "--ulimit", "nofile=9:3", "busybox")


def test_oom_score(docker: Docker) -> None:
    assert docker("run", "--rm", "--oom-score-adj", "300", "busybox", "cat", "/proc/self/oom_score_adj") == "300"
    assert "Invalid value 2000" in docker.fails("create", "--oom-score-adj", "2000", "busybox")


def test_sysctl(docker: Docker) -> None:
    args = ["--sysctl", "net.ipv4.ip_forward=0", "--sysctl", "kernel.msgmax=4096"]
    out = docker("run", "--rm", *args, "busybox", "cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/msgmax")
    assert out.split() == ["0", "4096"]


def test_a_sysctl_of_an_interface_finds_it_there(docker: Docker) -> None:
    path = "/proc/sys/net/ipv4/conf/eth0/arp_announce"
    assert docker("run", "--rm", "--sysctl", "net.ipv4.conf.eth0.arp_announce=2", "busybox", "cat", path).strip() == "2"


def test_a_sysctl_of_all_interfaces_comes_after_them(docker: Docker) -> None:
    """So that `default` is for those that come later alone."""
    command = ["cat", "/proc/sys/net/ipv4/conf/eth0/arp_announce", "/proc/sys/net/ipv4/conf/default/arp_announce"]
    assert docker("run", "--rm", "--sysctl", "net.ipv4.conf.default.arp_announce=2", "busybox", *command).split() == ["0", "2"]


def test_a_sysctl_of_the_host_is_refused(docker: Docker) -> None:
    assert "kernel.hostname" in docker.fails("run", "--rm", "--network", "host", "--sysctl", "kernel.hostname=x", "busybox", "true")


def test_a_network_sysctl_on_the_host_network_is_refused(docker: Docker) -> None:
    assert "not allowed" in docker.fails("run", "--rm", "--network", "host", "--sysctl", "net.ipv4.ip_forward=1", "busybox", "true")


def test_limits_can_be_changed_while_running(docker: Docker, unique: str) -> None:
    docker("run", "-d", "--name", unique, "-m", "64m", "--memory-swap", "64m", "busybox", "sleep", "60")
    docker("update", "-m", "32m", "--memory-swap", "64m", "--pids-limit", "33", unique)
    old, new = FILES["pids"]
    assert docker("exec", unique, "cat", f"/sys/fs/cgroup/{new if V2 else old}") == "33"
    assert docker.inspect(unique)["HostConfig"]["Memory"] == 32 << 20
