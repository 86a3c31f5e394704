"""Output for clients that do not read."""

import os
import socket
from collections.abc import Callable

import pytest

from compat_engine.shim import attachment, channel
from compat_engine.shim.loop import Loop
from compat_engine.shim.protocol import ATTACH_BUFFER
from compat_engine.shim.stdio import STDOUT, Stdio

CHUNK = bytes(1 << 16)


class Writer:
    """A process's end of its stdout, and a client that has not read yet."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.stdio = Stdio(self.loop, True, False)
        reader, self.fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.stdio.add_output(reader, STDOUT)
        self.client, theirs = socket.socketpair()
        self.stdio.attach(attachment.Attachment(self.loop, channel.adopt(theirs.detach()), {}))

    def fill(self) -> int:
        """Write until the process would be held back; how much that is."""
        written = 0
        idle = 0
        while idle < 5:
            try:
                written += os.write(self.fd, CHUNK)
                idle = 0
            except BlockingIOError:
                idle += 1
            self.turn(0.05)
        return written

    def turn(self, seconds: float) -> None:
        self.loop.stopped = False
        self.loop.after(seconds, self.loop.stop)
        self.loop.run()

    def until(self, done: Callable[[], object]) -> None:
        while not done():
            self.turn(0.01)

    def read_all(self) -> int:
        self.client.setblocking(False)
        count = 0
        while True:
            try:
                data = self.client.recv(1 << 20)
            except BlockingIOError:
                self.turn(0.001)
                continue
            if not data:
                return count
            count += len(data)


@pytest.mark.parametrize("reads", [True, False])
def test_a_client_that_does_not_read_holds_the_process_but_not_its_end(monkeypatch: pytest.MonkeyPatch, reads: bool) -> None:
    monkeypatch.setattr(attachment, "STALL_SECONDS", 3600 if reads else 0.2)
    writer = Writer()
    written = writer.fill()
    assert ATTACH_BUFFER <= written < 2 * ATTACH_BUFFER
    writer.turn(0.5)
    assert writer.stdio.attached  # however long it takes, as long as the process runs
    os.close(writer.fd)
    ended: list[bool] = []
    writer.stdio.drain(lambda: ended.append(True))
    writer.until(lambda: ended)
    if reads:
        assert writer.read_all() == written
    writer.until(lambda: not writer.stdio.attached)
    writer.client.close()
