"""kill -9 of the daemon at every single step of create, start, exec, stop and rm: afterwards it is done or not done.

Each test repeats its operation, the daemon dying one step later each time, until it survives; see tests/support/crashing.py.
"""

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.daemon import Daemon, own_place
from tests.support.docker import eventually

pytestmark = pytest.mark.timeout(600)  # some sixty daemons one after the other
NAME = "crashing"
LIMIT = 400  # steps; more means that the daemon never finishes the operation


@dataclass
class CrashingDaemon(Daemon):
    """An ordinary daemon until `arm`."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.support.crashing", str(self.run / "fatal"), *super().command()[3:]]

    def arm(self, fatal: int) -> None:
        """It dies at its step number `fatal` from now on."""
        assert self.process is not None
        (self.run / "fatal").write_text(str(fatal))
        self.process.send_signal(signal.SIGUSR1)
        eventually(lambda: not (self.run / "fatal").exists())

    def died(self, timeout: float) -> bool:
        assert self.process is not None
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        assert self.process.returncode == -signal.SIGKILL, self.log[-4000:]
        self.process = None
        return True

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        status, answer = self.request(method, path, None if body is None else json.dumps(body).encode())
        return status, json.loads(answer) if answer.startswith((b"{", b"[")) else answer

    def state(self) -> str:
        """Of the container: its status, "" when there is none."""
        status, answer = self.call("GET", f"/containers/{NAME}/json")
        return str(answer["State"]["Status"]) if status == 200 else ""

    def create(self, volumes: bool = True) -> None:
        """Without volumes it is one that stands by for a start (engine/standby.py)."""
        body: dict[str, Any] = {"Image": "busybox", "Cmd": ["sleep", "1000"]}
        if volumes:
            body |= {"Volumes": {"/data": {}}, "HostConfig": {"Binds": ["named:/named"], "IpcMode": "shareable"}}
        status, answer = self.call("POST", f"/containers/create?name={NAME}", body)
        assert status == 201, answer

    def make_running(self) -> None:
        if not self.state():
            self.create()
        assert self.call("POST", f"/containers/{NAME}/start")[0] in (204, 304)

    def exec(self) -> int:
        """A whole exec; its exit code."""
        _, made = self.call("POST", f"/containers/{NAME}/exec", {"Cmd": ["true"], "AttachStdout": True})
        self.call("POST", f"/exec/{made['Id']}/start", {})
        return int(self.call("GET", f"/exec/{made['Id']}/json")[1]["ExitCode"])

    def files_left(self) -> list[str]:
        """What only a container, a volume or unfinished work has on the disk."""
        places = (self.data / "containers", self.data / "tmp", self.exec_root / "containers")
        writable = [path for path in (self.data / "overlay2").iterdir() if (path / "work").exists()]
        return [str(path) for place in places for path in place.iterdir()] + [str(path) for path in writable]


@pytest.fixture
def daemon() -> Iterator[CrashingDaemon]:
    daemon = CrashingDaemon(*own_place("c", 2))
    try:
        daemon.start()
        daemon.load_busybox()
        yield daemon
        if daemon.process is not None:
            daemon.remove_containers()
            daemon.call("POST", '/volumes/prune?filters={"all":["true"]}')
            assert daemon.files_left() == []
    finally:
        left = daemon.destroy()
    assert not left, "left behind:\n" + "\n".join(left)


def crash_at_every_step(
    daemon: CrashingDaemon, before: Callable[[], object], operation: Callable[[], object], check: Callable[[], object]
) -> int:
    """How many steps the operation has. `check` looks at the daemon that came after the crash, and leaves things as it likes."""
    for fatal in range(1, LIMIT):
        before()
        daemon.arm(fatal)
        try:
            operation()
        except (OSError, http.client.HTTPException, AssertionError):
            assert daemon.died(60), "the operation failed, but the daemon lives: " + daemon.log[-3000:]
        survived = daemon.process is not None and not daemon.died(0.3)
        if survived:
            daemon.kill9()
        daemon.start()
        check()
        if survived:
            return fatal - 1
    raise AssertionError(f"more than {LIMIT} steps")


def removed(daemon: CrashingDaemon) -> None:
    """A container in whatever state can be removed, and then nothing is left of it."""
    assert daemon.call("DELETE", f"/containers/{NAME}?force=1&v=1")[0] in (204, 404)
    assert not daemon.state()
    assert daemon.files_left() == []


def test_create(daemon: CrashingDaemon) -> None:
    def check() -> None:
        if daemon.state():
            assert daemon.call("POST", f"/containers/{NAME}/start")[0] == 204
        else:
            assert daemon.files_left() == []
            daemon.create()
        removed(daemon)

    assert crash_at_every_step(daemon, lambda: None, daemon.create, check) > 3


def test_standby(daemon: CrashingDaemon) -> None:
    """All of it, from the create to its end unused."""

    def check() -> None:
        if daemon.state():
            assert daemon.call("POST", f"/containers/{NAME}/start")[0] == 204
            assert daemon.exec() == 0
        removed(daemon)

    assert crash_at_every_step(daemon, lambda: None, lambda: daemon.create(volumes=False), check) > 8


def test_start_from_standby(daemon: CrashingDaemon) -> None:
    def run() -> None:
        daemon.create(volumes=False)
        assert daemon.call("POST", f"/containers/{NAME}/start")[0] == 204

    def check() -> None:
        assert daemon.state() in ("", "created", "running"), daemon.state()
        if daemon.state():
            daemon.make_running()
            assert daemon.exec() == 0
        removed(daemon)

    assert crash_at_every_step(daemon, lambda: None, run, check) > 8


@pytest.mark.parametrize("again", [True, False])
def test_start(daemon: CrashingDaemon, again: bool) -> None:
    """again: what was cut short is started before it is removed."""

    def before() -> None:
        if not daemon.state():
            daemon.create()

    def check() -> None:
        assert daemon.state() in ("created", "running"), daemon.state()
        if again:
            daemon.make_running()
            assert daemon.exec() == 0
        removed(daemon)

    assert crash_at_every_step(daemon, before, lambda: daemon.call("POST", f"/containers/{NAME}/start"), check) > 5


def test_exec(daemon: CrashingDaemon) -> None:
    def check() -> None:
        assert daemon.state() == "running"
        assert daemon.exec() == 0

    assert crash_at_every_step(daemon, daemon.make_running, daemon.exec, check) >= 1


def test_stop(daemon: CrashingDaemon) -> None:
    def check() -> None:
        if daemon.state() == "running":
            assert daemon.exec() == 0
        else:
            answer = daemon.call("GET", f"/containers/{NAME}/json")[1]["State"]
            assert (answer["Status"], answer["ExitCode"]) == ("exited", 137), answer

    assert (
        crash_at_every_step(daemon, daemon.make_running, lambda: daemon.call("POST", f"/containers/{NAME}/stop?t=0"), check) > 2
    )


def test_remove(daemon: CrashingDaemon) -> None:
    def check() -> None:
        if daemon.state():
            daemon.make_running()
            assert daemon.exec() == 0
        else:
            assert daemon.files_left() == []

    operation = lambda: daemon.call("DELETE", f"/containers/{NAME}?force=1&v=1")  # noqa: E731
    assert crash_at_every_step(daemon, daemon.make_running, operation, check) > 3
