"""How a step between fork and execve fails: one value {errno, step, text} that travels to the daemon."""

import os
from types import TracebackType

from compat_engine.shim import protocol

IN_INIT = "error during container init: "


class Failure(Exception):
    """The process cannot be started. `step` is one word, `text` a sentence in runc's words."""

    def __init__(self, errno: int, step: str, text: str) -> None:
        super().__init__(text)
        self.errno, self.step, self.text = errno, step, text

    def message(self) -> dict[str, object]:
        return {"op": protocol.FAILED, "errno": self.errno, "step": self.step, "text": self.text}


def reason(error: OSError) -> str:
    """The error's own words, as Go prints them: lower case."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


class step:  # noqa: N801 (used as a statement)
    """`with step("mount", "error mounting ..."):` turns an OSError inside into a Failure whose text is "prefix: reason"."""

    __slots__ = ("name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, OSError):
            raise Failure(error.errno or 0, self.name, f"{self.text}: {reason(error)}") from error


def unexpected(error: BaseException) -> Failure:
    """Any other exception as a Failure that says where it was raised."""
    if isinstance(error, Failure):
        return error
    number = error.errno or 0 if isinstance(error, OSError) else 0
    return Failure(number, "internal", f"{type(error).__name__}: {error} ({place(error)})")


def place(error: BaseException) -> str:
    """file:line of the frames the error passed; the traceback module is too heavy to load here."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " ".join(frames)
