"""A container's Config from what the client asked and what the image says. Pure."""

import os
from typing import Any

from compat_engine.wire.container import Config, HealthConfig


def merge(asked: Config, image: Config) -> Config:
    """The effective Config, as inspect shows it.

    Cmd of the image counts only when the client gave no Entrypoint; Entrypoint [""] resets the image's.
    """
    ports = {**(image.ExposedPorts or {}), **(asked.ExposedPorts or {})}
    changes: dict[str, Any] = {
        "Env": _env(asked.Env or [], image.Env or []),
        "Labels": {**(image.Labels or {}), **(asked.Labels or {})},
        "User": asked.User or image.User,
        "WorkingDir": _clean(asked.WorkingDir or image.WorkingDir),
        "StopSignal": asked.StopSignal or image.StopSignal,
        "Shell": asked.Shell or image.Shell,
        "OnBuild": image.OnBuild,
        "Healthcheck": _health(asked.Healthcheck, image.Healthcheck),
        # A client may name a port without its protocol; everything after speaks of 80/tcp.
        "ExposedPorts": {port if "/" in port else f"{port}/tcp": value for port, value in ports.items()} or None,
        "Volumes": {**(image.Volumes or {}), **(asked.Volumes or {})} or None,
        **_command(asked, image),
    }
    return asked.model_copy(update=changes)


def arguments(config: Config) -> tuple[str, ...]:
    """What execve gets: Entrypoint then Cmd."""
    return (*(config.Entrypoint or ()), *(config.Cmd or ()))


def _clean(path: str | None) -> str | None:
    """As Go's filepath.Clean, which knows no leading //."""
    return os.path.normpath(path).replace("//", "/") if path else path


def _command(asked: Config, image: Config) -> dict[str, Any]:
    if asked.Entrypoint:
        entrypoint = None if asked.Entrypoint == [""] else asked.Entrypoint
        return {"Entrypoint": entrypoint, "Cmd": asked.Cmd or None}
    return {"Entrypoint": image.Entrypoint or None, "Cmd": asked.Cmd or image.Cmd or None}


def _env(asked: list[str], image: list[str]) -> list[str]:
    named = {word.partition("=")[0] for word in asked}
    return [*asked, *(word for word in image if word.partition("=")[0] not in named)]


def _health(asked: HealthConfig | None, image: HealthConfig | None) -> HealthConfig | None:
    """Field by field: what the client leaves zero is the image's."""
    if not asked or not image:
        return asked or image
    own = {name: value for name in HealthConfig.model_fields if (value := getattr(asked, name))}
    return image.model_copy(update=own)
