"""The zygote: a small process from which shims are forked, so that a container costs a fork and no interpreter start.

Started by the daemon before its heavy imports as `python -I -S -c "...; main(FD)"`, FD one end of a SEQPACKET pair. Imports
all that shim and init will need: nothing is imported after a fork, the files are another root's by then.
"""

import fcntl
import gc
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from compat_engine.kernel.libc import keep_freed_memory
from compat_engine.kernel.process import find_title
from compat_engine.shim import channel, protocol
from compat_engine.shim.monitor import main as shim_main

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL

_launcher = 0


def main(fd: int) -> NoReturn:
    """Fork a shim for each `run`; leave when the daemon closes its end. Never answers."""
    _run_from_memory(fd)
    if os.getsid(0) != os.getpid() and os.getpgrp() != os.getpid():
        os.setsid()  # a Ctrl-C on the daemon's terminal is not for us
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(
            number, signal.SIG_IGN
        )  # the shims inherit it: they leave when their containers have ended, at no one's wish
    signal.signal(signal.SIGCHLD, _reap)
    os.umask(0o022)
    global _launcher
    _launcher = os.getpid()
    find_title()
    keep_freed_memory()
    _warm_up()
    gc.collect()
    gc.freeze()
    gc.disable()
    daemon = channel.adopt(fd)
    os.set_inheritable(fd, False)
    daemon.setblocking(True)
    while (received := channel.receive(daemon)) is not None:
        _launch(daemon, *received)
    os._exit(0)


def _run_from_memory(fd: int) -> None:
    """Go on as a sealed copy of the interpreter. Between setns and execve, and with --init for good, a process of ours runs
    inside a container, whose root could otherwise open /proc/PID/exe and write to the host's python through it."""
    if os.readlink("/proc/self/exe").startswith("/memfd:"):
        return
    copy = os.memfd_create("compat-engine", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open("/proc/self/exe", "rb") as file:
        while os.sendfile(copy, file.fileno(), None, 1 << 24):
            pass
    fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _SEALS)
    os.set_inheritable(fd, True)
    os.execve(copy, [sys.executable, *sys.orig_argv[1:]], dict(os.environ))


def _reap(number: int, frame: object) -> None:
    """The launcher's shims. They inherit the handler, which spares each the memory of setting one, and reap elsewhere."""
    with suppress(ChildProcessError):
        while os.getpid() == _launcher and os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _warm_up() -> None:
    """Codecs and the like that the library loads at first use."""
    os.waitstatus_to_exitcode(0)
    "x".encode("ascii", "replace")
    b"\xff".decode("utf-8", "backslashreplace")


def _launch(daemon: channel.Socket, message: channel.Message, fds: list[int]) -> None:
    if message.get("op") == protocol.RUN and fds and os.fork() == 0:
        daemon.close()
        control, *rest = (channel.adopt(item) for item in fds)
        shim_main(message["bundle"], control, list(zip(rest, message.get("attach") or [], strict=True)))
    for item in fds:
        os.close(item)
