"""Which devices a container may open or make: a list of rules, applied as v1 file writes or as a v2 eBPF program.

Rules are applied in order to a container that may use nothing; "rwm" are read, write and mknod (cgroup-v1/devices.rst).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from compat_engine.errors import InvalidParameter
from compat_engine.kernel import bpf

ANY = -1
_RULE = re.compile(r"([acb]) ([0-9]{1,10}|\*):([0-9]{1,10}|\*) ([rwm]{1,3})")


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """kind: "c", "b", or "a" for both; a number may be ANY; access: letters of "rwm"."""

    allow: bool
    kind: str
    major: int
    minor: int
    access: str


ALLOW_ALL = (DeviceRule(True, "a", ANY, ANY, "rwm"),)
DEFAULT = (
    DeviceRule(True, "c", ANY, ANY, "m"),
    DeviceRule(True, "b", ANY, ANY, "m"),
    DeviceRule(True, "c", 1, 3, "rwm"),  # null
    DeviceRule(True, "c", 1, 5, "rwm"),  # zero
    DeviceRule(True, "c", 1, 7, "rwm"),  # full
    DeviceRule(True, "c", 1, 8, "rwm"),  # random
    DeviceRule(True, "c", 1, 9, "rwm"),  # urandom
    DeviceRule(True, "c", 5, 0, "rwm"),  # tty
    DeviceRule(True, "c", 5, 1, "rwm"),  # console
    DeviceRule(True, "c", 5, 2, "rwm"),  # ptmx
    DeviceRule(True, "c", 136, ANY, "rwm"),  # the slaves of Unix98 ptys
)


def parse_rule(text: str) -> DeviceRule:
    """A rule of HostConfig.DeviceCgroupRules, "c 10:* rw". Raises InvalidParameter with Docker's text."""
    found = _RULE.fullmatch(text)
    if found is None:
        raise InvalidParameter(f"invalid device cgroup rule format: '{text}'")
    kind, major, minor, access = found.groups()
    return DeviceRule(True, kind, _number(major), _number(minor), access)


def v1_writes(rules: Sequence[DeviceRule]) -> tuple[tuple[str, str], ...]:
    """(file, value) for a fresh cgroup, which inherits what its parent may."""
    deny_all = (("devices.deny", "a"),)
    return deny_all + tuple((f"devices.{'allow' if rule.allow else 'deny'}", _v1_text(rule)) for rule in rules)


def program(rules: Sequence[DeviceRule]) -> bytes:
    """eBPF instructions for cgroup v2, see `kernel.bpf`."""
    return bpf.device_program(tuple((rule.allow, rule.kind, rule.major, rule.minor, rule.access) for rule in rules))


def _v1_text(rule: DeviceRule) -> str:
    if rule.kind == "a" and rule.major == rule.minor == ANY:
        return "a"  # with numbers or letters behind it the kernel ignores them
    return f"{rule.kind} {_star(rule.major)}:{_star(rule.minor)} {rule.access}"


def _star(number: int) -> str:
    return "*" if number == ANY else str(number)


def _number(text: str) -> int:
    return ANY if text == "*" else int(text)
