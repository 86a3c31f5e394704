"""The filter as the kernel runs it, by interpreting the program: fast, without root, for any architecture."""

import errno
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat_engine.kernel.seccomp import ALLOW, ERRNO, KILL_THREAD, LOG, X32_BIT, Target, compile_profile
from compat_engine.kernel.syscalls import numbers

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
INTEL, ARM64 = Target("x86_64", (6, 1)), Target("aarch64", (6, 1))


def run(program: bytes, arch: int, nr: int, *args: int) -> int:
    data = struct.pack("=IIQ6Q", nr, arch, 0, *args, *[0] * (6 - len(args)))
    code = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = 0
    while True:
        operation, if_true, if_false, operand = code[at]
        at += 1
        match operation:
            case 0x20:
                accumulator = struct.unpack_from("=I", data, operand)[0]
            case 0x54:
                accumulator &= operand
            case 0x05:
                at += operand
            case 0x06:
                return int(operand)
            case _:
                holds = {0x15: accumulator == operand, 0x25: accumulator > operand, 0x35: accumulator >= operand}[operation]
                at += if_true if holds else if_false


def profile(*syscalls: dict[str, object], default: str = "SCMP_ACT_ERRNO", **more: object) -> dict[str, object]:
    return {"defaultAction": default, "syscalls": list(syscalls), **more}


def rule(*names: str, action: str = "SCMP_ACT_ALLOW", **more: object) -> dict[str, object]:
    return {"names": list(names), "action": action, **more}


def test_known_calls_are_decided_and_newer_ones_are_not_there() -> None:
    program = compile_profile(profile(rule("read", "openat2")), frozenset(), INTEL)
    table = numbers("x86_64")
    assert run(program, X86_64, table["read"]) == ALLOW
    assert run(program, X86_64, table["write"]) == ERRNO | errno.EPERM
    assert run(program, X86_64, table["openat2"] + 1) == ERRNO | errno.ENOSYS


def test_only_the_architectures_of_the_profile_may_call() -> None:
    wide = profile(rule("read"), archMap=[{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}])
    program = compile_profile(wide, frozenset(), INTEL)
    assert run(program, I386, numbers("x86")["read"]) == ALLOW
    assert run(program, X86_64, X32_BIT | numbers("x32")["read"]) == KILL_THREAD
    assert run(compile_profile(profile(rule("read")), frozenset(), INTEL), I386, 3) == KILL_THREAD
    assert run(compile_profile(wide, frozenset(), ARM64), AARCH64, numbers("aarch64")["read"]) == ALLOW


COMPARE = {
    "NE": int.__ne__, "LT": int.__lt__, "LE": int.__le__, "EQ": int.__eq__, "GE": int.__ge__, "GT": int.__gt__,
}  # fmt: skip
words = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1), st.sampled_from([2**32 - 1, 2**32, 2**32 + 1, 2**63, 2**64 - 1]))


@given(st.sampled_from(sorted(COMPARE)), words, words)
def test_comparisons_are_of_unsigned_64_bit_numbers(op: str, value: int, argument: int) -> None:
    args = [{"index": 2, "value": value, "op": f"SCMP_CMP_{op}"}]
    program = compile_profile(profile(rule("write", args=args)), frozenset(), INTEL)
    wanted = ALLOW if COMPARE[op](argument, value) else ERRNO | errno.EPERM
    assert run(program, X86_64, 1, 0, 0, argument) == wanted


@given(words, words, words)
def test_masked_comparison(mask: int, two: int, argument: int) -> None:
    args = [{"index": 0, "value": mask, "valueTwo": two, "op": "SCMP_CMP_MASKED_EQ"}]
    program = compile_profile(profile(rule("write", args=args)), frozenset(), INTEL)
    assert (run(program, X86_64, 1, argument) == ALLOW) == (argument & mask == two)


def test_arguments_join_and_values_of_one_argument_are_alternatives() -> None:
    def equal(index: int, value: int) -> dict[str, object]:
        return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}

    both = compile_profile(profile(rule("write", args=[equal(0, 1), equal(1, 2)])), frozenset(), INTEL)
    assert run(both, X86_64, 1, 1, 2) == ALLOW
    assert run(both, X86_64, 1, 1, 3) != ALLOW
    either = compile_profile(profile(rule("write", args=[equal(0, 1), equal(0, 2)])), frozenset(), INTEL)
    assert [run(either, X86_64, 1, n) == ALLOW for n in (1, 2, 3)] == [True, True, False]


def test_conditions_on_capabilities_architecture_and_kernel() -> None:
    def allowed(target: Target, *caps: str, **conditions: Any) -> bool:
        program = compile_profile(profile(rule("read", "write"), rule("mount", **conditions)), frozenset(caps), target)
        arch, table = (X86_64, numbers("x86_64")) if target is INTEL else (AARCH64, numbers("aarch64"))
        return run(program, arch, table["mount"]) == ALLOW

    assert allowed(INTEL, "CAP_SYS_ADMIN", includes={"caps": ["CAP_SYS_ADMIN"]})
    assert not allowed(INTEL, includes={"caps": ["CAP_SYS_ADMIN"]})
    assert not allowed(INTEL, "CAP_SYS_ADMIN", excludes={"caps": ["CAP_SYS_ADMIN"]})
    assert allowed(ARM64, includes={"arches": ["arm64"]}) and not allowed(INTEL, includes={"arches": ["arm64"]})
    assert allowed(INTEL, includes={"minKernel": "4.8"}) and not allowed(INTEL, includes={"minKernel": "6.2"})


def test_a_permissive_profile_denies_what_it_names() -> None:
    denied = rule("mkdir", action="SCMP_ACT_ERRNO", errnoRet=errno.EACCES)
    program = compile_profile(profile(denied, rule("read", action="SCMP_ACT_LOG"), default="SCMP_ACT_ALLOW"), frozenset(), INTEL)
    assert run(program, X86_64, numbers("x86_64")["mkdir"]) == ERRNO | errno.EACCES
    assert run(program, X86_64, 0) == LOG
    assert run(program, X86_64, 5000) == ALLOW


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({}, "unrecognized action: None"),
        (profile({"names": ["read"], "name": "read", "action": "SCMP_ACT_ALLOW"}), "both 'name' and 'names'"),
        (profile(rule("read", args=[{"index": 9, "op": "SCMP_CMP_EQ"}])), "invalid argument index: 9"),
        (profile(rule("read", args=[{"index": 0, "op": "?"}])), "unrecognized comparison operator"),
        (profile(architectures=["SCMP_ARCH_X86"], archMap=[{"architecture": "SCMP_ARCH_X86_64"}]), "both 'architectures'"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": {}}, "'syscalls' must be an array"),
    ],
)
def test_bad_profiles_are_refused(bad: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        compile_profile(bad, frozenset(), INTEL)


def test_programs_stay_within_the_kernels_limit() -> None:
    rules = [
        rule(name, args=[{"index": n, "value": number, "op": "SCMP_CMP_EQ"} for n in range(6)])
        for name, number in numbers("x86_64").items()
    ]
    with pytest.raises(ValueError, match="too long"):
        compile_profile(profile(*rules), frozenset(), INTEL)
