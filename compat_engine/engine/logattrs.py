"""What the log options labels, env and their -regex variants add to every record ("attrs"), and `docker logs --details` shows."""

import json
import re

from compat_engine.errors import InvalidParameter
from compat_engine.wire.container import Config


def log_attributes(config: Config, options: dict[str, str]) -> str:
    """A JSON object as Go writes it (keys sorted), "" when there is nothing to add. Raises InvalidParameter for a bad regex."""
    labels = config.Labels or {}
    env = dict(word.partition("=")[::2] for word in config.Env or ())
    found = {**_chosen(labels, options, "labels"), **_chosen(env, options, "env")}
    return json.dumps(found, sort_keys=True, ensure_ascii=False, separators=(",", ":")) if found else ""


def _chosen(values: dict[str, str], options: dict[str, str], option: str) -> dict[str, str]:
    names = {name.strip() for name in options.get(option, "").split(",")}
    found = {name: value for name, value in values.items() if name in names}
    if pattern := options.get(f"{option}-regex"):
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise InvalidParameter(f"error parsing regexp: {error}") from error
        found |= {name: value for name, value in values.items() if expression.search(name)}
    return found
