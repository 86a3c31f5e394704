"""The terminal of a process that has one: made inside the container's devpts, its master handed to the shim."""

import os

from compat_engine.kernel import mounts, tty
from compat_engine.shim import channel, protocol
from compat_engine.shim.failure import IN_INIT, step
from compat_engine.shim.spec import Process

_PTMX = "/dev/pts/ptmx"


def open_console(process: Process, sync: channel.Socket, bind: bool) -> None:
    """Make a pty the caller's controlling terminal and stdio. bind: put it on /dev/console too. Raises Failure."""
    with step("console", f"{IN_INIT}error creating the terminal"):
        master, slave, number = tty.open_pty(_PTMX)
        if process.console != (0, 0):
            tty.set_size(master, *process.console)
        if bind:
            _bind_console(number)
        channel.send(sync, {"op": protocol.CONSOLE}, [master])
        os.close(master)
        tty.set_controlling(slave)
        for fd in (0, 1, 2):
            os.dup2(slave, fd)
        os.close(slave)


def _bind_console(number: int) -> None:
    os.close(os.open("/dev/console", os.O_CREAT | os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC, 0o666))
    mounts.mount(f"/dev/pts/{number}", "/dev/console", None, mounts.MS_BIND)
