"""Which file args[0] names, as Go's exec.LookPath decides it, with its error texts: the CLI derives 126 and 127 from them."""

import errno
import os
import stat
from collections.abc import Sequence

from compat_engine.shim.failure import Failure, reason


def find_executable(name: str, env: Sequence[str]) -> str:
    """A path for execve, looked up as the calling user inside the container. Raises Failure of the step "exec"."""
    if "/" in name:
        _require_executable(name, name)
        return name
    path = next((item[5:] for item in reversed(env) if item.startswith("PATH=")), "")
    for directory in path.split(":") if path and name else ():
        candidate = os.path.join(directory or ".", name)
        if _is_executable(candidate):
            return candidate
    raise Failure(errno.ENOENT, "exec", f'exec: "{name}": executable file not found in $PATH')


def _require_executable(path: str, name: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise Failure(error.errno or 0, "exec", f'exec: "{name}": stat {path}: {reason(error)}') from error
    if stat.S_ISDIR(mode):
        raise Failure(errno.EISDIR, "exec", f'exec: "{name}": is a directory')
    if not _is_executable(path):
        raise Failure(errno.EACCES, "exec", f'exec: "{name}": permission denied')


def _is_executable(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(mode & 0o111) and os.access(path, os.X_OK, effective_ids=True)
