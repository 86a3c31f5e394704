"""Plays the daemon to a real launcher: rootfs of the host's busybox, specs by hand. Needs root."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from compat_engine.shim import channel, protocol
from compat_engine.shim.spec import CgroupDir, Device, Log, Mount, Namespaces, Overlay, Process, Spec, dump_process
from tests.support.leftovers import RUN

ROOT = Path(__file__).resolve().parents[2]
DOCKER_CAPS = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
)  # fmt: skip
_SAFE = ("nosuid", "noexec", "nodev")
MOUNTS = (
    Mount("proc", "proc", "/proc", _SAFE),
    Mount("tmpfs", "tmpfs", "/dev", ("nosuid", "strictatime"), "mode=755,size=65536k"),
    Mount("devpts", "devpts", "/dev/pts", ("nosuid", "noexec"), "newinstance,ptmxmode=0666,mode=0620,gid=5"),
    Mount("sysfs", "sysfs", "/sys", (*_SAFE, "ro")),
    Mount("cgroup", "cgroup", "/sys/fs/cgroup", (*_SAFE, "ro")),
    Mount("mqueue", "mqueue", "/dev/mqueue", _SAFE),
    Mount("tmpfs", "shm", "/dev/shm", _SAFE, "mode=1777,size=65536k"),
)
DEVICES = tuple(
    Device(f"/dev/{name}", "c", 1 if name != "tty" else 5, minor)
    for name, minor in (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9), ("tty", 0))
)
MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware")
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys")
ENV = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=box")


def process(*args: str, **changes: Any) -> Process:
    base = Process(args, ENV, caps_bounding=DOCKER_CAPS, caps_effective=DOCKER_CAPS)
    return replace(base, **changes)


class Container:
    """One running or ended container and its control socket."""

    def __init__(self, id: str, bundle: Path, log: Path, control: socket.socket) -> None:
        self.id, self.bundle, self.log_path, self.control = id, bundle, log, control
        self.pid = 0
        self._clients: list[socket.socket] = []

    def expect(self, *ops: str, timeout: float = 60) -> channel.Message:
        """The next message, which must be one of `ops`."""
        self.control.settimeout(timeout)
        received = channel.receive(self.control)
        assert received is not None, f"the shim left; wanted {ops}; {self.report()}"
        assert received[0]["op"] in ops, f"{received[0]}; wanted {ops}"
        return received[0]

    def tell(self, op: str, fds: Sequence[int] = (), **fields: Any) -> None:
        channel.send(self.control, {"op": op, **fields}, fds)

    def started(self, attached: Sequence[tuple[socket.socket, dict[str, bool]]] = ()) -> None:
        self.pid = int(self.expect(protocol.CREATED)["pid"])
        self.tell(protocol.GO, [sock.fileno() for sock, _ in attached], attach=[wanted for _, wanted in attached])
        for sock, _ in attached:
            sock.close()
        self.expect(protocol.STARTED)

    def failed(self) -> channel.Message:
        """The message of a start that fails, before or after `go`."""
        message = self.expect(protocol.CREATED, protocol.FAILED)
        if message["op"] == protocol.CREATED:
            self.tell(protocol.GO)
            message = self.expect(protocol.FAILED)
        self.ended()
        return message

    def exited(self, timeout: float = 60) -> channel.Message:
        message = self.expect(protocol.EXITED, timeout=timeout)
        self.ended()
        return message

    def ended(self) -> None:
        self.control.settimeout(60)
        assert channel.receive(self.control) is None

    def attach(self, exec: str = "", **streams: bool) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.tell(protocol.ATTACH, [theirs.fileno()], exec=exec, **streams)
        return self._client(ours, theirs)

    def exec(self, id: str, process: Process, **streams: bool) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.tell(protocol.EXEC, [theirs.fileno()], id=id, process=dump_process(process), attach=streams)
        return self._client(ours, theirs)

    def _client(self, ours: socket.socket, theirs: socket.socket) -> socket.socket:
        theirs.close()
        ours.settimeout(60)
        self._clients.append(ours)
        return ours

    def close(self) -> None:
        """Kill what runs still, wait for the shim to leave."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.control.settimeout(60)
        while channel.receive(self.control):
            pass
        for sock in (self.control, *self._clients):
            sock.close()

    def logs(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.log_path.read_text(encoding="utf-8").splitlines()]

    def report(self) -> str:
        path = self.bundle / "shim.log"
        return path.read_text() if path.exists() else ""


class Daemon:
    """A launcher and the directories of its containers."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.name = f"ce-test-{RUN}-{uuid.uuid4().hex[:8]}"
        self.lower = self._make_rootfs(base / "lower")
        ours, theirs = channel.pair()
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from compat_engine.shim.launcher import main; main({theirs.fileno()})"
        self.launcher = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code], pass_fds=[theirs.fileno()], env={}, start_new_session=True
        )
        theirs.close()
        self.socket = ours
        self.containers: list[Container] = []

    @staticmethod
    def _make_rootfs(path: Path) -> Path:
        for name in ("bin", "etc", "root", "tmp", "dev", "proc", "sys"):
            (path / name).mkdir(parents=True)
        (path / "tmp").chmod(0o1777)
        busybox = shutil.which("busybox") or "/bin/busybox"
        shutil.copy2(busybox, path / "bin/busybox")
        listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout
        for name in listed.split():
            if name != "busybox":
                (path / "bin" / name).symlink_to("busybox")
        (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:/bin/sh\n")
        (path / "etc/group").write_text("root:x:0:\nmail:x:8:\nwheel:x:10:root\nwww:x:33:\ntape:x:26:www\n")
        return path

    def spec(self, main: Process, **changes: Any) -> Spec:
        id = uuid.uuid4().hex
        own = self.base / id
        for name in ("diff", "work"):
            (own / name).mkdir(parents=True)
        base = Spec(
            id, main, Overlay((str(self.lower),), str(own / "diff"), str(own / "work")), hostname="box", mounts=MOUNTS,
            devices=DEVICES, masked_paths=MASKED, readonly_paths=READONLY, namespaces=Namespaces(),
            cgroups=tuple(CgroupDir(path) for path in self.cgroup_paths(id)), log=Log(path=str(own / "log")),
        )  # fmt: skip
        return replace(base, **changes)

    def cgroup_paths(self, id: str) -> list[str]:
        root = Path("/sys/fs/cgroup")
        if (root / "cgroup.controllers").exists():
            return [str(root / self.name / id)]
        return [str(path / self.name / id) for path in sorted(root.iterdir()) if (path / "tasks").exists()]

    def run(self, spec: Spec) -> Container:
        bundle = self.base / "bundles" / spec.id
        bundle.mkdir(parents=True, exist_ok=True)
        (bundle / protocol.SPEC).write_text(spec.dump())
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel.send(self.socket, {"op": protocol.RUN, "bundle": str(bundle)}, [theirs.fileno()])
        theirs.close()
        container = Container(spec.id, bundle, Path(spec.log.path), ours)
        self.containers.append(container)
        return container

    def start(self, *args: str, **changes: Any) -> Container:
        """A started container of the default spec; spec fields and process fields by name."""
        fields = {key: changes.pop(key) for key in tuple(changes) if key in Spec.__dataclass_fields__}
        container = self.run(self.spec(process(*args, **changes), **fields))
        container.started()
        return container

    def release(self) -> list[str]:
        """End all containers; the cgroups and files they left."""
        for container in self.containers:
            container.close()
        paths = [path for container in self.containers for path in self.cgroup_paths(container.id)]
        files = [path for container in self.containers for path in container.bundle.glob("*")]
        self.containers.clear()
        return [path for path in paths if os.path.exists(path)] + [
            str(path) for path in files if path.name not in (protocol.SPEC, protocol.EXIT)
        ]

    def close(self) -> None:
        self.release()
        self.socket.close()
        self.launcher.wait(60)
        limit = time.monotonic() + 30
        for path in self.cgroup_paths(""):
            while os.path.isdir(path) and time.monotonic() < limit:
                try:
                    os.rmdir(path)
                except OSError:
                    time.sleep(0.01)


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while chunk := sock.recv(1 << 20):
        data += chunk
    return data


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """stdcopy frames."""
    out = []
    while data:
        length = int.from_bytes(data[4:8], "big")
        out.append((data[0], data[8 : 8 + length]))
        data = data[8 + length :]
    return out


def joined(data: bytes, stream: int) -> bytes:
    return b"".join(chunk for number, chunk in frames(data) if number == stream)
