"""Seccomp profiles in Docker's JSON format, compiled to the classic BPF program seccomp(2) takes. Pure, no libseccomp.

What a compiled filter does, seen from the container:
- a call of an architecture the profile does not name kills the thread;
- a call newer than the newest the profile mentions answers ENOSYS, so that programs fall back instead of giving up on EPERM;
- of several rules for one call the first whose comparisons hold decides, in the profile's order.
"""

import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compat_engine.kernel import cbpf
from compat_engine.kernel.cbpf import Code, Comparison, Rule
from compat_engine.kernel.syscalls import numbers

# linux/seccomp.h: the action in the high half, an errno or a message for the tracer in the low one
KILL_THREAD, KILL_PROCESS, TRAP, ERRNO, TRACE, LOG, ALLOW = 0, 0x80000000, 0x30000, 0x50000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000
X32_BIT = 0x40000000

_ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_ALLOW": ALLOW,
}
_OPERATORS = frozenset(f"SCMP_CMP_{op}" for op in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
_NATIVE = {"x86_64": ("SCMP_ARCH_X86_64", "amd64"), "aarch64": ("SCMP_ARCH_AARCH64", "arm64")}
# linux/audit.h token and the column of the number table; x32 shares its token with x86_64
_ARCHITECTURES = {
    "SCMP_ARCH_X86_64": (0xC000003E, "x86_64"),
    "SCMP_ARCH_X86": (0x40000003, "x86"),
    "SCMP_ARCH_X32": (0xC000003E, "x32"),
    "SCMP_ARCH_AARCH64": (0xC00000B7, "aarch64"),
    "SCMP_ARCH_ARM": (0x40000028, "arm"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """The machine a program is for: uname's machine ("x86_64", "aarch64") and kernel version."""

    machine: str
    kernel: tuple[int, int]

    @classmethod
    def here(cls) -> "Target":
        uname = os.uname()
        return cls(uname.machine, _version(uname.release))


def compile_profile(profile: Mapping[str, Any], caps: frozenset[str], target: Target | None = None) -> bytes:
    """The program for a process with the capabilities `caps` ("CAP_CHOWN"). Raises ValueError, with a sentence, on a bad profile.

    target: this machine when absent."""
    target = target or Target.here()
    if target.machine not in _NATIVE:
        raise ValueError(f"seccomp is not supported on {target.machine}")
    default = _action(profile.get("defaultAction"), profile.get("defaultErrnoRet"))
    rules = [pair for pair in _rules(profile, caps, target) if pair[1].action != default]
    sections: dict[int, dict[int, Code]] = {}
    for architecture in _architectures(profile, target.machine):
        token, column = _ARCHITECTURES[architecture]
        sections.setdefault(token, {}).update(_leaves(rules, default, column))
    for token, leaves in sections.items():
        if token == _ARCHITECTURES["SCMP_ARCH_X32"][0]:
            leaves.setdefault(X32_BIT, cbpf.returning(KILL_THREAD))
    return cbpf.assemble(cbpf.dispatch({token: cbpf.search(leaves) for token, leaves in sections.items()}, KILL_THREAD))


def _leaves(rules: Sequence[tuple[str, Rule]], default: int, column: str) -> dict[int, Code]:
    """First number of a range -> what to do in it, for one architecture."""
    base = X32_BIT if column == "x32" else 0
    table = numbers(column)
    by_number: dict[int, list[Rule]] = {}
    for name, rule in rules:
        if name in table:
            by_number.setdefault(base + table[name], []).append(rule)
    leaves = {base: cbpf.returning(default)}
    for number in sorted(by_number):
        leaves[number] = cbpf.chain(by_number[number], default)
        if number + 1 not in by_number:
            leaves[number + 1] = cbpf.returning(default)
    if by_number and default not in (ALLOW, LOG, ERRNO | errno.ENOSYS):
        leaves[max(by_number) + 1] = cbpf.returning(ERRNO | errno.ENOSYS)
    return leaves


def _architectures(profile: Mapping[str, Any], machine: str) -> list[str]:
    """The native architecture first, then those the profile adds to it."""
    native = _NATIVE[machine][0]
    listed, mapped = _list(profile, "architectures"), _list(profile, "archMap")
    if listed and mapped:
        raise ValueError("both 'architectures' and 'archMap' are specified in the seccomp profile, use either of them")
    for entry in mapped:
        if _dict(entry, "archMap").get("architecture") == native:
            listed = _list(entry, "subArchitectures")
    for name in listed:
        if not isinstance(name, str) or not name.startswith("SCMP_ARCH_"):
            raise ValueError(f"unrecognized architecture: {name}")
    return [native, *(name for name in listed if name != native and name in _ARCHITECTURES)]


def _rules(profile: Mapping[str, Any], caps: frozenset[str], target: Target) -> Iterator[tuple[str, Rule]]:
    for raw in _list(profile, "syscalls"):
        entry = _dict(raw, "syscalls")
        names = _names(entry)
        action = _action(entry.get("action"), entry.get("errnoRet"))
        alternatives = _comparisons(_list(entry, "args"))
        if _applies(entry, caps, target):
            for name in names:
                for comparisons in alternatives:
                    yield name, Rule(action, comparisons)


def _names(entry: Mapping[str, Any]) -> list[str]:
    name, names = entry.get("name"), _list(entry, "names")
    if name and names:
        raise ValueError("both 'name' and 'names' are specified in the seccomp profile, use either of them")
    found = [name] if name else names
    for item in found:
        if not isinstance(item, str):
            raise ValueError(f"the name of a syscall must be a string, not {item!r}")
    return found


def _applies(entry: Mapping[str, Any], caps: frozenset[str], target: Target) -> bool:
    architecture = _NATIVE[target.machine][1]
    excludes, includes = _dict(entry.get("excludes") or {}, "excludes"), _dict(entry.get("includes") or {}, "includes")
    if architecture in _list(excludes, "arches") or not caps.isdisjoint(_list(excludes, "caps")):
        return False
    if (least := excludes.get("minKernel")) and target.kernel >= _version(least):
        return False
    if (wanted := _list(includes, "arches")) and architecture not in wanted:
        return False
    if (least := includes.get("minKernel")) and target.kernel < _version(least):
        return False
    return caps.issuperset(_list(includes, "caps"))


def _comparisons(args: Sequence[Any]) -> list[tuple[Comparison, ...]]:
    """Alternatives, each a conjunction: comparisons of different arguments must all hold; when one argument is compared
    twice, as older profiles do to list its values, each comparison stands alone."""
    found = [_comparison(_dict(arg, "args")) for arg in args]
    if len({comparison.index for comparison in found}) < len(found):
        return [(comparison,) for comparison in found]
    return [tuple(found)]


def _comparison(arg: Mapping[str, Any]) -> Comparison:
    index, value, two, op = arg.get("index", 0), arg.get("value", 0), arg.get("valueTwo", 0), arg.get("op")
    if op not in _OPERATORS:
        raise ValueError(f"unrecognized comparison operator: {op}")
    if not isinstance(index, int) or not 0 <= index <= 5:
        raise ValueError(f"invalid argument index: {index}")
    for number in (value, two):
        if not isinstance(number, int) or not 0 <= number < 1 << 64:
            raise ValueError(f"invalid argument value: {number}")
    return Comparison(index, str(op).removeprefix("SCMP_CMP_"), value, two)


def _action(name: object, code: object) -> int:
    if not isinstance(name, str) or name not in _ACTIONS:
        raise ValueError(f"unrecognized action: {name}")
    value = _ACTIONS[name]
    if value not in (ERRNO, TRACE):
        return value
    if code is None:
        code = errno.EPERM
    if not isinstance(code, int) or not 0 <= code < 1 << 16:
        raise ValueError(f"invalid errno value: {code}")
    return value | code


def _version(release: object) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", str(release))
    if found is None:
        raise ValueError(f"invalid kernel version: {release}")
    return int(found[1]), int(found[2])


def _list(raw: Mapping[str, Any], key: str) -> list[Any]:
    value = raw.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"'{key}' must be an array")
    return value


def _dict(value: object, key: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"'{key}' must hold objects")
    return value
