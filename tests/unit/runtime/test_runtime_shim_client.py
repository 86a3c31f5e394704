"""The daemon's end of a shim: what it does when the other end goes at a bad moment."""

import asyncio
import socket
from pathlib import Path

from compat_engine.runtime.cgroups.group import Group
from compat_engine.runtime.protocol import ExecExit, Exit
from compat_engine.runtime.shim_client import Shim
from compat_engine.shim import channel, protocol


class Cgroup(Group):
    """Directories that go when told to."""

    main = ""
    usage = update = oom_kills = _freeze = _frozen = None  # type: ignore[assignment]

    async def destroy(self) -> None:
        for directory in self.directories:
            Path(directory).rmdir()


async def test_a_shim_that_dies_after_it_told_of_the_exit_leaves_no_cgroup(tmp_path: Path) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.mkdir()
    exits: list[Exit | ExecExit] = []
    left: list[Shim] = []
    shim = Shim("c", tmp_path, Cgroup((str(cgroup),)), exits.append, left.append)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    shim.converse(ours)
    for message in ({"op": protocol.STARTED, "time": "now"}, {"op": protocol.EXITED, "code": 3, "oom": False, "time": "then"}):
        theirs.send(channel.encode(message).encode())
    theirs.close()
    async with asyncio.timeout(5):
        await shim.gone.wait()
    assert exits == [Exit("c", 3, False, "then")] and left == [shim] and not cgroup.exists()
