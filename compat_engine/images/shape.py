"""The types an image's configuration must have (OCI image spec, config.md, and what Docker adds), checked before it is kept."""

from typing import Any, Final

from compat_engine.errors import InvalidParameter

_STRINGS: Final = [str]
_SET: Final = {"": dict}
_RUNTIME: Final[dict[str, Any]] = {
    **dict.fromkeys(("Hostname", "Domainname", "User", "WorkingDir", "StopSignal", "MacAddress", "Image"), str),
    **dict.fromkeys(("Env", "OnBuild", "Shell"), _STRINGS),
    **dict.fromkeys(("Cmd", "Entrypoint"), (_STRINGS, str)),
    "Labels": {"": str},
    "ExposedPorts": _SET,
    "Volumes": _SET,
    "StopTimeout": int,
    "ArgsEscaped": bool,
    "Healthcheck": {
        "Test": _STRINGS,
        **dict.fromkeys(("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"), int),
    },
}
_CONFIG: Final[dict[str, Any]] = {
    **dict.fromkeys(("created", "author", "architecture", "os", "os.version", "variant", "comment", "docker_version"), str),
    "config": _RUNTIME,
    "history": [{**dict.fromkeys(("created", "created_by", "author", "comment"), str), "empty_layer": bool}],
    "rootfs": {"type": str, "diff_ids": _STRINGS},
}


def check_shape(config: object) -> None:
    """null is as good as absent, what the table does not know is ignored. Raises InvalidParameter with the first wrong field."""
    if wrong := _wrong(config, _CONFIG, "configuration"):
        raise InvalidParameter(f"invalid image JSON: wrong type of {wrong}")


def _wrong(value: Any, shape: Any, path: str) -> str:
    """Where `value` is not of `shape`, "" when it is: a type; several of which one fits; a list of one shape; a dict of
    shapes by key, the key "" for all."""
    if value is None:
        return ""
    if isinstance(shape, tuple):
        return "" if any(not _wrong(value, one, path) for one in shape) else path
    if isinstance(shape, type):
        return "" if isinstance(value, shape) and (shape is bool or not isinstance(value, bool)) else path
    if not isinstance(value, type(shape)):
        return path
    if isinstance(shape, list) and None in value:
        return f"{path}.{value.index(None)}"
    pairs = [(str(at), item, shape[0]) for at, item in enumerate(value)] if isinstance(shape, list) else _fields(value, shape)
    return next((wrong for at, item, inner in pairs if (wrong := _wrong(item, inner, f"{path}.{at}"))), "")


def _fields(value: dict[str, Any], shape: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    every = shape.get("")
    return [(key, item, every or shape[key]) for key, item in value.items() if every or key in shape]
