"""The log option `tag`: a text with {{.Name}} and the like, as Go's text/template reads it.

Fields, pipes, quoted texts, numbers and Docker's functions are there; control structures ({{if}}, {{range}}, variables) are
refused.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from compat_engine.errors import InvalidParameter

Value = str | int | list[str] | dict[str, str]

_ACTION = re.compile(
    r"\{\{(?P<left>- )?(?P<body>(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^\"`}]|\}(?!\}))*?)(?P<right> -)?\}\}", re.DOTALL
)
_TOKEN = re.compile(r"\s*(?:(\.[\w.]*)|(\"(?:\\.|[^\"\\])*\")|`([^`]*)`|(-?\d+)|(\w+)|(\|))\s*")
_CONTROL = frozenset(("if", "else", "end", "range", "with", "define", "template", "block", "break", "continue"))


def render(template: str, fields: Mapping[str, Value]) -> str:
    """Raises InvalidParameter with Go's words."""
    out, position, trim = "", 0, False
    for action in _ACTION.finditer(template):
        text = template[position : action.start()]
        text = text.lstrip() if trim else text
        out += text.rstrip() if action["left"] else text
        out += _text(_pipeline(action["body"], fields))
        position, trim = action.end(), bool(action["right"])
    rest = template[position:]
    if "{{" in rest:
        raise _refused("unclosed action")
    return out + (rest.lstrip() if trim else rest)


def _refused(why: str) -> InvalidParameter:
    return InvalidParameter(f"template: log-tag:1: {why}")


def _pipeline(body: str, fields: Mapping[str, Value]) -> Value:
    """The commands of one action, each given the value of the one before as its last argument."""
    commands: list[list[tuple[bool, Any]]] = [[]]  # (whether it is a function's name, word or value)
    position = 0
    while position < len(body):
        token = _TOKEN.match(body, position)
        if token is None:
            raise _refused(f"unexpected {json.dumps(body[position:].strip()[:1])} in command")
        position = token.end()
        if token[6]:
            commands.append([])
        else:
            commands[-1].append((bool(token[5]), _operand(token, fields)))
    value: list[Value] = []
    for command in commands:
        if not command:
            raise _refused("missing value for command")
        (is_function, first), arguments = command[0], [word for _, word in command[1:]]
        value = [_call(first, [*arguments, *value]) if is_function else first]
    return value[0]


def _operand(token: re.Match[str], fields: Mapping[str, Value]) -> Value:
    if token[1]:
        return _field(token[1], fields)
    if token[2]:
        return str(json.loads(token[2]))
    return token[3] if token[3] is not None else int(token[4]) if token[4] else token[5]


def _field(path: str, fields: Mapping[str, Value]) -> Value:
    first, *rest = path.removeprefix(".").split(".")
    if first not in fields:
        raise _refused(f'executing "log-tag" at <{path}>: can\'t evaluate field {first} in type *logger.Info')
    value = fields[first]
    for name in rest:
        if not isinstance(value, dict):
            raise _refused(f'executing "log-tag" at <{path}>: can\'t evaluate field {name} in type string')
        value = value.get(name, "")
    return value


def _call(name: str, arguments: list[Any]) -> Value:
    if name in _CONTROL:
        raise _refused(f"{{{{{name}}}}} is not supported in a tag")
    if name not in _FUNCTIONS:
        raise _refused(f'function "{name}" not defined')
    try:
        return _FUNCTIONS[name](*arguments)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise _refused(f'executing "log-tag" at <{name}>: error calling {name}: {error}') from error


def _text(value: Value) -> str:
    """As Go prints it."""
    if isinstance(value, list):
        return f"[{' '.join(value)}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{value[key]}' for key in sorted(value))}]"
    return str(value)


def _json(value: Value) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _index(value: Any, key: Any) -> Value:
    return value.get(key, "") if isinstance(value, dict) else value[key]  # type: ignore[no-any-return]


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _printf(form: str, *values: Value) -> str:
    return re.sub(r"%[vd]", "%s", form) % tuple(map(_text, values))


_FUNCTIONS: dict[str, Callable[..., Value]] = {
    "json": _json,
    "split": lambda text, separator: text.split(separator),
    "join": lambda words, separator: separator.join(words),
    "title": lambda text: re.sub(r"(^|\s)(\S)", lambda found: found[1] + found[2].upper(), text),
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "pad": _pad,
    "truncate": lambda text, length: text[:length],
    "index": _index,
    "len": lambda value: len(value),
    "slice": lambda value, *bounds: value[slice(*bounds) if len(bounds) > 1 else slice(bounds[0] if bounds else 0, None)],
    "print": lambda *values: " ".join(map(_text, values)),
    "println": lambda *values: " ".join(map(_text, values)) + "\n",
    "printf": _printf,
}
