import json
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from compat_engine.engine.clock import rfc3339nano
from compat_engine.engine.containers.list import ListOptions, command_text
from compat_engine.engine.containers.list import list as list_containers
from compat_engine.engine.containers.selection import port_range
from compat_engine.engine.parts import Engine
from compat_engine.engine.records import MountPoint
from compat_engine.engine.registry import Container
from compat_engine.errors import EngineError
from tests.support.parts import IMAGE, FewImages, add, make_engine

OTHER = "sha256:" + "c" * 64


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    async with make_engine(tmp_path) as engine:
        yield engine


async def entries(engine: Engine, **options: Any) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", json.loads(await list_containers(engine, ListOptions(**options))))


async def names(engine: Engine, **filters: Sequence[str]) -> list[str]:
    words = {key.replace("_", "-"): values for key, values in filters.items()}
    return [entry["Names"][0][1:] for entry in await entries(engine, all=True, filters=words)]


async def becomes(engine: Engine, container: Container, status: str, **changes: Any) -> None:
    times = {"started_at": rfc3339nano(), "finished_at": rfc3339nano()}
    await engine.containers.update(container, state=container.state.to(status, **{**times, **changes}))


async def some(engine: Engine) -> dict[str, Container]:
    """Four of them, old to new: a created, b running, c exited with 3, d paused."""
    images = cast(FewImages, engine.images)
    images.layers[OTHER] = ("one", "two")
    images.names["derived"] = OTHER
    volume = MountPoint("volume", "/v/_data", "/data", "vol", "local", "z")
    found = {
        "a": await add(engine, "a", created="2026-11-24T06:00:01Z", Labels={"k": "v"}, mounts=(volume,)),
        "b": await add(engine, "b", created="2026-11-24T06:00:02Z", ExposedPorts={"99/tcp": {}}),
        "c": await add(engine, "c", created="2026-11-24T06:00:03.5Z", image="derived"),
        "d": await add(engine, "d", created="2026-11-24T06:00:04Z", host={"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}),
    }
    await becomes(engine, found["b"], "running", pid=1)
    await becomes(engine, found["c"], "exited", exit_code=3)
    await becomes(engine, found["d"], "paused", pid=2)
    return found


async def test_an_entry(engine: Engine) -> None:
    mount = MountPoint("volume", "/v/_data", "/data", "vol", "local", "z")
    container = await add(engine, "web", ("sh", "-c", "echo \x01 hi"), mounts=(mount,), Labels={"a\x01": "é\x02"})
    (entry,) = await entries(engine, all=True)
    assert entry == {
        "Id": container.id,
        "Names": ["/web"],
        "Image": "busybox",
        "ImageID": IMAGE,
        "Command": "sh -c 'echo \x01 hi'",
        "Created": 1795502464,
        "Ports": [],
        "Labels": {"a\x01": "é\x02"},
        "State": "created",
        "Status": "Created",
        "HostConfig": {"NetworkMode": "none"},
        "NetworkSettings": {"Networks": {}},
        "Mounts": [
            {
                "Type": "volume", "Name": "vol", "Source": "", "Destination": "/data", "Driver": "local", "Mode": "z", "RW": True,
                "Propagation": "",
            }
        ],
    }  # fmt: skip
    (sized,) = await entries(engine, all=True, size=True)
    assert (sized["SizeRw"], sized["SizeRootFs"]) == (7, 1007)
    await becomes(engine, container, "running", pid=1)
    cast(FewImages, engine.images).names["busybox"] = OTHER  # the name went on to another image
    cast(FewImages, engine.images).layers[OTHER] = ()
    (entry,) = await entries(engine)
    assert (entry["State"], entry["Status"], entry["Image"]) == ("running", "Up Less than a second", IMAGE)


async def test_which_and_in_what_order(engine: Engine) -> None:
    await some(engine)
    assert [entry["Names"] for entry in await entries(engine)] == [["/d"], ["/b"]]
    assert len(await entries(engine, all=True)) == 4
    assert [entry["Names"] for entry in await entries(engine, limit=2)] == [["/d"], ["/c"]]
    assert len(await entries(engine, limit=-1)) == 2


async def test_filters(engine: Engine) -> None:
    found = await some(engine)
    assert await names(engine, status=["exited", "created"]) == ["c", "a"]
    assert await names(engine, exited=["3"]) == ["c"]
    assert await names(engine, exited=["0"]) == []
    assert await names(engine, before=["c"]) == ["b", "a"]
    assert await names(engine, since=["b"]) == ["d", "c"]
    assert await names(engine, since=["a"], before=["d"]) == ["c", "b"]
    assert await names(engine, label=["k=v"]) == ["a"]
    assert await names(engine, name=["^/?[ab]$"]) == ["b", "a"]
    assert await names(engine, id=[found["a"].id[:12]]) == ["a"]
    assert await names(engine, volume=["vol"]) == await names(engine, volume=["/data"]) == ["a"]
    assert await names(engine, ancestor=["derived"]) == ["c"]
    assert await names(engine, ancestor=["busybox"]) == ["d", "c", "b", "a"]
    assert await names(engine, ancestor=["nope"]) == []
    assert await names(engine, expose=["90-99"]) == ["b"]
    assert await names(engine, health=["none"]) == ["d", "c", "b", "a"]
    assert await names(engine, network=["nope"]) == []
    assert await names(engine, is_task=["true"]) == []
    assert await names(engine, is_task=["false"]) == ["d", "c", "b", "a"]


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("foo", "x", "invalid filter 'foo'"),
        ("status", "x", "invalid filter 'status=x'"),
        ("exited", "x", "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax"),
        ("before", "nope", "No such container: nope"),
        ("health", "x", "unrecognized filter value for health: x"),
        ("publish", "x", 'error while looking up for publish x: strconv.ParseUint: parsing "x": invalid syntax'),
        ("is-task", "x", "invalid filter 'is-task=[x]'"),
    ],
)
async def test_refusals_are_dockerd_s(engine: Engine, key: str, value: str, text: str) -> None:
    with pytest.raises(EngineError) as refusal:
        await list_containers(engine, ListOptions(filters={key: [value]}))
    assert str(refusal.value) == text


def test_texts() -> None:
    assert command_text(("sh",)) == "sh"
    assert command_text(("a b", "c d", "e")) == "a b 'c d' e"
    assert list(port_range("8000-8002/udp", "publish")) == ["8000/udp", "8001/udp", "8002/udp"]


async def test_an_entry_is_rendered_once(engine: Engine) -> None:
    for number in range(100):
        container = await add(engine, f"c{number}", Labels={"one": "1", "two": "2"})
        container.state = container.state.to("running", started_at="2026-11-24T06:00:03.5Z")
    taken = []
    for _ in range(6):
        begun = time.perf_counter()
        await list_containers(engine, ListOptions())
        taken.append(time.perf_counter() - begun)
    assert min(taken[1:]) < taken[0] / 2
