"""A real daemon for tests: its own data root, bridge, nftables table and cgroup parent, and a check that nothing stays behind."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import busybox_image
from tests.support.docker import PATIENCE
from tests.support.leftovers import RUN

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 60.0


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, for the few requests a test makes by hand."""

    def __init__(self, path: str, timeout: float = 60 * PATIENCE) -> None:
        super().__init__("docker", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


@dataclass
class Daemon:
    """`python -m compat_engine` with everything of its own; the short `label` names bridge, table and cgroups."""

    label: str
    bip: str
    options: tuple[str, ...] = ()
    settings: dict[str, object] = field(default_factory=dict)
    base: str = "/var/tmp"  # the data root goes below it
    run: Path = field(init=False)
    data: Path = field(init=False)
    process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.run = Path(tempfile.mkdtemp(prefix=f"ce-{RUN}-", dir="/run"))  # short: a unix socket's path has 107 bytes
        self.data = Path(tempfile.mkdtemp(prefix=f"compat-test-{RUN}-", dir=self.base))

    @property
    def socket(self) -> str:
        return str(self.run / "docker.sock")

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    @property
    def exec_root(self) -> Path:
        return self.run / "x"

    @property
    def log(self) -> str:
        path = self.run / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def command(self) -> list[str]:
        config = self.run / "daemon.json"
        config.write_text(json.dumps({"cgroup-parent": f"/{self.label}", **self.settings}))
        paths = ["--data-root", str(self.data), "--exec-root", str(self.exec_root), "--pidfile", str(self.run / "daemon.pid")]
        network = ["--bridge", self.label, "--bip", self.bip, "--config-file", str(config)]
        return [sys.executable, "-m", "compat_engine", "-H", self.host, *paths, *network, *self.options]

    def start(self) -> None:
        """Start it and wait until it answers; fails with its log when it does not."""
        with (self.run / "daemon.log").open("ab") as log:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            command = self.command()
            # A session of its own: ^C is for the tests, which then end the daemon in order.
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", env=environment, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS * PATIENCE
        while not self.answers():
            assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}:\n{self.log[-4000:]}"
            assert time.monotonic() < deadline, f"no answer within {START_SECONDS:g} s:\n{self.log[-4000:]}"
            time.sleep(0.02)

    def answers(self) -> bool:
        try:
            return self.request("GET", "/_ping")[0] == 200
        except OSError:
            return False

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = UnixConnection(self.socket)
        try:
            kind = {"Content-Type": "application/x-tar" if path.startswith("/images/load") else "application/json"}
            connection.request(method, path, body, kind if body is not None else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def load_busybox(self) -> None:
        status, answer = self.request("POST", "/images/load?quiet=1", busybox_image.archive())
        assert status == 200, answer

    def kill9(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, sign: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(sign)
            self.process.wait(STOP_SECONDS * PATIENCE)
            self.process = None

    def remove_containers(self) -> None:
        for container in json.loads(self.request("GET", "/containers/json?all=1")[1]):
            self.request("DELETE", f"/containers/{container['Id']}?force=1&v=1")

    def remove_networks(self) -> list[str]:
        """Those of tests that forgot theirs; their names."""
        networks = json.loads(self.request("GET", '/networks?filters={"type":["custom"]}')[1])
        for network in networks:
            self.request("DELETE", f"/networks/{network['Id']}")
        return [f"network {network['Name']}" for network in networks]

    def destroy(self) -> list[str]:
        """Remove containers, stop, delete bridge, table and directories; returns what tests, containers or daemon left behind."""
        left = []
        if self.process is not None and self.process.poll() is None and self.answers():
            self.remove_containers()
            left = self.remove_networks()
        self.stop()
        left += self.leftovers()
        self._sweep()
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.rmtree(self.data, ignore_errors=True)
        return left

    def _sweep(self) -> None:
        """End and delete what a failed test left, so that it does not fail the next one too."""
        for command in (["ip", "link", "del", self.label], *(["nft", "delete", "table", *table] for table in self.tables())):
            subprocess.run(command, capture_output=True, check=False)
        for parent in self.cgroups():
            for directory in sorted((path for path in [parent, *parent.rglob("*")] if path.is_dir()), reverse=True):
                for pid in (directory / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                _remove_cgroup(directory)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if (target := line.split()[4]).startswith((str(self.run), str(self.data))):
                subprocess.run(["umount", "-l", target], check=False)

    def cgroups(self) -> list[Path]:
        return [*Path("/sys/fs/cgroup").glob(f"*/{self.label}"), *Path("/sys/fs/cgroup").glob(self.label)]

    def tables(self) -> list[list[str]]:
        listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
        return [line.split()[1:] for line in listed.splitlines() if line.endswith(f"compat-{self.label}")]

    def leftovers(self) -> list[str]:
        """Mounts, processes, cgroups and interfaces that still belong to this daemon; gives the kernel a little time."""
        deadline = time.monotonic() + 30 * PATIENCE
        while (found := self.belongings()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def belongings(self) -> list[str]:
        places = (str(self.run), str(self.data))
        own = f"{self.process.pid if self.process else 0}: "
        running = [line for line in _command_lines() if not line.startswith(own)]
        lines = [*Path("/proc/self/mountinfo").read_text().splitlines(), *running]
        cgroups = [str(path) for parent in self.cgroups() for path in parent.iterdir() if path.is_dir()]
        ports = [f"bridge port {port.name}" for port in Path(f"/sys/class/net/{self.label}").glob("brif/*")]
        return [*(line for line in lines if any(place in line for place in places)), *cgroups, *ports]


def own_place(letter: str, number: int) -> tuple[str, str]:
    """A label and the bridge's address that no other test run on this machine uses at the same time."""
    return f"ce{letter}{RUN}", f"10.{100 + RUN % 100}.{RUN // 100 % 50 * 5 + number}.1/24"


def own_daemon(letter: str, number: int, **options: Any) -> Daemon:
    """A daemon with everything of its own."""
    return Daemon(*own_place(letter, number), **options)


def _remove_cgroup(directory: Path) -> None:
    for _ in range(100):
        try:
            return directory.rmdir()
        except OSError:  # busy until its processes are reaped
            time.sleep(0.05)
    raise TimeoutError(f"{directory} stays busy")


def _command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(f"{path.parent.name}: {path.read_bytes().replace(bytes(1), b' ').decode(errors='replace')}")
        except OSError:  # it ended meanwhile
            continue
    return [line for line in found if not line.startswith(f"{os.getpid()}:")]
