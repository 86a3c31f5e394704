"""What the log options labels, env, their -regex variants and tag add to every record ("attrs"), and `docker logs --details`
shows."""

import json
import socket
from collections.abc import Mapping

from compat_engine.engine.logtag import Value, render
from compat_engine.engine.records import ContainerRecord
from compat_engine.engine.regexps import Expression, compiled
from compat_engine.errors import InvalidParameter
from compat_engine.ids import short


def log_attributes(record: ContainerRecord, options: Mapping[str, str], path: str) -> str:
    """A JSON object as Go writes it (keys sorted), "" when there is nothing to add. path: of the log.

    Raises InvalidParameter for a bad expression or template.
    """
    labels = record.config.Labels or {}
    env = dict(word.split("=", 1) for word in record.config.Env or () if "=" in word)
    found = {**_chosen(labels, options, "labels"), **_chosen(env, options, "env")}
    if template := options.get("tag"):
        found["tag"] = render(template, _fields(record, options, path))
    return _go_json(found) if found else ""


def _chosen(values: dict[str, str], options: Mapping[str, str], option: str) -> dict[str, str]:
    names = options.get(option, "").split(",")
    found = {name: value for name, value in values.items() if name in names}
    if pattern := options.get(f"{option}-regex"):
        expression = _compiled(pattern)
        found |= {name: value for name, value in values.items() if expression.search(name)}
    return found


def _compiled(pattern: str) -> Expression:
    try:
        return compiled(pattern)
    except ValueError as error:
        raise InvalidParameter(str(error)) from error


def _go_json(values: dict[str, str]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _fields(record: ContainerRecord, options: Mapping[str, str], path: str) -> dict[str, Value]:
    """What a tag may name."""
    entrypoint, *arguments = record.args or ("",)
    image = record.config.Image or ""
    return {
        "ID": short(record.id),
        "FullID": record.id,
        "Name": record.name,
        "ImageName": image,
        "ImageID": record.image[:12],
        "ImageFullID": record.image,
        "Command": " ".join(record.args),
        "Hostname": socket.gethostname(),
        "DaemonName": "docker",
        "ContainerID": record.id,
        "ContainerName": f"/{record.name}",
        "ContainerEntrypoint": entrypoint,
        "ContainerArgs": arguments,
        "ContainerImageID": record.image,
        "ContainerImageName": image,
        "ContainerCreated": record.created,
        "ContainerEnv": list(record.config.Env or ()),
        "ContainerLabels": dict(record.config.Labels or {}),
        "Config": dict(options),
        "LogPath": path,
    }
