import asyncio
import json
import os
import socket

import pytest

from compat_engine.runtime.connection import Connection, Message, pair


async def test_messages_wait_for_a_slow_reader_and_keep_their_order() -> None:
    ours, theirs = pair()
    connection = Connection(ours, lambda message: None, lambda: None)
    theirs.setblocking(False)
    sending = asyncio.gather(*(connection.send({"op": "x", "n": n, "pad": "." * 10_000}) for n in range(100)))
    await asyncio.sleep(0.01)
    assert not sending.done()
    loop = asyncio.get_running_loop()
    numbers: list[int] = []
    while len(numbers) < 100:
        numbers.append(json.loads(await loop.sock_recv(theirs, 20_000))["n"])
    await sending
    assert numbers == list(range(100))
    connection.close()
    theirs.close()


async def test_a_sender_learns_that_the_peer_has_gone() -> None:
    ours, theirs = pair()
    closed = asyncio.Event()
    connection = Connection(ours, lambda message: None, closed.set)
    sending = asyncio.gather(*(connection.send({"pad": "." * 50_000}) for _ in range(10)), return_exceptions=True)
    await asyncio.sleep(0.01)
    theirs.close()
    assert BrokenPipeError in {type(result) for result in await asyncio.wait_for(sending, 60)}
    await asyncio.wait_for(closed.wait(), 60)
    with pytest.raises(BrokenPipeError):
        await connection.send({})


async def test_messages_come_whole_and_descriptors_go_along() -> None:
    ours, theirs = pair()
    received: asyncio.Queue[Message] = asyncio.Queue()
    closed = asyncio.Event()
    connection = Connection(ours, received.put_nowait, closed.set)
    for n in range(3):
        theirs.send(json.dumps({"op": "x", "n": n}).encode())
    assert [(await received.get())["n"] for _ in range(3)] == [0, 1, 2]
    await connection.send({"op": "fd"}, [theirs.fileno()])
    data, fds, _, _ = socket.recv_fds(theirs, 100, 4)
    assert json.loads(data) == {"op": "fd"} and len(fds) == 1
    os.close(fds[0])
    theirs.close()
    await asyncio.wait_for(closed.wait(), 60)
    assert not connection.open
