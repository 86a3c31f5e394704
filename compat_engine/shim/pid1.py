"""--init: our PID 1 inside the container, which runs the real process as its child, passes signals on and reaps."""

import os
import signal
from contextlib import suppress
from typing import NoReturn

from compat_engine.kernel.process import reset_signals, set_dumpable, set_title
from compat_engine.shim import channel

# nothing to pass on: ours, or raised by our own doing
_KEPT = {signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU}
_FAULTS = {signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}


def run_as_pid1(path: str, args: tuple[str, ...], env: list[str], tty: bool, sync: channel.Socket) -> NoReturn:
    """Never returns; exits with the child's status, 128 + signal when it was killed."""
    from compat_engine.shim.execute import replace  # here, for each needs the other; both are loaded long before

    watched = signal.valid_signals() - _FAULTS
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)  # a blocked signal is kept even for a PID 1, and waits for us
    child = os.fork()
    if child == 0:
        _lead_group(tty)
        reset_signals()
        replace(path, args, env)
    sync.close()
    set_dumpable(False)  # we are the host's Python in a container: no one may look inside
    set_title("docker-init", ("/sbin/docker-init", "--", *args))
    while True:
        received = signal.sigwaitinfo(watched)
        if received.si_signo == signal.SIGCHLD:
            _reap(child)
        elif received.si_signo not in _KEPT:
            _pass_on(child, received.si_signo)


def _lead_group(tty: bool) -> None:
    os.setpgid(0, 0)
    if tty:
        os.tcsetpgrp(0, os.getpgrp())  # SIGTTOU is blocked still


def _pass_on(child: int, number: int) -> None:
    with suppress(ProcessLookupError):  # ended; SIGCHLD is on its way
        os.kill(child, number)


def _reap(child: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
