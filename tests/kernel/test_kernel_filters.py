"""Compiled filters installed in the kernel. Needs root; each case runs in a forked child."""

import ctypes
import errno
import mmap
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compat_engine.kernel.bpf import attach_device_program
from compat_engine.kernel.syscalls import numbers
from compat_engine.runtime.capabilities import DEFAULT as CAPS
from compat_engine.runtime.cgroups import devices
from compat_engine.runtime.seccomp import compile_text, default_profile

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="speaks x86_64 and i386"),
]
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
I386_STUB = bytes.fromhex("53 89f8 89f3 cd80 5b c3")  # push rbx; eax = edi; ebx = esi; int 0x80; pop rbx; ret


def in_child(body: Callable[[], int]) -> int:
    """The child's exit status; 255 when `body` raised."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(body())
        finally:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class SockFprog(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def install(program: bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(program)
    fprog = SockFprog(len(program) // 8, ctypes.addressof(code))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(fprog), 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def outcome(call: str, *args: int) -> int:
    """errno of a call made under the default profile with Docker's default capabilities; 0 when it succeeds."""
    program, number = compile_text(default_profile(), frozenset(CAPS)), numbers("x86_64")[call]

    def body() -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        install(program)
        result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(arg) for arg in args))
        return 0 if result >= 0 else ctypes.get_errno()

    return in_child(body)


@pytest.mark.parametrize(
    "call", ["mount", "unshare", "keyctl", "bpf", "setns", "open_by_handle_at", "kexec_load", "io_uring_setup"]
)
def test_default_profile_refuses(call: str) -> None:
    assert outcome(call) == errno.EPERM


def test_default_profile_allows_and_falls_back() -> None:
    assert outcome("getpid") == 0
    assert outcome("clone3") == errno.ENOSYS
    assert outcome("personality", 0xFFFFFFFF) == 0
    assert outcome("personality", 0x0040000) == errno.EPERM
    assert outcome("socket", 38, 5, 0) == errno.EPERM
    assert outcome("socket", 1, 1, 0) == 0
    assert outcome("clone", 0x10000000, 0, 0, 0, 0) == errno.EPERM


def test_default_profile_speaks_i386() -> None:
    program = compile_text(default_profile(), frozenset(CAPS))

    def body() -> int:
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(I386_STUB)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(address)
        if call(numbers("x86")["getpid"], 0) != os.getpid():
            return 99  # this kernel has no 32-bit calls
        install(program)
        good = call(numbers("x86")["getpid"], 0) == os.getpid()
        return 0 if good and call(numbers("x86")["unshare"], 0) == -errno.EPERM else 1

    status = in_child(body)
    if status == 99 or status < 0:
        pytest.skip("no 32-bit system calls here")
    assert status == 0


@pytest.fixture
def v2_cgroup() -> Iterator[Path]:
    for root in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")):
        if (root / "cgroup.controllers").exists():
            path = root / f"test-devices-{os.getpid()}"
            path.mkdir()
            yield path
            path.rmdir()
            return
    pytest.skip("no cgroup v2 hierarchy")


def test_device_program_decides_opens(v2_cgroup: Path) -> None:
    rules = (*devices.DEFAULT, devices.DeviceRule(False, "c", 1, 9, "w"), devices.parse_rule("c 1:11 r"))
    directory = os.open(v2_cgroup, os.O_RDONLY | os.O_DIRECTORY)
    attach_device_program(directory, devices.program(rules))
    os.close(directory)

    def refused(path: str, flags: int) -> bool:
        try:
            os.close(os.open(path, flags))
        except PermissionError:
            return True
        return False

    def body() -> int:
        (v2_cgroup / "cgroup.procs").write_text("0")
        seen = [
            refused("/dev/null", os.O_RDWR),
            refused("/dev/urandom", os.O_RDONLY),
            refused("/dev/urandom", os.O_WRONLY),
            refused("/dev/kmsg", os.O_RDONLY),
            refused("/dev/kmsg", os.O_WRONLY),
            refused("/dev/loop-control", os.O_RDWR),
        ]
        return sum(1 << place for place, value in enumerate(seen) if value)

    assert in_child(body) == 0b110100


def test_allow_all_program_is_taken(v2_cgroup: Path) -> None:
    directory = os.open(v2_cgroup, os.O_RDONLY | os.O_DIRECTORY)
    attach_device_program(directory, devices.program(devices.ALLOW_ALL))
    with pytest.raises(OSError, match="bpf"):
        attach_device_program(directory, b"\xff" * 8)
    os.close(directory)
