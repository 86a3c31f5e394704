"""The container's first process from fork to execve. One straight script: its order is the design."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from compat_engine.kernel import namespaces as ns
from compat_engine.kernel.process import close_others, set_dumpable
from compat_engine.shim import cgroups, channel, files, protocol, rootfs
from compat_engine.shim.console import open_console
from compat_engine.shim.execute import execute, fail, read_program, rehearse
from compat_engine.shim.failure import IN_INIT, Failure, reason, step
from compat_engine.shim.spec import REHEARSAL, Spec

_FLAGS = {"mnt": ns.CLONE_NEWNS, "uts": ns.CLONE_NEWUTS, "ipc": ns.CLONE_NEWIPC, "net": ns.CLONE_NEWNET}
_OF_INTERFACES = ("net.ipv4.conf.", "net.ipv6.conf.", "net.ipv4.neigh.", "net.ipv6.neigh.")


def run(sync: channel.Socket) -> NoReturn:
    """Called in the forked child; its shim is the other end of `sync`.

    From there come begin, stdio, cgroups and go; (created, console), executing or failed go back. On v2 we were born in the
    cgroup.
    """
    _run(sync, lambda: None)


def run_spare(sync: channel.Socket) -> NoReturn:
    """The same before there is a container for it."""
    _run(sync, _rehearse)


def _run(sync: channel.Socket, meanwhile: Callable[[], None]) -> NoReturn:
    try:
        os.setsid()
        set_dumpable(False)  # until execve we are the host's Python with the host's privileges
        close_others((sync.fileno(),))
        meanwhile()
        received = channel.receive(sync)
        if received is None:
            os._exit(0)  # no container came
        message, _ = received
        _start(Spec.load(files.read(message["spec"]).decode()), message["rootfs"], sync)
    except BaseException as error:  # the last line of defence of a forked child: it must leave here
        fail(sync, error)


def _rehearse() -> None:
    """A forked process copies each page of memory before it first writes to it, and Python writes to all it looks at: half of
    a start is that. Here, while we wait, what can be done without a trace; at execve that memory is gone."""
    spec = Spec.load(REHEARSAL)
    _enter_namespaces(spec)
    with suppress(OSError, Failure):
        rootfs.rehearse()
    with suppress(OSError, Failure):
        rehearse(spec.process)


def _start(spec: Spec, point: str, sync: channel.Socket) -> NoReturn:
    program = read_program(spec.process.seccomp)
    shim = _Shim(spec, sync)
    _enter_namespaces(spec)
    if spec.namespaces.net == "new":
        channel.send(sync, {"op": protocol.CREATED})
    try:
        _finish(spec, point, program, shim)
    except BaseException:
        shim.wait_for_go()  # a failure of the container's own comes after its network, always
        raise


def _finish(spec: Spec, point: str, program: bytes, shim: "_Shim") -> NoReturn:
    """Everything up to execve, and only then wait for go: the daemon is busy with the network meanwhile, or not called yet."""
    root = rootfs.mount_root(spec.rootfs, point, spec.rootfs_propagation)
    rootfs.mount_all(root, spec, shim)
    rootfs.make_cwd(root, spec.process.cwd)
    shim.ready()
    if any(name.startswith(_OF_INTERFACES) for name, _ in spec.sysctls):
        shim.wait_for_go()  # the daemon makes them
    _set_names(spec)
    _set_sysctls(spec)
    rootfs.protect(root, spec)  # after the sysctls: /proc/sys is read-only from here on
    rootfs.enter(root)
    if spec.process.tty:
        open_console(spec.process, shim.sync, bind=True)
    execute(spec.process, program, shim.sync, shim.wait_for_go)


class _Shim(rootfs.CgroupNamespace):
    """The other end of `sync`, as far as init waits for it."""

    def __init__(self, spec: Spec, sync: channel.Socket) -> None:
        self._spec, self.sync = spec, sync
        self._due = [protocol.STDIO, protocol.CGROUPS, protocol.GO]

    def ready(self) -> None:
        """Join the cgroups once the shim has made them, then take them as the roots of our cgroup namespace."""
        if protocol.CGROUPS in self._due:
            self._hear(protocol.CGROUPS)
            cgroups.join([item.path for item in self._spec.cgroups])
            _enter_one(self._spec.namespaces.cgroup, "cgroup", ns.CLONE_NEWCGROUP)

    def wait_for_go(self) -> None:
        self._hear(protocol.GO)

    def _hear(self, op: str) -> None:
        """Up to `op`, unless it was heard before: each comes once, and in this order."""
        while op in self._due:
            received = channel.receive(self.sync)
            if received is None:
                os._exit(1)  # the shim is gone, and with it the reason to go on
            self._due.pop(0)
            for number, fd in enumerate(received[1]):
                os.dup2(fd, number)
                os.close(fd)


def _enter_namespaces(spec: Spec) -> None:
    wanted = {name: getattr(spec.namespaces, name) for name in _FLAGS}
    for name, how in wanted.items():  # joins first: their paths are the host's
        if how != "new":
            _enter_one(how, name, _FLAGS[name])
    with step("namespaces", f"{IN_INIT}unable to create new namespaces"):
        ns.unshare(sum(_FLAGS[name] for name, how in wanted.items() if how == "new"))


def _enter_one(how: str, name: str, flag: int) -> None:
    if how == "host":
        return
    with step("namespaces", f"{IN_INIT}unable to enter the {name} namespace {how}"):
        if how == "new":
            ns.unshare(flag)
        else:
            ns.join(how, flag)


def _set_names(spec: Spec) -> None:
    if spec.namespaces.uts != "new":
        return
    with step("hostname", f"{IN_INIT}sethostname"):
        if spec.hostname:
            ns.sethostname(spec.hostname)
        if spec.domainname:
            ns.setdomainname(spec.domainname)


def _set_sysctls(spec: Spec) -> None:
    for name, value in spec.sysctls:
        path = "/proc/sys/" + name.replace(".", "/")
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Failure(error.errno or 0, "sysctl", f"{IN_INIT}open {path}: {reason(error)}") from error
        try:
            os.write(fd, value.encode())
        except OSError as error:
            raise Failure(error.errno or 0, "sysctl", f"{IN_INIT}write {path}: {reason(error)}") from error
        finally:
            os.close(fd)
