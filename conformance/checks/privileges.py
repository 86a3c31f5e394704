"""Capabilities, seccomp, privileged containers and devices, as the process inside sees them."""

from __future__ import annotations

import json
from typing import Any

from ..assertions import (
    contains,
    equal,
    expect,
    matches,
)
from ..engine import Engine
from ..registry import Body, check, each

CREATE = "POST /containers/create"

CAPABILITIES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]
DEFAULT = {
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
}


def mask(names: set[str]) -> int:
    return sum(1 << CAPABILITIES.index(name) for name in names)


def status_of(engine: Engine, host: dict[str, Any] | None = None, **config: Any) -> dict[str, str]:
    """/proc/self/status of a process in a new container."""
    text = engine.inside("cat /proc/self/status", host, **config)
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def mounts(engine: Engine, host: dict[str, Any] | None = None) -> dict[str, tuple[str, set[str]]]:
    """Mount point to file system type and options, of a new container."""
    rows = [line.split() for line in engine.inside("cat /proc/self/mounts", host).splitlines()]
    return {row[1]: (row[2], set(row[3].split(","))) for row in rows}


# capabilities, seccomp and privileges


def capabilities_are(names: set[str], host: dict[str, Any]) -> Body:
    def run(engine: Engine) -> None:
        seen = status_of(engine, host)
        for key in ("CapPrm", "CapEff", "CapBnd"):
            equal(f"{int(seen[key], 16):x}", f"{mask(names):x}", key)
        for key in ("CapInh", "CapAmb"):
            equal(int(seen[key], 16), 0, key)

    return run


each(
    CREATE,
    "capabilities",
    [
        ("default", capabilities_are(DEFAULT, {})),
        ("add", capabilities_are(DEFAULT | {"NET_ADMIN", "SYS_TIME"}, {"CapAdd": ["NET_ADMIN", "CAP_SYS_TIME"]})),
        ("drop", capabilities_are(DEFAULT - {"CHOWN", "KILL"}, {"CapDrop": ["CHOWN", "cap_kill"]})),
        ("drop all", capabilities_are(set(), {"CapDrop": ["ALL"]})),
        ("drop all and add", capabilities_are({"CHOWN"}, {"CapDrop": ["ALL"], "CapAdd": ["CHOWN"]})),
    ],
)


@check(CREATE)
def capabilities_of_another_user(engine: Engine) -> None:
    seen = status_of(engine, User="worker")
    equal(int(seen["CapEff"], 16), 0, "CapEff")
    equal(int(seen["CapBnd"], 16), mask(DEFAULT), "CapBnd")


@check(CREATE)
def capabilities_all(engine: Engine) -> None:
    have, plain = (int(status_of(engine, host)["CapEff"], 16) for host in ({"CapAdd": ["ALL"]}, {}))
    expect(have & mask(DEFAULT) == mask(DEFAULT) and have > plain, f"all the engine itself may have: {have:x}")
    expect(have & mask({"SYS_ADMIN", "NET_ADMIN"}), "SYS_ADMIN and NET_ADMIN are among them")


@check(CREATE)
def seccomp_filters_by_default(engine: Engine) -> None:
    equal(status_of(engine)["Seccomp"], "2", "Seccomp")


@check(CREATE)
def seccomp_unconfined(engine: Engine) -> None:
    equal(status_of(engine, {"SecurityOpt": ["seccomp=unconfined"]})["Seccomp"], "0", "Seccomp")


@check(CREATE)
def seccomp_default_refuses_unshare(engine: Engine) -> None:
    seen = engine.inside("unshare -U true 2>&1 || echo refused")
    contains(seen, "refused", "unshare of a user namespace")


@check(CREATE)
def seccomp_profile_of_ones_own(engine: Engine) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
    profile = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    seen = engine.inside("mkdir /tmp/x 2>&1 || echo refused; touch /tmp/y && echo made", {"SecurityOpt": [f"seccomp={profile}"]})
    matches("mkdir: .*Operation not permitted\nrefused\nmade", seen, "output")


@check(CREATE)
def seccomp_profile_that_is_none(engine: Engine) -> None:
    container = engine.create(host={"SecurityOpt": ["seccomp={"]})
    answer = engine.client.post(f"/containers/{container}/start")
    expect(answer.status in (400, 500), f"status: {answer.status}")
    contains(answer.message, "seccomp profile", "message")


@check(CREATE)
def no_new_privileges(engine: Engine) -> None:
    equal(status_of(engine)["NoNewPrivs"], "0", "NoNewPrivs by default")
    equal(status_of(engine, {"SecurityOpt": ["no-new-privileges"]})["NoNewPrivs"], "1", "NoNewPrivs")
    equal(status_of(engine, {"SecurityOpt": ["no-new-privileges:true"]})["NoNewPrivs"], "1", "NoNewPrivs with a value")


@check(CREATE)
def privileged(engine: Engine) -> None:
    seen = status_of(engine, {"Privileged": True})
    equal(seen["Seccomp"], "0", "Seccomp")
    expect(int(seen["CapEff"], 16) & mask({"SYS_ADMIN"}), "SYS_ADMIN is there")


@check(CREATE)
def privileged_has_writable_sys_and_no_masks(engine: Engine) -> None:
    seen = mounts(engine, {"Privileged": True})
    contains(seen["/sys"][1], "rw", "options of /sys")
    expect("/proc/kcore" not in seen and "/proc/sys" not in seen, "nothing is masked")


@check(CREATE)
def privileged_sees_the_devices(engine: Engine) -> None:
    plain, wide = (set(engine.inside("ls /dev", host).split()) for host in ({}, {"Privileged": True}))
    expect(wide > plain, f"more devices: {sorted(wide - plain)[:5]}")


# devices


@check(CREATE)
def device(engine: Engine) -> None:
    host = {"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/mine", "CgroupPermissions": "rwm"}]}
    equal(engine.inside("stat -c %t:%T /dev/mine; echo x > /dev/mine && echo written", host), "1:3\nwritten", "device")


@check(CREATE)
def device_that_is_missing(engine: Engine) -> None:
    host = {"Devices": [{"PathOnHost": "/dev/no-such", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}]}
    answer = engine.client.post(f"/containers/{engine.create(host=host)}/start")
    expect(answer.status in (400, 500), f"status: {answer.status}")
    contains(answer.message, '"/dev/no-such"', "message")


@check(CREATE)
def other_devices_are_refused(engine: Engine) -> None:
    seen = engine.inside("mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem 2>&1 || true")
    contains(seen, "Operation not permitted", "reading /dev/mem")


@check(CREATE)
def device_requests_without_a_driver(engine: Engine) -> None:
    if engine.version < (1, 40):
        return
    host = {"DeviceRequests": [{"Driver": "conformance-none", "Count": -1, "Capabilities": [["gpu"]]}]}
    answer = engine.client.post(f"/containers/{engine.create(host=host)}/start")
    expect(answer.status in (400, 404, 500), f"status: {answer.status}")
    contains(answer.message, 'could not select device driver "conformance-none"', "message")
