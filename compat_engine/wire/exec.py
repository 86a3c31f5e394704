"""Execs as the Engine API spells them (API 1.51)."""

from typing import Annotated

from pydantic import Field

from compat_engine.wire.base import OmitNone, UInt32, Wire
from compat_engine.wire.container import Command

Size = Annotated[list[UInt32], Field(min_length=2, max_length=2)]


class ExecCreate(Wire):
    """Body of POST /containers/{id}/exec. ConsoleSize is [height, width] (1.42)."""

    User: str = ""
    Privileged: bool = False
    Tty: bool = False
    ConsoleSize: OmitNone[Size | None] = None
    AttachStdin: bool = False
    AttachStdout: bool = False
    AttachStderr: bool = False
    Detach: bool = False
    DetachKeys: str = ""
    Env: list[str] | None = None
    WorkingDir: str = ""
    Cmd: Command | None = None


class ExecStart(Wire):
    """Body of POST /exec/{id}/start. Tty must repeat what create said; ConsoleSize is [height, width]."""

    Detach: bool = False
    Tty: bool = False
    ConsoleSize: OmitNone[Size | None] = None
