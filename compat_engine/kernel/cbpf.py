"""Classic BPF for seccomp filters (linux/filter.h, linux/seccomp.h): from tables of rules to instructions. Pure.

Every piece of code built here ends in a return, so pieces are simply laid one after another. Jumps are forward only.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LD, AND, RET, JA, JEQ, JGT, JGE = 0x20, 0x54, 0x06, 0x05, 0x15, 0x25, 0x35  # 32-bit loads (absolute) and constant operands
NR_OFFSET, ARCH_OFFSET, ARGS_OFFSET = 0, 4, 16  # struct seccomp_data
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
FAR = 255  # the longest conditional jump
WORD = 0xFFFFFFFF

_NEXT, _PASS, _FAIL = 0, -1, -2  # jump labels inside one comparison: go on, condition holds, rule does not match

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand
Code = tuple[Instruction, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One argument of a system call compared as an unsigned 64-bit number. op: EQ NE LT LE GE GT, or MASKED_EQ, which
    holds when `argument & value == value_two`."""

    index: int
    op: str
    value: int
    value_two: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """Return `action` (a SECCOMP_RET_ value) when all of `comparisons` hold."""

    action: int
    comparisons: tuple[Comparison, ...] = ()


def returning(action: int) -> Code:
    return ((RET, 0, 0, action),)


def chain(rules: Sequence[Rule], default: int) -> Code:
    """Try `rules` in order; the first that matches decides."""
    code: Code = ()
    for rule in rules:
        code += _rule(rule)
        if not rule.comparisons:
            return code
    return code + returning(default)


def search(leaves: Mapping[int, Code]) -> Code:
    """Binary search on the accumulator: leaves[n] decides for numbers from n up to the next key. Must have the key 0."""
    ranges: list[tuple[int, Code]] = []
    for start, code in sorted(leaves.items()):
        if not ranges or ranges[-1][1] != code:
            ranges.append((start, code))
    return _tree(ranges)


def dispatch(sections: Mapping[int, Code], default: int) -> Code:
    """The whole filter: one section an AUDIT_ARCH_ token, `default` for any other architecture."""
    code: Code = ((LD, 0, 0, ARCH_OFFSET),)
    for token, section in sections.items():
        body = ((LD, 0, 0, NR_OFFSET), *section)
        code += _branch(JEQ, token, body, skip_when_true=False) + body
    return code + returning(default)


def assemble(code: Code) -> bytes:
    """An array of struct sock_filter in the machine's byte order. Raises ValueError when the kernel would refuse its length."""
    if len(code) > MAX_INSTRUCTIONS:
        raise ValueError(f"seccomp filter too long: {len(code)} instructions, the kernel takes {MAX_INSTRUCTIONS}")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _tree(ranges: Sequence[tuple[int, Code]]) -> Code:
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    low, high = _tree(ranges[:middle]), _tree(ranges[middle:])
    return _branch(JGE, ranges[middle][0], low, skip_when_true=True) + low + high


def _branch(code: int, operand: int, body: Code, *, skip_when_true: bool) -> Code:
    """A test placed before `body` that jumps over it; two instructions when it is too far for a conditional jump."""
    length = len(body)
    if length <= FAR:
        return ((code, length, 0, operand) if skip_when_true else (code, 0, length, operand),)
    test = (code, 0, 1, operand) if skip_when_true else (code, 1, 0, operand)
    return (test, (JA, 0, 0, length))


def _rule(rule: Rule) -> Code:
    parts = [_comparison(comparison) for comparison in rule.comparisons]
    end = sum(len(part) for part in parts) + 1
    code: list[Instruction] = []
    for part in parts:
        passed = len(code) + len(part)
        for operation, if_true, if_false, operand in part:
            here = len(code) + 1
            targets = {_NEXT: 0, _PASS: passed - here, _FAIL: end - here}
            code.append((operation, targets[if_true], targets[if_false], operand))
    return (*code, *returning(rule.action))


def _comparison(c: Comparison) -> Code:
    low = (LD, 0, 0, ARGS_OFFSET + 8 * c.index)  # little endian: the low word comes first
    high = (LD, 0, 0, ARGS_OFFSET + 8 * c.index + 4)
    value_high, value_low = c.value >> 32, c.value & WORD
    match c.op:
        case "EQ" | "NE":
            holds, fails = (_PASS, _FAIL) if c.op == "EQ" else (_FAIL, _PASS)
            return (high, (JEQ, _NEXT, fails, value_high), low, (JEQ, holds, fails, value_low))
        case "GT" | "GE" | "LT" | "LE":
            holds, fails = (_PASS, _FAIL) if c.op in ("GT", "GE") else (_FAIL, _PASS)
            last = JGT if c.op in ("GT", "LE") else JGE
            words = (high, (JGT, holds, _NEXT, value_high), (JEQ, _NEXT, fails, value_high), low)
            return (*words, (last, holds, fails, value_low))
        case "MASKED_EQ":
            wanted_high, wanted_low = c.value_two >> 32, c.value_two & WORD
            first = (high, (AND, 0, 0, value_high), (JEQ, _NEXT, _FAIL, wanted_high))
            return (*first, low, (AND, 0, 0, value_low), (JEQ, _PASS, _FAIL, wanted_low))
    raise ValueError(f"unknown comparison: {c.op}")
