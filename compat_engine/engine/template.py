"""Go's text/template: fields, pipes, variables, functions, `if`, `with`, `range` and `else`. The rest of it is refused.

A template is parsed into a Node, an operand or pipe of it into a Term: functions of the Scope they are read in.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TURNS = 1000  # of all loops together: who renders a template has other things to do
Functions = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Scope:
    """dot: what `.` stands for. variables: by name, "$" is what the whole template was given."""

    dot: Any
    variables: dict[str, Any]


Node = Callable[[Scope], str]
Term = Callable[[Scope], Any]

_ACTION = re.compile(
    r"\{\{(?P<left>- )?(?P<body>(?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|[^\"`}]|\}(?!\}))*?)(?P<right> -)?\}\}", re.DOTALL
)
_TOKEN = re.compile(
    r"\s*(?:(?P<path>\$\w*(?:\.\w+)*|(?:\.\w+)+|\.)|(?P<quoted>\"(?:\\.|[^\"\\])*\")|`(?P<raw>[^`]*)`"
    r"|(?P<number>-?\d+)(?![\w.])|(?P<word>[^\W\d]\w*)|(?P<mark>[|()]))\s*"
)
_DECLARATION = re.compile(r"(?:(\$\w+)\s*,\s*)?(\$\w+)\s*:=")
_CONSTANTS = {"true": True, "false": False}
_BRANCHES, _UNKNOWN = ("if", "with", "range"), ("define", "template", "block", "break", "continue", "nil")


def parse(template: str, functions: Functions) -> Callable[[Mapping[str, Any]], str]:
    """What renders the template for some fields, once. Both raise ValueError with Go's words."""
    node, _ = _Parser(_pieces(template), functions).block(())
    return lambda fields: node(Scope(fields, {"$": fields}))


def text(value: Any) -> str:
    """As Go prints it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{' '.join(map(text, value))}]"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{text(value[key])}' for key in sorted(value))}]"
    return str(value)


def _pieces(template: str) -> Iterator[tuple[bool, str]]:
    """(whether it is an action, the text or the action's body)."""
    position, trim = 0, False
    while (start := template.find("{{", position)) >= 0:
        if (action := _ACTION.match(template, start)) is None:
            raise ValueError("unclosed action")
        before = template[position:start]
        before = before.lstrip() if trim else before
        yield False, before.rstrip() if action["left"] else before
        yield True, action["body"].strip()
        position, trim = action.end(), bool(action["right"])
    rest = template[position:]
    yield False, rest.lstrip() if trim else rest


class _Parser:
    def __init__(self, pieces: Iterator[tuple[bool, str]], functions: Functions) -> None:
        self._pieces, self._functions = pieces, functions
        self._turns = iter(range(TURNS))

    def block(self, ends: Collection[str]) -> tuple[Node, str]:
        """Up to one of the actions `ends`, and that action; to the end of the template when there are none."""
        nodes: list[Node] = []
        for is_action, body in self._pieces:
            word = body.split(maxsplit=1)[0] if is_action and body else ""
            if word in ends:
                return _sequence(nodes), body
            if word in ("else", "end"):
                raise ValueError(f"unexpected {{{{{word}}}}}")
            nodes.append(self._action(word, body) if is_action else _constant(body))
        if ends:
            raise ValueError("unexpected EOF")
        return _sequence(nodes), ""

    def _action(self, word: str, body: str) -> Node:
        if body.startswith("/*") and body.endswith("*/"):
            return _constant("")
        if word in _BRANCHES:
            return self._branch(word, body.removeprefix(word))
        names, pipe = self._declared(body, "command")
        if names:
            return lambda scope: _assign(scope, names, pipe(scope))
        return lambda scope: text(pipe(scope))

    def _branch(self, word: str, condition: str) -> Node:
        names, pipe = self._declared(condition, word)
        body, end = self.block(("else", "end"))
        other: Node = _constant("")
        if nested := end.removeprefix("else").split(maxsplit=1) if end.startswith("else") else []:
            if nested[0] not in ("if", "with"):
                raise ValueError(f"unexpected {{{{{end}}}}}")
            other = self._branch(nested[0], "".join(nested[1:]))  # whose end is this one's, too
        elif end == "else":
            other, _ = self.block(("end",))

        def run(scope: Scope) -> str:
            inner = Scope(scope.dot, dict(scope.variables))
            value = pipe(inner)
            if word == "range":
                return "".join(self._turn(body, _item(inner, names, *pair)) for pair in _items(value)) if value else other(inner)
            _assign(inner, names, value)
            if not value:
                return other(inner)
            return body(Scope(value, inner.variables) if word == "with" else inner)

        return run

    def _turn(self, body: Node, scope: Scope) -> str:
        if next(self._turns, None) is None:
            raise ValueError(f"range goes on beyond {TURNS} turns")
        return body(scope)

    def _declared(self, body: str, what: str) -> tuple[list[str], Term]:
        """Variables that a pipe is assigned to, and the pipe."""
        found = _DECLARATION.match(body.lstrip())
        tokens = _tokens(body.lstrip()[found.end() :] if found else body)
        pipe, end = self._pipe(tokens, what)
        if end:
            raise ValueError(f"unexpected {json.dumps(end)} in {what}")
        return [name for name in found.groups() if name] if found else [], pipe

    def _pipe(self, tokens: Iterator[re.Match[str]], what: str) -> tuple[Term, str]:
        """The commands up to ")" or the end, each given the value of the one before as its last argument."""
        commands: list[list[Term]] = [[]]
        names, end = [""], ""
        for token in tokens:
            if token["mark"] == "|":
                commands.append([])
                names.append("")
            elif token["mark"] == ")":
                end = ")"
                break
            elif token["word"] and not commands[-1] and token["word"] not in _CONSTANTS and not names[-1]:
                names[-1] = self._function(token["word"])
            else:
                commands[-1].append(self._operand(tokens, token))
        if not all(name or command for name, command in zip(names, commands, strict=True)):
            raise ValueError(f"missing value for {what}")
        return lambda scope: self._run(scope, names, commands), end

    def _run(self, scope: Scope, names: list[str], commands: list[list[Term]]) -> Any:
        last: list[Any] = []
        for name, command in zip(names, commands, strict=True):
            values = [term(scope) for term in command] + last
            if not name and len(values) > 1:
                raise ValueError(f"can't give argument to non-function {text(values[0])}")
            last = [_call(name, self._functions[name], values) if name else values[0]]
        return last[0]

    def _operand(self, tokens: Iterator[re.Match[str]], token: re.Match[str]) -> Term:
        if token["mark"]:
            inner, end = self._pipe(tokens, "parenthesized pipeline")
            if end != ")":
                raise ValueError("unclosed left paren")
            return inner
        if path := token["path"]:
            return lambda scope: _value(scope, path)
        if token["word"]:
            if token["word"] in _CONSTANTS:
                return _constant(_CONSTANTS[token["word"]])
            name = self._function(token["word"])
            return lambda scope: _call(name, self._functions[name], [])
        return _constant(json.loads(token["quoted"] or token["number"]) if token["raw"] is None else token["raw"])

    def _function(self, name: str) -> str:
        if name in _UNKNOWN or name in _BRANCHES:
            raise ValueError(f"{{{{{name}}}}} is not supported")
        if name not in self._functions:
            raise ValueError(f'function "{name}" not defined')
        return name


def _tokens(body: str) -> Iterator[re.Match[str]]:
    position = 0
    body = body.strip()
    while position < len(body):
        token = _TOKEN.match(body, position)
        if token is None:
            raise ValueError(f"unexpected {json.dumps(body[position:].strip()[:1])} in command")
        position = token.end()
        yield token


def _constant(value: Any) -> Term:
    return lambda scope: value


def _sequence(nodes: list[Node]) -> Node:
    return lambda scope: "".join(node(scope) for node in nodes)


def _assign(scope: Scope, names: list[str], value: Any) -> str:
    scope.variables.update(dict.fromkeys(names, value))
    return ""


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, dict):
        return sorted(value.items())
    if isinstance(value, str | bool):
        raise ValueError(f"range can't iterate over {text(value)}")
    return enumerate(range(value) if isinstance(value, int) else value)


def _item(scope: Scope, names: list[str], key: Any, value: Any) -> Scope:
    given = dict(zip(names, (key, value) if len(names) > 1 else (value,), strict=False))
    return Scope(value, {**scope.variables, **given})


def _value(scope: Scope, path: str) -> Any:
    """Of `.`, `.Name.x`, `$` and `$name.x`."""
    root = scope.variables["$"]
    first, *names = path.split(".")
    if first not in scope.variables and first:
        raise ValueError(f'undefined variable "{first}"')
    value = scope.variables[first] if first else scope.dot
    for name in filter(None, names):
        if not isinstance(value, dict) or (value is root and name not in root):
            kind = "*logger.Info" if value is root else "string"
            raise ValueError(f'executing "log-tag" at <{path}>: can\'t evaluate field {name} in type {kind}')
        value = value.get(name, "")
    if value is root:
        raise ValueError(f"<{path}>: all fields at once are not supported")
    return value


def _call(name: str, function: Callable[..., Any], arguments: list[Any]) -> Any:
    try:
        return function(*arguments)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise ValueError(f'executing "log-tag" at <{name}>: error calling {name}: {error}') from error
