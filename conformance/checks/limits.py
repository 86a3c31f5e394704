"""Resource limits, ulimits and sysctls, as the process inside sees them."""

from __future__ import annotations

from typing import Any

from ..assertions import (
    Skipped,
    contains,
    equal,
    expect,
)
from ..engine import Engine
from ..registry import check

CREATE = "POST /containers/create"
MIB = 1 << 20


# limits


@check(CREATE)
def ulimits(engine: Engine) -> None:
    host = {"Ulimits": [{"Name": "nofile", "Soft": 512, "Hard": 1024}, {"Name": "core", "Soft": 0, "Hard": 0}]}
    equal(engine.inside("ulimit -Sn; ulimit -Hn; ulimit -c", host), "512\n1024\n0", "limits")


@check(CREATE)
def oom_score(engine: Engine) -> None:
    equal(engine.inside("cat /proc/self/oom_score_adj", {"OomScoreAdj": 321}), "321", "oom_score_adj")


@check(CREATE)
def sysctls(engine: Engine) -> None:
    host = {
        "NetworkMode": "bridge",
        "Sysctls": {"net.ipv4.ip_forward": "0", "kernel.shm_rmid_forced": "1", "kernel.msgmax": "9000"},
    }
    script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced /proc/sys/kernel/msgmax"
    equal(engine.inside(script, host), "0\n1\n9000", "values")


@check(CREATE)
def default_sysctls(engine: Engine) -> None:
    seen = engine.inside(
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range", {"NetworkMode": "bridge"}
    )
    equal(seen.split(), ["0", "0", "2147483647"], "values")


@check(CREATE)
def sysctl_of_the_host_is_refused(engine: Engine) -> None:
    container = engine.create(host={"Sysctls": {"kernel.panic": "1"}})
    answer = engine.client.post(f"/containers/{container}/start")
    expect(answer.status in (400, 500), f"status: {answer.status}")
    contains(answer.message, "kernel.panic", "message")


def cgroup(engine: Engine, v1: str, v2: str, host: dict[str, Any]) -> str:
    """A value of the container's own cgroup, seen from inside: its v1 file or its v2 file."""
    if engine.client.get("/info").json().get("CgroupVersion") == "2":
        path = f"/sys/fs/cgroup/{v2}"
    else:
        controller = v1.partition("/")[0]
        path = f"/sys/fs/cgroup/{v1}"
        own = engine.inside(f"ls {path} >/dev/null 2>&1 && grep '[:,]{controller}[,:]' /proc/self/cgroup || true", host)
        if not own:
            raise Skipped(f"{path} is not visible inside")
    return engine.inside(f"cat {path}", {"CgroupnsMode": "private", **host})


@check(CREATE)
def memory_limit(engine: Engine) -> None:
    seen = cgroup(engine, "memory/memory.limit_in_bytes", "memory.max", {"Memory": 64 * MIB})
    equal(int(seen), 64 * MIB, "limit")


@check(CREATE)
def pids_limit(engine: Engine) -> None:
    equal(cgroup(engine, "pids/pids.max", "pids.max", {"PidsLimit": 55}), "55", "limit")


@check(CREATE)
def pids_limit_holds(engine: Engine) -> None:
    done = engine.finish("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 2 & done; wait", host={"PidsLimit": 5})
    expect("fork" in done.stderr or done.code, f"fork fails: {done.code} {done.stderr!r}")


@check(CREATE)
def cpu_quota(engine: Engine) -> None:
    if engine.client.get("/info").json().get("CgroupVersion") == "2":
        equal(cgroup(engine, "", "cpu.max", {"NanoCpus": 500_000_000}), "50000 100000", "cpu.max")
    else:
        equal(cgroup(engine, "cpu/cpu.cfs_quota_us", "", {"NanoCpus": 500_000_000}), "50000", "quota")


@check(CREATE)
def cpuset(engine: Engine) -> None:
    equal(engine.inside("grep Cpus_allowed_list /proc/self/status", {"CpusetCpus": "0"}).split()[1], "0", "Cpus_allowed_list")


@check(CREATE)
def out_of_memory(engine: Engine) -> None:
    container = engine.run_light("sh", "-c", "tail -c 200000000 /dev/zero", host={"Memory": 32 * MIB, "MemorySwap": 32 * MIB})
    equal(engine.wait(container), 137, "exit code")
