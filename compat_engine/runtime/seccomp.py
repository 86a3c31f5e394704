"""Compiled seccomp programs, kept as files: the shim installs what it finds at a path and never compiles."""

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from compat_engine.errors import InvalidParameter
from compat_engine.kernel.seccomp import Target, compile_profile

BUILTIN = "builtin"
UNCONFINED = "unconfined"
_COMPILER = "1"  # part of the key: raise it when the same profile is to compile to something else


@cache
def default_profile() -> str:
    """The profile of a container that asks for none, as JSON text."""
    return Path(__file__).with_name("seccomp_default.json").read_text(encoding="ascii")


class SeccompCache:
    """Programs below one directory, named by a hash of all they depend on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[tuple[str, frozenset[str]], str] = {}
        self._target = Target.here()

    def path_for(self, profile: str, caps: frozenset[str]) -> str:
        """Path of the program for `profile` ("builtin", "unconfined" or JSON text) and a process's bounding `caps`; "" for
        no filter. Compiles on first use, some milliseconds. Raises InvalidParameter on a profile that is none."""
        if profile == UNCONFINED:
            return ""
        key = (profile, caps)
        path = self._known.get(key)
        if path is None:
            path = self._known[key] = str(self._compiled(default_profile() if profile == BUILTIN else profile, caps))
        return path

    def _compiled(self, text: str, caps: frozenset[str]) -> Path:
        parts = (_COMPILER, text, ",".join(sorted(caps)), repr(self._target))
        path = self._directory / f"seccomp-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()}.bpf"
        if not path.exists():
            _write(path, compile_text(text, caps, self._target))
        return path


def compile_text(text: str, caps: frozenset[str], target: Target | None = None) -> bytes:
    """`compile_profile` of JSON text, nothing for a profile without content. Raises InvalidParameter with Docker's words before
    the reason."""
    try:
        raw = _decode(text)
        return compile_profile(raw, caps, target) if raw.get("defaultAction") or raw.get("syscalls") else b""
    except ValueError as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: {error}") from error


def _decode(text: str) -> dict[str, Any]:
    raw = json.loads(text)
    if not isinstance(raw, dict):
        raise ValueError("a seccomp profile is a JSON object")
    return raw


def _write(path: Path, program: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_bytes(program)
    partial.rename(path)
