import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from struct import pack

import pytest

from compat_engine.engine import execs
from compat_engine.engine.containers.pause import pause
from compat_engine.engine.parts import Engine
from compat_engine.errors import Conflict, InvalidParameter, NotFound
from compat_engine.wire.exec import ExecCreate, ExecStart
from tests.support.parts import Client, make_engine, run


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with make_engine(tmp_path) as engine:
        yield engine


def asked(*words: str, **more: object) -> ExecCreate:
    return ExecCreate.model_validate({"Cmd": list(words), "AttachStdout": True, "AttachStderr": True, **more})


async def play(engine: Engine, id: str, client: Client) -> None:
    session = await execs.open(engine, id, ExecStart())
    await asyncio.wait_for(session.run(client), 60)


async def test_output_and_an_exit_code_known_before_the_stream_ends(engine: Engine) -> None:
    container = await run(engine, "c")
    events = engine.events.subscribe()
    id = await execs.create(engine, "c", asked("sh", "-c", "echo hi; exit 3", Env=["A=b"], User="daemon"))
    before = execs.inspect(engine, id)
    assert (before["Running"], before["ExitCode"], before["Pid"]) == (False, None, 0)
    assert before["ProcessConfig"] == {
        "tty": False, "entrypoint": "sh", "arguments": ["-c", "echo hi; exit 3"], "privileged": False, "user": "daemon",
    }  # fmt: skip
    assert container.exec_ids == [id]
    client = Client()
    codes = []
    close = client.close_write

    async def noting() -> None:
        codes.append(execs.inspect(engine, id)["ExitCode"])
        await close()

    client.close_write = noting  # type: ignore[method-assign]
    client.typed.put_nowait(b"")
    await play(engine, id, client)
    assert bytes(client.received) == pack(">BxxxL", 1, 3) + b"hi\n"
    assert codes == [3]
    assert container.exec_ids == []
    actions = [(await anext(events))["Action"] for _ in range(3)]
    assert actions == ["exec_create: sh -c echo hi; exit 3", "exec_start: sh -c echo hi; exit 3", "exec_die"]


async def test_a_nul_byte_is_refused(engine: Engine) -> None:
    await run(engine, "c")
    with pytest.raises(InvalidParameter, match="invalid WorkingDir: contains a NUL byte"):
        await execs.create(engine, "c", asked("true", WorkingDir="/a\0"))


async def test_stdin_reaches_it(engine: Engine) -> None:
    await run(engine, "c")
    id = await execs.create(engine, "c", asked("cat", AttachStdin=True))
    client = Client()
    client.typed.put_nowait(b"one\n")
    client.typed.put_nowait(b"")
    await play(engine, id, client)
    assert bytes(client.received) == pack(">BxxxL", 1, 4) + b"one\n"


async def ended(engine: Engine, id: str) -> int:
    async with asyncio.timeout(60):
        while (code := execs.inspect(engine, id)["ExitCode"]) is None:
            await asyncio.sleep(0.005)
    return int(code)


async def test_detach_keys_leave_it_running(engine: Engine) -> None:
    container = await run(engine, "c")
    id = await execs.create(engine, "c", asked("cat", AttachStdin=True, Tty=True, DetachKeys="ctrl-a,x"))
    client = Client()
    client.typed.put_nowait(b"one\n")
    client.typed.put_nowait(b"\x01x")
    await play(engine, id, client)
    assert execs.inspect(engine, id)["Running"] and not client.closed.is_set()
    assert execs.inspect(engine, id)["DetachKeys"] == "AXg="
    await engine.runtime.signal(container.id, signal.SIGKILL, id)
    assert await ended(engine, id) == 137


@pytest.mark.parametrize("tty", [False, True])
async def test_a_failed_start_is_told_in_band(engine: Engine, tty: bool) -> None:
    await run(engine, "c")
    id = await execs.create(engine, "c", asked("nosuch", Tty=tty))
    client = Client()
    await play(engine, id, client)
    text = (
        b'OCI runtime exec failed: exec failed: unable to start container process: exec: "nosuch": '
        b"executable file not found in $PATH: unknown\r\n"
    )
    assert bytes(client.received) == (text if tty else pack(">BxxxL", 1, len(text)) + text)
    assert client.closed.is_set()
    assert execs.inspect(engine, id)["ExitCode"] == 127


async def test_detached(engine: Engine) -> None:
    await run(engine, "c")
    id = await execs.create(engine, "c", asked("sh", "-c", "exit 4"))
    await (await execs.open(engine, id, ExecStart(Detach=True))).run_detached()
    assert await ended(engine, id) == 4
    failing = await execs.create(engine, "c", asked("nosuch"))
    with pytest.raises(InvalidParameter, match="executable file not found"):
        await (await execs.open(engine, failing, ExecStart(Detach=True))).run_detached()


async def test_refusals(engine: Engine) -> None:
    container = await run(engine, "c")
    with pytest.raises(InvalidParameter, match="No exec command specified"):
        await execs.create(engine, "c", ExecCreate())
    with pytest.raises(NotFound, match="No such container: nope"):
        await execs.create(engine, "nope", asked("true"))
    with pytest.raises(NotFound, match="No such exec instance: nope"):
        await execs.open(engine, "nope", ExecStart())
    id = await execs.create(engine, "c", asked("true"))
    client = Client()
    client.typed.put_nowait(b"")
    await play(engine, id, client)
    with pytest.raises(Conflict, match=f"Error: Exec command {id} has already run"):
        await execs.open(engine, id, ExecStart())
    with pytest.raises(NotFound, match=f"process does not exist {id}"):
        await execs.resize(engine, id, 1, 1)
    await pause(engine, "c")
    with pytest.raises(Conflict, match="Container c is paused, unpause the container before exec"):
        await execs.create(engine, "c", asked("true"))
    await engine.containers.update(container, state=container.state.to("exited"))
    with pytest.raises(Conflict, match=f"container {container.id} is not running"):
        await execs.create(engine, "c", asked("true"))


async def test_an_exec_ends_with_its_container(engine: Engine) -> None:
    container = await run(engine, "c")
    unused = await execs.create(engine, "c", asked("true"))
    running = await execs.create(engine, "c", asked("sleep", "50"))
    await (await execs.open(engine, running, ExecStart(Detach=True))).run_detached()
    engine.execs.container_exited(container.id)
    assert execs.inspect(engine, running)["ExitCode"] == 137
    with pytest.raises(NotFound):
        execs.inspect(engine, unused)
    engine.execs.forget(container.id)
    with pytest.raises(NotFound):
        execs.inspect(engine, running)
