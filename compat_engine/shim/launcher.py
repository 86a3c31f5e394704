"""The zygote: a small process from which shims are forked, so that a container costs a fork and no interpreter start.

One shim is always there before it is wanted: it waits for the next `run` in the launcher's place, and once it has one the
launcher forks its successor. So the fork, and the copying of memory that a shim writes to, are over when a container comes.

Started by the daemon before its heavy imports as `python -I -S -c "...; main(FD)"`, FD one end of a SEQPACKET pair. Imports
all that shim and init will need: nothing is imported after a fork, the files are another root's by then.
"""

import gc
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import NoReturn

from compat_engine.kernel import caps, mounts
from compat_engine.kernel.libc import keep_freed_memory
from compat_engine.kernel.process import find_title
from compat_engine.shim import cgroupfs, channel, protocol
from compat_engine.shim.monitor import Shim, become_shim
from compat_engine.shim.monitor import main as shim_main

_TAKEN, _CLOSED = b"t", b"c"  # what a spare shim says: it has a container; the daemon has closed its end
_REST = 0.02  # seconds from a start to the fork of the next spare: a short command is over by then, its client too
_DONE = "COMPAT_ENGINE_READ_ONLY"  # in the environment of a launcher that runs from its mount
_PAUSE = 0.1  # seconds, after a spare that died without a word

_launcher = 0


def main(fd: int) -> NoReturn:
    """Keep a shim for the next `run`; leave when the daemon closes its end. Never answers."""
    _run_read_only(fd)
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
    while (said := _spare(daemon)) != _CLOSED:
        if said != _TAKEN:
            time.sleep(_PAUSE)
    os._exit(0)


def _run_read_only(fd: int) -> None:
    """Go on from a read-only mount of the interpreter. Between setns and execve, and with --init for good, a process of ours
    runs inside a container, whose root could otherwise open /proc/PID/exe and write to the host's python through it."""
    if os.environ.get(_DONE):  # not the mount itself is asked: the host's may be read-only too, and not for long
        return
    own = mounts.open_tree("/proc/self/exe", recursive=False)  # in no namespace: nobody gets at it to change that
    mounts.mount_setattr(own, mounts.MOUNT_ATTR_RDONLY)
    os.set_inheritable(fd, True)
    os.execve(own, [sys.executable, *sys.orig_argv[1:]], {**os.environ, _DONE: "1"})


def _reap(number: int, frame: object) -> None:
    """The launcher's shims. They inherit the handler, which spares each the memory of setting one, and reap elsewhere."""
    with suppress(ChildProcessError):
        while os.getpid() == _launcher and os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _warm_up() -> None:
    """Codecs and the like that the library loads at first use; what of the host no start need find out again."""
    os.waitstatus_to_exitcode(0)
    "x".encode("ascii", "replace")
    b"\xff".decode("utf-8", "backslashreplace")
    caps.bounding()
    cgroupfs.hierarchies()


def _spare(daemon: channel.Socket) -> bytes:
    """Fork a shim and wait until it is one no more. What it said: _TAKEN, _CLOSED, nothing when it was killed."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        os.close(reader)
        _wait_for_run(daemon, writer)
    os.close(writer)
    try:
        if (said := os.read(reader, 1)) == _TAKEN:
            _wait_for_either(reader, daemon.fileno())
        return said
    finally:
        os.close(reader)


def _wait_for_either(started: int, wanted: int) -> None:
    """The processors are the new container's until a moment after it has started, unless the next one is wanted before that."""
    poll = select.poll()
    poll.register(started, 0)  # its end is always reported
    poll.register(wanted, select.POLLIN)
    if any(fd == started for fd, _ in poll.poll()):
        poll.unregister(started)
        poll.poll(_REST * 1000)


def _wait_for_run(daemon: channel.Socket, launcher: int) -> NoReturn:
    """In the forked shim. launcher: the pipe to tell it."""
    become_shim()
    shim = Shim()
    while (received := channel.receive(daemon)) is not None:
        message, fds = received
        if message.get("op") == protocol.RUN and fds:
            _tell(launcher, _TAKEN)
            daemon.close()
            shim_main(shim, message["bundle"], channel.adopt(fds[0]), launcher)
        for item in fds:
            os.close(item)
    _tell(launcher, _CLOSED)
    os._exit(0)


def _tell(launcher: int, what: bytes) -> None:
    """One that has been killed need not know: what was taken is run all the same."""
    with suppress(BrokenPipeError):
        os.write(launcher, what)
