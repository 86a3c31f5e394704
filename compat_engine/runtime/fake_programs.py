"""What the fake runtime can run: a few commands and a shell of one line at a time, as coroutines."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol


class Console(Protocol):
    """A running program's surroundings."""

    env: dict[str, str]
    cwd: str
    hostname: str

    async def read_line(self) -> bytes:
        """b"" at the end of stdin."""

    def write(self, stream: int, data: bytes) -> None: ...


Program = Callable[[Console, Sequence[str]], Awaitable[int]]


class Exited(Exception):
    """`exit N` in a script."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


async def true(console: Console, args: Sequence[str]) -> int:
    return 0


async def false(console: Console, args: Sequence[str]) -> int:
    return 1


async def echo(console: Console, args: Sequence[str]) -> int:
    newline, words = (b"", args[1:]) if args[:1] == ["-n"] else (b"\n", args)
    console.write(1, " ".join(words).encode() + newline)
    return 0


async def sleep(console: Console, args: Sequence[str]) -> int:
    await asyncio.sleep(float(args[0]))
    return 0


async def forever(console: Console, args: Sequence[str]) -> int:
    await asyncio.Event().wait()
    return 0


async def cat(console: Console, args: Sequence[str]) -> int:
    while line := await console.read_line():
        console.write(1, line)
    return 0


async def env(console: Console, args: Sequence[str]) -> int:
    console.write(1, "".join(f"{name}={value}\n" for name, value in console.env.items()).encode())
    return 0


async def pwd(console: Console, args: Sequence[str]) -> int:
    console.write(1, f"{console.cwd}\n".encode())
    return 0


async def hostname(console: Console, args: Sequence[str]) -> int:
    console.write(1, f"{console.hostname}\n".encode())
    return 0


async def leave(console: Console, args: Sequence[str]) -> int:
    raise Exited(int(args[0]) if args else 0)


async def shell(console: Console, args: Sequence[str]) -> int:
    code = 0
    try:
        if args[:1] == ["-c"]:
            return await script(console, args[1])
        while line := await console.read_line():
            code = await script(console, line.decode())
    except Exited as exited:
        return exited.code
    return code


async def script(console: Console, text: str) -> int:
    """Commands joined by `;`, newline, and `&&` or `||` between blanks. `>&2` sends a command's output to stderr; $NAME and
    ${NAME} expand."""
    lexer = shlex.shlex(text.replace("\n", ";"), posix=True, punctuation_chars=";")
    lexer.whitespace_split = True
    code, operator, words = 0, ";", list[str]()
    for token in [*lexer, ";"]:
        if token not in (";", "&&", "||"):
            words.append(token)
            continue
        if words and (operator == ";" or (operator == "&&") == (code == 0)):
            code = await command(console, words)
        operator, words = token, []
    return code


async def command(console: Console, words: Sequence[str]) -> int:
    expanded = [_expand(console, word) for word in words if word not in (">&2", "1>&2")]
    program = find(expanded[0])
    if program is None:
        console.write(2, f"sh: {expanded[0]}: not found\n".encode())
        return 127
    return await program(_ToStderr(console) if len(expanded) < len(words) else console, expanded[1:])


class _ToStderr:
    def __init__(self, console: Console) -> None:
        self._console = console
        self.env, self.cwd, self.hostname = console.env, console.cwd, console.hostname

    async def read_line(self) -> bytes:
        return await self._console.read_line()

    def write(self, stream: int, data: bytes) -> None:
        self._console.write(2, data)


def _expand(console: Console, word: str) -> str:
    for name, value in console.env.items():
        word = word.replace(f"${{{name}}}", value).replace(f"${name}", value)
    return word


def find(word: str) -> Program | None:
    """By name, or as a path in one of the usual directories."""
    directory, _, name = word.rpartition("/")
    return _PROGRAMS.get(name) if directory in ("", "/bin", "/usr/bin", "/sbin", "/usr/local/bin") else None


_PROGRAMS: dict[str, Program] = {
    "true": true,
    "false": false,
    "echo": echo,
    "sleep": sleep,
    "top": forever,
    "tail": forever,
    "cat": cat,
    "env": env,
    "pwd": pwd,
    "hostname": hostname,
    "exit": leave,
    "sh": shell,
    "bash": shell,
    "ash": shell,
}
