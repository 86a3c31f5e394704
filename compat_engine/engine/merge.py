"""A container's Config from what the client asked and what the image says. Pure."""

from typing import Any

from compat_engine.wire.container import Config


def merge(asked: Config, image: dict[str, Any]) -> Config:
    """The effective Config, as inspect shows it. `image` is the `config` object of an OCI image configuration.

    Cmd of the image counts only when the client gave no Entrypoint; Entrypoint [""] resets the image's.
    """
    changes: dict[str, Any] = {
        "Env": _env(asked.Env or [], image.get("Env") or []),
        "Labels": {**(image.get("Labels") or {}), **(asked.Labels or {})},
        "User": asked.User or image.get("User") or "",
        "WorkingDir": asked.WorkingDir or image.get("WorkingDir") or "",
        "StopSignal": asked.StopSignal or image.get("StopSignal") or None,
        "Shell": asked.Shell or image.get("Shell") or None,
        "OnBuild": image.get("OnBuild"),
        "Healthcheck": _health(asked, image),
        "ExposedPorts": {**(image.get("ExposedPorts") or {}), **(asked.ExposedPorts or {})} or None,
        "Volumes": {**(image.get("Volumes") or {}), **(asked.Volumes or {})} or None,
        **_command(asked, image),
    }
    # A client may name a port without its protocol; everything after speaks of 80/tcp.
    if changes["ExposedPorts"]:
        changes["ExposedPorts"] = {
            port if "/" in port else f"{port}/tcp": value for port, value in changes["ExposedPorts"].items()
        }
    return Config.model_validate({**asked.dump(), **changes})


def arguments(config: Config) -> tuple[str, ...]:
    """What execve gets: Entrypoint then Cmd."""
    return (*(config.Entrypoint or ()), *(config.Cmd or ()))


def _command(asked: Config, image: dict[str, Any]) -> dict[str, Any]:
    if asked.Entrypoint:
        entrypoint = None if list(asked.Entrypoint) == [""] else list(asked.Entrypoint)
        return {"Entrypoint": entrypoint, "Cmd": list(asked.Cmd) if asked.Cmd else None}
    entrypoint = image.get("Entrypoint") or None
    return {"Entrypoint": entrypoint, "Cmd": list(asked.Cmd) if asked.Cmd else image.get("Cmd") or None}


def _env(asked: list[str] | tuple[str, ...], image: list[str]) -> list[str]:
    named = {word.partition("=")[0] for word in asked}
    return [*asked, *(word for word in image if word.partition("=")[0] not in named)]


def _health(asked: Config, image: dict[str, Any]) -> dict[str, Any] | None:
    own = asked.Healthcheck.dump() if asked.Healthcheck else {}
    base = image.get("Healthcheck") or {}
    merged = {**base, **{name: value for name, value in own.items() if value}}
    return merged or None
