"""The docker CLI as a test uses it: one object a host, every container labelled so that it can be removed afterwards."""

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO, Any, TypeVar

T = TypeVar("T")
Result = subprocess.CompletedProcess[str]
PATIENCE = float(os.environ.get("COMPAT_TEST_PATIENCE", "1"))  # time limits are multiplied by it: an emulated machine is slow
_MAKES_CONTAINER = ("run", "create")


class Docker:
    """Runs `docker ARGS` against `host`. Containers it makes carry the label `mark`, and `clean()` removes them."""

    def __init__(self, host: str, mark: str, directory: str) -> None:
        self.host = host
        self.mark = mark
        self.environment = {**os.environ, "DOCKER_HOST": host, "DOCKER_CONFIG": directory}
        for name in ("DOCKER_API_VERSION", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY"):
            self.environment.pop(name, None)

    def command(self, *args: str) -> list[str]:
        if args[0] in _MAKES_CONTAINER:
            args = (args[0], "--label", self.mark, *args[1:])
        return ["docker", *args]

    def run(self, *args: str, input: str | None = None, timeout: float = 100, env: dict[str, str] | None = None) -> Result:
        """The finished command, whatever its exit code; stdin is closed unless `input` is given."""
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        environment = {**self.environment, **(env or {})}
        return subprocess.run(self.command(*args), capture_output=True, text=True, timeout=timeout * PATIENCE, env=environment, **given)

    def __call__(self, *args: str, input: str | None = None, timeout: float = 100) -> str:
        """Standard output without the last newline; fails the test when the command does."""
        result = self.run(*args, input=input, timeout=timeout)
        assert result.returncode == 0, f"docker {' '.join(args)}: exit {result.returncode}\n{result.stdout}{result.stderr}"
        return result.stdout.removesuffix("\n")

    def fails(self, *args: str, code: int | None = None) -> str:
        """Standard error of a command that must fail, with exit code `code` when given."""
        result = self.run(*args)
        assert result.returncode != 0, f"docker {' '.join(args)} should have failed\n{result.stdout}"
        assert code is None or result.returncode == code, f"exit {result.returncode}, not {code}: {result.stderr}"
        return result.stderr

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        """The command in the background, all three streams piped and unbuffered."""
        pipe = subprocess.PIPE
        return subprocess.Popen(self.command(*args), stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, env=self.environment)

    def terminal(self, *args: str, rows: int = 24, columns: int = 80) -> "Terminal":
        return Terminal(self.command(*args), self.environment, rows, columns)

    def inspect(self, word: str, kind: str = "container") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(kind, "inspect", word))[0]
        return found

    def until(self, container: str, condition: str) -> None:
        """Wait until a shell command in the container succeeds."""
        self("exec", container, "sh", "-c", f"until {condition}; do sleep 0.02; done")

    def state(self, container: str) -> str:
        return self("inspect", "-f", "{{.State.Status}}", container)

    def wait_state(self, container: str, *states: str, seconds: float = 60) -> str:
        return eventually(lambda: found if (found := self.state(container)) in states else "", seconds)

    def clean(self) -> None:
        ids = self("ps", "-aq", "--no-trunc", "--filter", f"label={self.mark}").split()
        if ids:
            self.run("rm", "-f", "-v", *ids, timeout=90)


class Terminal:
    """A command on a pseudo-terminal: send keys, expect text."""

    def __init__(self, command: list[str], environment: dict[str, str], rows: int, columns: int) -> None:
        self.master, slave = pty.openpty()
        self.seen = ""
        self.resize(rows, columns)
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True)
        os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if hasattr(self, "process"):
            os.kill(self.process.pid, 28)  # SIGWINCH: the pty is not the command's controlling terminal

    def resize_shell(self, rows: int, columns: int) -> None:
        """Resize, and wait until the shell in the terminal knows; the command may not hear the first signals."""
        self.send(f"until test \"$(stty size)\" = '{rows} {columns}'; do sleep 0.1; done; echo re''sized\n")
        deadline = time.monotonic() + 60 * PATIENCE
        while "resized" not in self.seen:
            assert time.monotonic() < deadline, f"no new size in {self.seen!r}"
            self.resize(rows, columns)
            self._look(0.5)
        self.expect("resized")

    def send(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def expect(self, text: str, seconds: float = 60) -> str:
        """Everything shown since the last match, once `text` is in it."""
        deadline = time.monotonic() + seconds * PATIENCE
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} did not appear in {self.seen!r}"
            self._look(0.1)
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def _look(self, seconds: float) -> None:
        """Take in what is shown within this time."""
        if select.select([self.master], [], [], seconds)[0]:
            self.seen += self._read()

    def _read(self) -> str:
        try:
            data = os.read(self.master, 65536)
        except OSError:
            data = b""
        assert data, f"the terminal closed after {self.seen!r}"
        return data.decode(errors="replace")

    def wait(self, seconds: float = 60) -> int:
        return self.process.wait(seconds * PATIENCE)


def readable(stream: IO[bytes] | None, seconds: float = 0.3) -> bool:
    """Whether an unbuffered stream has something to read, or gets it within this time."""
    assert stream is not None
    return bool(select.select([stream], [], [], seconds)[0])


def eventually(probe: Callable[[], T], seconds: float = 60) -> T:
    """The first true value of `probe()`; fails when none comes in time."""
    deadline = time.monotonic() + seconds * PATIENCE
    while not (value := probe()):
        assert time.monotonic() < deadline, f"nothing within {seconds:g} s"
        time.sleep(0.03)
    return value
