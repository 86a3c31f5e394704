"""An exec's process from fork to execve: a child of the shim that enters the running container."""

import os
from collections.abc import Sequence
from typing import Any, NoReturn

from compat_engine.kernel import namespaces as ns
from compat_engine.kernel.process import close_others, set_dumpable
from compat_engine.shim import cgroups, channel
from compat_engine.shim.console import open_console
from compat_engine.shim.execute import execute, fail, read_program
from compat_engine.shim.failure import step
from compat_engine.shim.spec import load_process

_NAMESPACES = ns.CLONE_NEWNS | ns.CLONE_NEWUTS | ns.CLONE_NEWIPC | ns.CLONE_NEWNET | ns.CLONE_NEWCGROUP


def run(
    raw: dict[str, Any], init: int, directories: Sequence[str], stdio: tuple[int, int, int], sync: channel.Socket
) -> NoReturn:
    """Called in the forked child. raw: the process as spec.dump_process made it. init: pidfd of the container's first
    process; our pid namespace is its already, by the shim's. directories: the container's cgroups, in the v2 one of which we
    were born. On `sync`: (console), executing or failed go to the shim."""
    try:
        os.setsid()
        set_dumpable(False)  # the container's processes see us from here on; they must not look inside
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        close_others((sync.fileno(), init))
        process = load_process(raw)
        program = read_program(process.seccomp)
        cgroups.join(directories)
        with step("namespaces", "unable to enter the container's namespaces"):
            ns.setns(init, _NAMESPACES)  # the mount namespace sets / and the working directory to the container's root
            os.close(init)
        if process.tty:
            open_console(process, sync, bind=False)
        execute(process, program, sync)
    except BaseException as error:  # the last line of defence of a forked child: it must leave here
        fail(sync, error)
