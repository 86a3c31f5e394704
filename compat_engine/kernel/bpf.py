"""eBPF for cgroup v2: the program that says which devices a cgroup may use, and bpf(2) to load and attach it."""

import ctypes
import errno
import os
import struct
from collections.abc import Sequence

PROG_LOAD, PROG_ATTACH = 5, 8  # enum bpf_cmd
PROG_TYPE_CGROUP_DEVICE, CGROUP_DEVICE = 15, 6  # enum bpf_prog_type, enum bpf_attach_type
ALLOW_MULTI = 2  # BPF_F_ALLOW_MULTI: programs of a child cgroup are asked too
INSTRUCTION = 8  # bytes
_SYSCALL = {"x86_64": 321, "aarch64": 280}

_ACCESS = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*
ALL_LETTERS = 7
_KIND = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
_LOAD, _MOVE, _MOVE_REG, _AND, _SHIFT_RIGHT = 0x61, 0xB4, 0xBC, 0x54, 0x74  # 32-bit arithmetic
_NOT_EQUAL, _ALWAYS, _EXIT = 0x55, 0x05, 0x95
_R0, _CONTEXT, _TYPE, _WANTED, _MAJOR, _MINOR, _SCRATCH = 0, 1, 2, 3, 4, 5, 6

Rule = tuple[bool, str, int, int, str]  # allow, "a" "b" or "c", major, minor (-1: any), letters of "rwm"


def device_program(rules: Sequence[Rule]) -> bytes:
    """Instructions that grant an access when `rules`, applied in order to nothing allowed, leave all its letters allowed by
    one rule. The last rule that speaks of the access decides, so they are tested from the last to the first."""
    code = [
        _op(_LOAD, _TYPE, _CONTEXT, 0),  # struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor
        _op(_MOVE_REG, _WANTED, _TYPE),
        _op(_AND, _TYPE, value=0xFFFF),
        _op(_SHIFT_RIGHT, _WANTED, value=16),
        _op(_LOAD, _MAJOR, _CONTEXT, 4),
        _op(_LOAD, _MINOR, _CONTEXT, 8),
    ]
    for rule in reversed(rules):
        test = _test(rule)
        code += test
        if len(test) == len(_answer(True)):
            return b"".join(code)  # it speaks of every access; the verifier refuses code that nothing reaches
    return b"".join(code + _answer(False))


def attach_device_program(cgroup: int, program: bytes) -> None:
    """Load `program` and attach it to the v2 cgroup directory open as `cgroup`. OSError: EPERM without CAP_BPF (or
    CAP_SYS_ADMIN), EINVAL with the verifier's last line when it refuses the program."""
    loaded = _load(program)
    try:
        _bpf(PROG_ATTACH, struct.pack("=IIII", cgroup, loaded, CGROUP_DEVICE, ALLOW_MULTI))
    finally:
        os.close(loaded)  # the cgroup holds it from now on


def _load(program: bytes) -> int:
    instructions, licence = ctypes.create_string_buffer(program), ctypes.create_string_buffer(b"GPL")
    pointers = (ctypes.addressof(instructions), ctypes.addressof(licence))
    attributes = struct.pack("=IIQQ", PROG_TYPE_CGROUP_DEVICE, len(program) // INSTRUCTION, *pointers)
    try:
        return _bpf(PROG_LOAD, attributes)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES):
            raise
        raise OSError(error.errno, f"{error.strerror}: {_verdict(attributes)}") from error


def _verdict(attributes: bytes) -> str:
    """Why the verifier refuses a program: the same load again, with a log (level, size, address follow the licence)."""
    log = ctypes.create_string_buffer(8192)
    try:
        os.close(_bpf(PROG_LOAD, attributes + struct.pack("=IIQ", 1, len(log), ctypes.addressof(log))))
    except OSError:
        return log.value.decode(errors="replace").strip()[-200:]
    return "taken at the second try"


def _bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    padded = attributes.ljust(120, b"\0")
    buffer = ctypes.create_string_buffer(padded, len(padded))
    number = _SYSCALL[os.uname().machine]
    result = libc.syscall(ctypes.c_long(number), ctypes.c_long(command), buffer, ctypes.c_ulong(len(padded)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"bpf: {os.strerror(code)}")
    return int(result)


def _test(rule: Rule) -> list[bytes]:
    """One rule: the tests, each jumping behind the answer when it fails, then the answer."""
    allow, kind, major, minor, access = rule
    tests: list[tuple[int, int]] = []
    if kind != "a":
        tests.append((_TYPE, _KIND[kind]))
    tests += [(register, number) for register, number in ((_MAJOR, major), (_MINOR, minor)) if number >= 0]
    letters = sum(_ACCESS[letter] for letter in set(access))
    answer = _answer(allow)
    guard = _access_guard(allow, letters, len(answer)) if letters != ALL_LETTERS else []
    code: list[bytes] = []
    for position, (register, number) in enumerate(tests):
        behind = len(tests) - position - 1 + len(guard) + len(answer)
        code.append(_op(_NOT_EQUAL, register, offset=behind, value=number))
    return code + guard + answer


def _access_guard(allow: bool, letters: int, behind: int) -> list[bytes]:
    """An allowing rule speaks of an access when it has all its letters, a denying one when it has any of them."""
    code = [_op(_MOVE_REG, _SCRATCH, _WANTED), _op(_AND, _SCRATCH, value=letters ^ ALL_LETTERS if allow else letters)]
    if allow:
        return [*code, _op(_NOT_EQUAL, _SCRATCH, offset=behind)]
    return [*code, _op(_NOT_EQUAL, _SCRATCH, offset=1), _op(_ALWAYS, 0, offset=behind)]  # any letter: on to the answer


def _answer(allow: bool) -> list[bytes]:
    return [_op(_MOVE, _R0, value=int(allow)), _op(_EXIT, 0)]


def _op(code: int, target: int, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhI", code, target | source << 4, offset, value)
