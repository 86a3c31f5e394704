"""What init reports of a failed start, in the words clients read: the CLI takes its exit codes 126 and 127 out of them."""

from compat_engine.errors import EngineError, Internal, InvalidParameter
from compat_engine.runtime.protocol import StartFailed

PREFIX = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
_SPEC = ("user", "cwd")  # steps of what dockerd does before its runtime runs
_HINTS = {  # what dockerd appends
    "is a directory": ": permission denied",
    "not a directory": ": Are you trying to mount a directory onto a file (or vice-versa)? "
    "Check if the specified host path exists and is the expected type",
}


def start_error(error: StartFailed, prefix: str = PREFIX) -> EngineError:
    """Docker's words for what init reported; the CLI reads its exit code 126 or 127 out of them."""
    text = error.text if error.step in _SPEC else f"{prefix}unable to start container process: {error.text}: unknown"
    if error.step in ("exec", "mount"):
        text += next((hint for reason, hint in _HINTS.items() if reason in text), "")
    return InvalidParameter(text) if error.step not in _SPEC and exit_code(text) in (126, 127) else Internal(text)


def exit_code(text: str) -> int:
    """What a failed start leaves as exit code: 127 not found, 126 not executable, 128 else."""
    if "executable file not found" in text or "no such file or directory" in text:
        return 127
    return 126 if any(words in text for words in ("permission denied", "is a directory", "not a directory")) else 128
