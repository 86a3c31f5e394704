import os
from collections.abc import AsyncIterator
from pathlib import Path
from struct import pack

import pytest

from compat_engine.engine import volumes
from compat_engine.engine.containers import logs
from compat_engine.engine.containers.inspect import inspect
from compat_engine.engine.containers.pause import pause, unpause
from compat_engine.engine.containers.prune import prune
from compat_engine.engine.containers.rename import rename
from compat_engine.engine.containers.resize import resize
from compat_engine.engine.containers.top import top
from compat_engine.engine.parts import Engine
from compat_engine.engine.records import MountPoint
from compat_engine.errors import Conflict, EngineError, Internal, InvalidParameter, NotFound, NotImplementedHere
from compat_engine.logs.query import LogQuery
from compat_engine.wire.volume import VolumeCreate
from tests.support.parts import add, make_engine, run


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with make_engine(tmp_path) as engine:
        yield engine


async def test_inspect(engine: Engine) -> None:
    container = await add(engine, "web", ("sh", "-c", "true"))
    shown = await inspect(engine, "web", size=True)
    assert list(shown)[:10] == [
        "Id", "Created", "Path", "Args", "State", "Image", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath",
    ]  # fmt: skip
    assert (shown["Path"], shown["Args"], shown["Name"]) == ("sh", ["-c", "true"], "/web")
    assert shown["State"] == {
        "Status": "created", "Running": False, "Paused": False, "Restarting": False, "OOMKilled": False, "Dead": False, "Pid": 0,
        "ExitCode": 0, "Error": "", "StartedAt": "0001-01-01T00:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z",
    }  # fmt: skip
    assert shown["GraphDriver"]["Data"]["LowerDir"] == "/layers/top:/layers/base"
    assert shown["LogPath"].endswith(f"/{container.id}/{container.id}-json.log")
    assert (shown["SizeRw"], shown["SizeRootFs"], shown["ExecIDs"]) == (7, 1007, None)
    assert "SizeRw" not in await inspect(engine, container.id[:12])


async def test_pause(engine: Engine) -> None:
    container = await run(engine, "c")
    with pytest.raises(Internal, match=f"Container {container.id} is not paused"):
        await unpause(engine, "c")
    await pause(engine, "c")
    assert container.state.status == "paused"
    with pytest.raises(Conflict, match=f"Container {container.id} is already paused"):
        await pause(engine, "c")
    await unpause(engine, "c")
    assert container.state.status == "running"
    await add(engine, "other")
    with pytest.raises(Conflict, match="is not running"):
        await pause(engine, "other")
    with pytest.raises(Conflict, match="is not running"):
        await resize(engine, "other", 1, 1)


@pytest.mark.parametrize(
    ("name", "class_", "text"),
    [
        ("", InvalidParameter, "Neither old nor new names may be empty"),
        ("one", InvalidParameter, "Renaming a container with the same name as its current name"),
        ("a/b", InvalidParameter, "Error when allocating new name: Invalid container name (/a/b), only"),
        ("two", Conflict, 'Error when allocating new name: Conflict. The container name "/two" is already in use by container'),
    ],
)
async def test_names_that_are_refused(engine: Engine, name: str, class_: type[EngineError], text: str) -> None:
    await add(engine, "one")
    await add(engine, "two")
    with pytest.raises(class_) as refusal:
        await rename(engine, "one", name)
    assert str(refusal.value).startswith(text)


async def test_rename(engine: Engine) -> None:
    container = await add(engine, "one")
    events = engine.events.subscribe()
    await rename(engine, "one", "/two")
    assert engine.containers.find("two") is container
    with pytest.raises(NotFound):
        engine.containers.find("one")
    attributes = (await anext(events))["Actor"]["Attributes"]
    assert (attributes["name"], attributes["oldName"]) == ("two", "/one")


async def test_top(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    container = await run(engine, "c")

    async def pids(id: str) -> list[int]:
        return [os.getpid()]

    monkeypatch.setattr(engine.runtime, "pids", pids)
    shown = await top(engine, "c")
    assert shown["Titles"] == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert shown["Processes"][0][1] == str(os.getpid())
    custom = await top(engine, "c", "-o pid,args")
    assert custom["Titles"] == ["PID", "COMMAND"] and len(custom["Processes"]) == 1
    with pytest.raises(Internal, match=r"^ps: "):
        await top(engine, "c", "-Z;nope")
    with pytest.raises(Internal, match='specifying "user=PID" is not allowed'):
        await top(engine, "c", "-o user=PID")
    await engine.containers.update(container, state=container.state.to("exited"))
    with pytest.raises(Conflict, match=f"container {container.id} is not running"):
        await top(engine, "c")


async def test_prune(engine: Engine) -> None:
    await add(engine, "kept", Labels={"keep": ""})
    gone = await add(engine, "gone")
    await run(engine, "running")
    assert await prune(engine, {"until": ["1000h"], "label!": ["keep"]}) == {"ContainersDeleted": None, "SpaceReclaimed": 0}
    assert await prune(engine, {"label!": ["keep"]}) == {"ContainersDeleted": [gone.id], "SpaceReclaimed": 7}
    assert {item.name for item in engine.containers.all()} == {"kept", "running"}
    with pytest.raises(InvalidParameter, match="invalid filter 'foo'"):
        await prune(engine, {"foo": ["x"]})


async def test_logs(engine: Engine) -> None:
    container = await run(engine, "c", "sh", "-c", "echo one; sleep 0.2; echo two >&2")
    follow = await logs.open(engine, "c", LogQuery(follow=True))
    received = b"".join([chunk async for chunk in follow.frames])
    assert received == pack(">BxxxL", 1, 4) + b"one\n" + pack(">BxxxL", 2, 4) + b"two\n"
    await engine.containers.update(container, state=container.state.to("exited"))
    again = await logs.open(engine, "c", LogQuery(follow=True, stdout=False))
    assert b"".join([chunk async for chunk in again.frames]) == pack(">BxxxL", 2, 4) + b"two\n"
    with pytest.raises(InvalidParameter, match="Bad parameters: you must choose at least one stream"):
        await logs.open(engine, "c", LogQuery(stdout=False, stderr=False))
    await add(engine, "silent", host={"LogConfig": {"Type": "none"}})
    with pytest.raises(NotImplementedHere, match="configured logging driver does not support reading"):
        await logs.open(engine, "silent", LogQuery())


async def test_volumes(engine: Engine) -> None:
    events = engine.events.subscribe({"type": ["volume"]})
    made = await volumes.create(engine, VolumeCreate(Name="vol", Labels={"a": "1"}))
    assert await volumes.create(engine, VolumeCreate(Name="vol")) == made
    anonymous = await volumes.create(engine, VolumeCreate())
    assert made["Options"] is None and anonymous["Labels"] == {"com.docker.volume.anonymous": ""}
    user = await add(engine, "c", mounts=(MountPoint("volume", made["Mountpoint"], "/v", "vol", "local"),))
    with pytest.raises(Conflict) as refusal:
        await volumes.remove(engine, "vol", force=True)
    assert str(refusal.value) == f"remove vol: volume is in use - [{user.id}]"
    dangling = volumes.list_volumes(engine, {"dangling": ["true"]})["Volumes"]
    assert [volume["Name"] for volume in dangling] == [anonymous["Name"]]
    assert [volume["Name"] for volume in volumes.list_volumes(engine, {"label": ["a=1"], "name": ["vo"]})["Volumes"]] == ["vol"]
    assert await volumes.prune(engine, {}) == {"VolumesDeleted": [anonymous["Name"]], "SpaceReclaimed": 0}
    await engine.containers.erase(user)
    engine.containers.forget(user)
    assert (await volumes.prune(engine, {}))["VolumesDeleted"] == []
    assert (await volumes.prune(engine, {"all": ["true"]}))["VolumesDeleted"] == ["vol"]
    await volumes.remove(engine, "vol", force=True)
    with pytest.raises(NotFound, match="get vol: no such volume"):
        await volumes.remove(engine, "vol", force=False)
    actions = [(await anext(events))["Action"] for _ in range(6)]
    assert actions == ["create", "create", "destroy", "prune", "prune", "destroy"]
