"""Dockerfile lines applied to an image configuration, as `import -c` and `commit -c` take them. Pure."""

import json
import re
import shlex
import signal
from collections.abc import Callable
from posixpath import join, normpath
from typing import Any

from compat_engine.errors import InvalidParameter

_PAIR = re.compile(r"[A-Za-z_.][\w.-]*=")
_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|ms|s|m|h))+")
_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}
_SHELL = ["/bin/sh", "-c"]
_HEALTH_FLAGS = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod", "start-interval": "StartInterval"}


def apply(config: dict[str, Any], lines: list[str]) -> dict[str, Any]:
    """`config` (an image's `config` object) after the instructions; it is not changed itself. Raises InvalidParameter."""
    changed = dict(config)
    seen = set()
    for line in lines:
        name, _, rest = line.strip().partition(" ")
        word = name.upper()
        if word not in _INSTRUCTIONS:
            raise InvalidParameter(f"{word} is not a valid change command")
        _INSTRUCTIONS[word](changed, rest.strip())
        seen.add(word)
        if word == "ENTRYPOINT" and "CMD" not in seen:
            changed.pop("Cmd", None)  # its arguments were meant for another program
    return changed


def _command(key: str) -> Callable[[dict[str, Any], str], None]:
    def set_command(config: dict[str, Any], text: str) -> None:
        config[key] = _words(text, config)

    return set_command


def _words(text: str, config: dict[str, Any]) -> list[str]:
    """The exec form where it parses as one, else the shell form."""
    listed = _list(text)
    if listed is not None:
        return listed
    return [*(config.get("Shell") or _SHELL), text] if text else []


def _list(text: str) -> list[str] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _env(config: dict[str, Any], text: str) -> None:
    env = {item.partition("=")[0]: item for item in config.get("Env") or []}
    env.update({key: f"{key}={value}" for key, value in _pairs("ENV", text)})
    config["Env"] = list(env.values())


def _label(config: dict[str, Any], text: str) -> None:
    config["Labels"] = {**(config.get("Labels") or {}), **dict(_pairs("LABEL", text))}


def _pairs(name: str, text: str) -> list[tuple[str, str]]:
    """key=value ..., with quotes; or the old form, one key and all that follows."""
    if not text:
        raise InvalidParameter(f"{name} requires at least one argument")
    if _PAIR.match(text) or text.startswith(('"', "'")):
        try:
            words = shlex.split(text)
        except ValueError:
            raise InvalidParameter(f"{name}: unexpected end of statement while looking for matching quote") from None
        if any("=" not in word for word in words):
            bad = next(word for word in words if "=" not in word)
            raise InvalidParameter(f'Syntax error - can\'t find = in "{bad}". Must be of the form: name=value')
        return [(key, value) for key, _, value in (word.partition("=") for word in words)]
    key, space, value = text.partition(" ")
    if not space:
        raise InvalidParameter(f"{name} must have two arguments")
    return [(key, value.strip())]


def _expose(config: dict[str, Any], text: str) -> None:
    ports = dict(config.get("ExposedPorts") or {})
    if not text:
        raise InvalidParameter("EXPOSE requires at least one argument")
    for word in text.split():
        found = _PORT.fullmatch(word)
        if found is None:
            raise InvalidParameter(f"Invalid containerPort: {word}")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last > 65535:
            raise InvalidParameter(f"Invalid containerPort: {word}")
        ports.update({f"{port}/{(found[3] or 'tcp').lower()}": {} for port in range(first, last + 1)})
    config["ExposedPorts"] = ports


def _volume(config: dict[str, Any], text: str) -> None:
    paths = _list(text) or text.split()
    if not paths:
        raise InvalidParameter("VOLUME requires at least one argument")
    config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in paths}}


def _workdir(config: dict[str, Any], text: str) -> None:
    config["WorkingDir"] = normpath(join("/", config.get("WorkingDir") or "/", _one("WORKDIR", text)))


def _user(config: dict[str, Any], text: str) -> None:
    config["User"] = _one("USER", text)


def _stop_signal(config: dict[str, Any], text: str) -> None:
    word = _one("STOPSIGNAL", text)
    names = {name.removeprefix("SIG") for name in signal.Signals.__members__}
    if not (word.isdigit() and 0 < int(word) < 65) and word.upper().removeprefix("SIG") not in names:
        raise InvalidParameter(f"invalid signal: {word}")
    config["StopSignal"] = word


def _on_build(config: dict[str, Any], text: str) -> None:
    word = text.partition(" ")[0].upper()
    if not word:
        raise InvalidParameter("ONBUILD requires at least one argument")
    if word in ("ONBUILD", "FROM", "MAINTAINER"):
        chained = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"
        raise InvalidParameter(chained if word == "ONBUILD" else f"{word} isn't allowed as an ONBUILD trigger")
    config["OnBuild"] = [*(config.get("OnBuild") or []), text]


def _health(config: dict[str, Any], text: str) -> None:
    check: dict[str, Any] = {}
    while text.startswith("--"):
        flag, _, text = text.partition(" ")
        text = text.strip()
        name, _, value = flag[2:].partition("=")
        if name == "retries" and value.isdigit():
            check["Retries"] = int(value)
        elif name in _HEALTH_FLAGS:
            check[_HEALTH_FLAGS[name]] = _nanoseconds(value)
        else:
            raise InvalidParameter(f"Unknown flag: {name}")
    kind, _, rest = text.partition(" ")
    if kind.upper() == "NONE" and not rest:
        check = {"Test": ["NONE"]}
    elif kind.upper() == "CMD" and rest.strip():
        listed = _list(rest.strip())
        check = {"Test": ["CMD", *listed] if listed is not None else ["CMD-SHELL", rest.strip()], **check}
    else:
        unknown = f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)'
        raise InvalidParameter(unknown if kind else "HEALTHCHECK requires at least one argument")
    config["Healthcheck"] = check


def _nanoseconds(text: str) -> int:
    if not _DURATION.fullmatch(text):
        raise InvalidParameter(f'time: invalid duration "{text}"')
    return int(sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)", text)))


def _one(name: str, text: str) -> str:
    if not text:
        raise InvalidParameter(f"{name} requires exactly one argument")
    return text


_INSTRUCTIONS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "CMD": _command("Cmd"),
    "ENTRYPOINT": _command("Entrypoint"),
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _health,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
