"""Load a compiled seccomp filter into the calling process. seccomp(2)."""

import ctypes

from compat_engine.kernel.libc import number_of, syscall

_SECCOMP_SET_MODE_FILTER = 1
_INSTRUCTION = 8  # bytes of one struct sock_filter


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def load_filter(program: bytes) -> None:
    """Filter from now on with `program`, an array of struct sock_filter; needs CAP_SYS_ADMIN or no_new_privs. Raises OSError."""
    record = _Program(len(program) // _INSTRUCTION, program)
    syscall(number_of("seccomp"), _SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(record))
