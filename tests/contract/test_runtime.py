"""The contract of `runtime.protocol.Runtime`, kept by the real one (root, a static busybox) and by the fake."""

import asyncio
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from compat_engine.errors import Internal
from compat_engine.ids import new_id
from compat_engine.runtime import linux as linux_runtime
from compat_engine.runtime import shim_client
from compat_engine.runtime.cgroups import devices
from compat_engine.runtime.cgroups.manager import Cgroups
from compat_engine.runtime.cgroups.resources import Resources
from compat_engine.runtime.cgroups.v1 import V1
from compat_engine.runtime.fake import FakeRuntime
from compat_engine.runtime.linux import LinuxRuntime
from compat_engine.runtime.protocol import ExecExit, Exit, NotRunning, Runtime, StartFailed, Streams
from compat_engine.shim import protocol
from compat_engine.shim.spec import Log, Mount, Overlay, Process, Spec
from compat_engine.store.tree import Tree

BUSYBOX = shutil.which("busybox")
COMMANDS = ("sh", "true", "false", "echo", "sleep", "cat", "env", "hostname", "pwd")
MOUNTS = (
    Mount("proc", "proc", "/proc", ("nosuid", "noexec", "nodev")),
    Mount("tmpfs", "tmpfs", "/dev", ("nosuid", "strictatime"), "mode=755,size=65536k"),
    Mount("devpts", "devpts", "/dev/pts", ("nosuid", "noexec"), "newinstance,ptmxmode=0666,mode=0620"),
)


@dataclass
class House:
    """A runtime, its exits as they come, and specs for it."""

    tree: Tree
    cgroups: Cgroups
    parent: str
    runtime: Runtime
    exits: "asyncio.Queue[Exit | ExecExit]"
    listener: "asyncio.Task[None] | None" = None
    sockets: list[socket.socket] = field(default_factory=list)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Ours, closed at the end if the test does not, and one to give away."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.sockets.append(ours)
        return ours, theirs

    def listen(self) -> None:
        async def listen() -> None:
            async for exit in self.runtime.exits():
                self.exits.put_nowait(exit)

        self.listener = asyncio.get_running_loop().create_task(listen())

    def spec(self, *args: str, **process: object) -> Spec:
        id = new_id()
        layer = self.tree.layers / id
        for name in ("diff", "work"):
            (layer / name).mkdir(parents=True)
        log = self.tree.log(id)
        log.parent.mkdir(parents=True)
        start = Process(args=args, env=("PATH=/bin", "GREETING=hello"), caps_bounding=CAPS, caps_effective=CAPS)
        return Spec(
            id=id,
            process=replace(start, **process),  # type: ignore[arg-type]
            rootfs=Overlay((str(self.tree.layers / "busybox"),), str(layer / "diff"), str(layer / "work")),
            hostname="box",
            mounts=MOUNTS,
            cgroups=self.cgroups.plan(id, self.parent, Resources(pids_limit=50), devices.DEFAULT),
            log=Log(path=str(log)),
        )

    async def start(self, spec: Spec) -> socket.socket:
        """Started, with all its streams on the socket."""
        ours, theirs = self.pair()
        created = await self.runtime.create(spec)
        await created.go([(theirs, Streams(stdin=True))])
        return ours

    async def attach(self, id: str, streams: Streams) -> socket.socket:
        self.sockets.append(await self.runtime.attach(id, streams))
        return self.sockets[-1]

    async def exit(self) -> Exit:
        found = await asyncio.wait_for(self.exits.get(), 60)
        assert isinstance(found, Exit)
        await self.runtime.forget(found.id)
        return found

    async def end(self, spec: Spec) -> Exit:
        await self.runtime.signal(spec.id, signal.SIGKILL)
        return await self.exit()


CAPS = ("CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID")


def make_busybox(directory: Path) -> None:
    assert BUSYBOX is not None
    (directory / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, directory / "bin/busybox")
    for name in COMMANDS:
        (directory / "bin" / name).symlink_to("busybox")


@pytest.fixture(params=["fake", "linux"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    exec_root = Path(f"/run/contract-{os.getpid()}-{time.monotonic_ns()}") if os.geteuid() == 0 else tmp_path / "exec"
    tree = Tree(tmp_path / "data", exec_root)
    parent = f"contract-{os.getpid()}"
    if request.param == "fake":
        tree.layers.mkdir(parents=True)
        house = House(tree, Cgroups(V1(())), parent, FakeRuntime(), asyncio.Queue())
    elif os.geteuid() != 0 or BUSYBOX is None:
        pytest.skip("needs root and a static busybox")
    else:
        make_busybox(tree.layers / "busybox")
        cgroups = Cgroups.detect(tree.cache)
        house = House(tree, cgroups, parent, await LinuxRuntime.open(tree, cgroups), asyncio.Queue())
    house.listen()
    try:
        yield house
        await house.runtime.adopt([])  # what the test left running ends
    finally:
        assert house.listener is not None
        house.listener.cancel()
        for sock in house.sockets:
            sock.close()
        await house.runtime.close()
        left = list(tree.bundles.iterdir()) if tree.bundles.is_dir() else []
        shutil.rmtree(exec_root, ignore_errors=True)
        parents = [Path(item.path).parent for item in house.cgroups.plan("any", parent, Resources(), ())]
        remaining = [path for above in parents for path in above.iterdir() if path.is_dir()]
        for above in parents:
            above.rmdir()
    assert not left and not remaining


async def read_all(sock: socket.socket) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    with sock:
        while chunk := await asyncio.wait_for(loop.sock_recv(sock, 65536), 60):
            data += chunk
    return data


def frame(stream: int, data: bytes) -> bytes:
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


async def test_output_exit_code_and_log(house: House) -> None:
    spec = house.spec("sh", "-c", "echo out; echo err >&2; exit 3")
    data = await read_all(await house.start(spec))
    assert sorted((data[:12], data[12:])) == [frame(1, b"out\n"), frame(2, b"err\n")]
    exit = await house.exit()
    assert (exit.id, exit.code, exit.oom) == (spec.id, 3, False)
    records = [json.loads(line) for line in Path(spec.log.path).read_text().splitlines()]
    assert sorted((record["stream"], record["log"]) for record in records) == [("stderr", "err\n"), ("stdout", "out\n")]
    with pytest.raises(NotRunning):
        await house.runtime.signal(spec.id, signal.SIGTERM)


async def test_stdin_reaches_the_process_and_ends_it(house: House) -> None:
    ours = await house.start(house.spec("cat", open_stdin=True, stdin_once=True))
    await asyncio.get_running_loop().sock_sendall(ours, b"one\ntwo\n")
    ours.shutdown(socket.SHUT_WR)
    data = await read_all(ours)
    assert data.replace(frame(1, b"one\n"), b"").replace(frame(1, b"two\n"), b"") in (b"", frame(1, b"one\ntwo\n"))
    assert (await house.exit()).code == 0


async def test_a_terminal_is_not_framed(house: House) -> None:
    assert await read_all(await house.start(house.spec("echo", "hi", tty=True))) == b"hi\r\n"
    await house.exit()


async def test_a_command_that_is_not_there_fails_the_start(house: House) -> None:
    ours, theirs = house.pair()
    with pytest.raises(StartFailed) as failure, theirs:
        created = await house.runtime.create(house.spec("no-such-command"))
        await created.go([(theirs, Streams())])
    assert (failure.value.errno, failure.value.step) == (2, "exec")
    assert "executable file not found in $PATH" in failure.value.text
    assert await read_all(ours) == b""
    assert house.exits.empty()


async def test_abort_leaves_nothing(house: House) -> None:
    created = await house.runtime.create(house.spec("sleep", "60"))
    assert created.pid > 0
    await created.abort()
    await created.abort()
    assert house.exits.empty()


async def test_signal_and_attach_to_a_running_process(house: House) -> None:
    spec = house.spec("sh", open_stdin=True)
    with await house.start(spec) as first:
        second = await house.attach(spec.id, Streams(stdin=True, stdout=True, stderr=False))
        await asyncio.get_running_loop().sock_sendall(second, b"echo $GREETING\n")
        expected = frame(1, b"hello\n")
        for sock in (first, second):
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 100), 60) == expected
        await house.runtime.resize(spec.id, 24, 80)
        assert len(await house.runtime.pids(spec.id)) == 1
        assert (await house.runtime.usage(spec.id)).pids == 1
        await house.runtime.signal(spec.id, signal.SIGKILL)
        assert await read_all(second) == b""
    assert (await house.exit()).code == 137


async def test_exec_runs_beside_and_reports(house: House) -> None:
    spec = house.spec("sleep", "60")
    with await house.start(spec):
        ours, theirs = house.pair()
        process = replace(spec.process, args=("sh", "-c", "hostname; exit 7"))
        pid = await house.runtime.exec(spec.id, "e1", process, (theirs, Streams()))
        assert pid > 0
        assert await read_all(ours) == frame(1, b"box\n")
        assert await asyncio.wait_for(house.exits.get(), 60) == ExecExit(spec.id, "e1", 7)
        with pytest.raises(StartFailed):
            await house.runtime.exec(spec.id, "e2", replace(spec.process, args=("nope",)), None)
        await house.runtime.exec(spec.id, "e3", spec.process, None)
        await house.runtime.signal(spec.id, signal.SIGKILL, "e3")
        assert await asyncio.wait_for(house.exits.get(), 60) == ExecExit(spec.id, "e3", 137)
        assert (await house.end(spec)).code == 137
        with pytest.raises(NotRunning):
            await house.runtime.exec(spec.id, "e4", spec.process, None)


async def test_watch_tells_of_output_and_the_end(house: House) -> None:
    spec = house.spec("cat", open_stdin=True)
    with await house.start(spec) as ours:
        pipe = await house.runtime.watch(spec.id)
        await asyncio.get_running_loop().sock_sendall(ours, b"line\n")
        assert await readable(pipe)
        assert set(os.read(pipe, 100)) and "line" in Path(spec.log.path).read_text()
        await house.end(spec)
    while await readable(pipe) and os.read(pipe, 100):
        continue
    os.close(pipe)


async def readable(fd: int) -> bool:
    event, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(fd, event.set)
    try:
        return await asyncio.wait_for(event.wait(), 60)
    finally:
        loop.remove_reader(fd)


async def test_pause_holds_and_resume_goes_on(house: House) -> None:
    spec = house.spec("cat", open_stdin=True)
    with await house.start(spec) as ours:
        await house.runtime.pause(spec.id)
        await asyncio.get_running_loop().sock_sendall(ours, b"x\n")
        await asyncio.sleep(0.1)
        with pytest.raises(BlockingIOError):
            ours.recv(1)
        await house.runtime.resume(spec.id)
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(ours, 100), 60) == frame(1, b"x\n")
        await house.end(spec)


async def test_the_same_container_starts_again_at_once(house: House) -> None:
    spec = house.spec("true")
    for _ in range(3):
        (await house.start(spec)).close()
        assert (await house.exit()).code == 0


async def test_many_at_once(house: House) -> None:
    specs = [house.spec("sh", "-c", f"exit {number}") for number in range(10)]
    for sock in await asyncio.gather(*(house.start(spec) for spec in specs)):
        sock.close()
    codes = {exit.id: exit.code for exit in [await house.exit() for _ in specs]}
    assert [codes[spec.id] for spec in specs] == list(range(10))


@pytest.fixture
def linux(house: House) -> House:
    if isinstance(house.runtime, FakeRuntime):
        pytest.skip("of processes only")
    return house


async def successor(house: House) -> None:
    """As after a crash of the daemon: its runtime is gone, another begins."""
    assert house.listener is not None
    house.listener.cancel()
    await house.runtime.close()
    house.runtime = await LinuxRuntime.open(house.tree, house.cgroups)
    house.listen()


async def test_a_later_daemon_adopts_what_runs_and_hears_of_what_ended(linux: House) -> None:
    live, ended, unknown = (
        linux.spec("sleep", "60"),
        linux.spec("cat", open_stdin=True, stdin_once=True),
        linux.spec("sleep", "60"),
    )
    sockets = [await linux.start(spec) for spec in (live, ended, unknown)]
    pid = (await linux.runtime.pids(live.id))[0]
    await successor(linux)
    sockets[1].close()
    await until(lambda: (linux.tree.bundle(ended.id) / protocol.EXIT).exists())
    adopted = await linux.runtime.adopt([live.id, ended.id])
    assert adopted.live == {live.id: pid}
    assert [(exit.id, exit.code) for exit in adopted.ended] == [(ended.id, 0)]
    assert not linux.tree.bundle(unknown.id).exists()
    await linux.runtime.forget(ended.id)
    second = await linux.attach(live.id, Streams())
    assert (await linux.end(live)).code == 137
    assert await read_all(second) == b""
    for sock in sockets:
        sock.close()


async def test_a_killed_supervisor_is_noticed_and_its_container_ended(linux: House) -> None:
    spec = linux.spec("sleep", "60")
    with await linux.start(spec):
        init = (await linux.runtime.pids(spec.id))[0]
        shim = int((linux.tree.bundle(spec.id) / protocol.PID).read_text().split()[0])
        os.kill(shim, signal.SIGKILL)
        exit = await linux.exit()
        assert (exit.id, exit.code) == (spec.id, 137)
        await until(lambda: not Path(f"/proc/{init}").exists())


async def test_a_stuck_supervisor_is_in_nobodys_way(linux: House, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = linux.spec("sleep", "60")
    with await linux.start(stuck):
        shim = int((linux.tree.bundle(stuck.id) / protocol.PID).read_text().split()[0])
        init = (await linux.runtime.pids(stuck.id))[0]
        os.kill(shim, signal.SIGSTOP)
        try:
            monkeypatch.setattr(shim_client, "EXEC_SECONDS", 0.1)
            with pytest.raises(Internal, match="does not answer"):
                await linux.runtime.exec(stuck.id, "late", stuck.process, None)
            (await linux.start(linux.spec("true"))).close()
            assert (await linux.exit()).code == 0
            await successor(linux)
            monkeypatch.setattr(linux_runtime, "ANSWER_SECONDS", 3600)
            assert (await linux.runtime.adopt([stuck.id])).live == {stuck.id: init}
            await linux.runtime.signal(stuck.id, signal.SIGKILL)
        finally:
            os.kill(shim, signal.SIGCONT)
        assert (await linux.exit()).code == 137


async def test_a_supervisor_killed_during_a_start_leaves_nothing(linux: House) -> None:
    created = await linux.runtime.create(spec := linux.spec("sleep", "60"))
    os.kill(int((linux.tree.bundle(spec.id) / protocol.PID).read_text().split()[0]), signal.SIGKILL)
    with pytest.raises(StartFailed, match="supervisor"):
        await created.go()
    assert created.ended
    assert not linux.tree.bundle(spec.id).exists()
    assert not any(os.path.exists(item.path) for item in spec.cgroups)


async def test_a_dead_launcher_is_replaced(linux: House) -> None:
    assert isinstance(linux.runtime, LinuxRuntime)
    first = linux.runtime.launcher.pid
    os.kill(first, signal.SIGKILL)
    (await linux.start(linux.spec("true"))).close()
    assert (await linux.exit()).code == 0
    assert linux.runtime.launcher.pid != first


async def test_starts_are_undone_when_the_daemon_dies_before_go(linux: House) -> None:
    spec = linux.spec("sleep", "60")
    created = await linux.runtime.create(spec)
    await successor(linux)
    await until(lambda: not Path(f"/proc/{created.pid}").exists())
    adopted = await linux.runtime.adopt([spec.id])
    assert (adopted.live, adopted.ended) == ({}, [])
    assert not linux.tree.bundle(spec.id).exists()


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not done():
            await asyncio.sleep(0.01)
