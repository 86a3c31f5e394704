"""The shim: keeps one container. It owns the stdio, writes the log, starts execs, records the exit, and outlives the daemon."""

import errno
import os
import signal
from contextlib import suppress
from typing import NoReturn

from compat_engine.kernel import namespaces as ns
from compat_engine.kernel.process import set_subreaper, set_title
from compat_engine.shim import cgroupfs, cgroups, channel, clock, init, join, protocol
from compat_engine.shim.attachment import Attachment
from compat_engine.shim.bundle import Bundle
from compat_engine.shim.child import Child, Forked, Script, Watcher
from compat_engine.shim.connections import Connections
from compat_engine.shim.failure import Failure, place, reason, step, unexpected
from compat_engine.shim.filelog import open_log
from compat_engine.shim.loop import Loop
from compat_engine.shim.plan import Plan, Stream
from compat_engine.shim.spec import REHEARSAL
from compat_engine.shim.stdio import Log, NoLog
from compat_engine.shim.watches import Watches

_EXECS_SECONDS = 5.0  # how long the ends of execs are awaited after the container's
_CRASHED = 255


def become_shim() -> None:
    """In a process just forked by the launcher: leave what was the launcher's."""
    os.setsid()
    os.chdir("/")
    set_subreaper()  # the orphans of a container in the host's pid namespace come to us, not to the host's PID 1
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)  # the daemon's terminal or pipe is not ours to hold
    os.close(null)


def main(shim: "Shim", path: str, control: channel.Socket, starting: int) -> NoReturn:
    """The life of a shim with its container. path: the bundle. starting: a descriptor to close when the start is over."""
    bundle = Bundle(path)
    try:
        shim.begin(bundle, control, starting)
        shim.loop.run()
    except BaseException as error:  # a bug of ours must not leave a container nobody keeps
        bundle.report(f"{type(error).__name__}: {error} ({place(error)})")
        shim.crash()
    finally:
        os._exit(0)


class Shim(Watcher):
    """Made before there is a container for it; `begin` gives it one."""

    def __init__(self) -> None:
        self.loop = Loop()
        self._connections = Connections(self.loop, self._received, self._lost, self._report)
        self._watches = Watches(self.loop)
        self._execs: dict[str, Child] = {}
        self._children: dict[int, Child] = {}  # by pid, until reaped
        self._bundle: Bundle
        self._control: channel.Socket
        self._starting: int
        self._plan: Plan
        self._main: Child
        self._started_at = ""
        self._exit: dict[str, object] = {}
        self._going = False  # the daemon said go: from here on the start does not need it
        self._drained = False
        self._left = False
        self._handlers = {
            protocol.GO: self._on_go,
            protocol.SIGNAL: self._on_signal,
            protocol.RESIZE: self._on_resize,
            protocol.ATTACH: self._on_attach,
            protocol.WATCH: self._on_watch,
            protocol.EXEC: self._on_exec,
            protocol.HELLO: self._on_hello,
        }
        self._watch_children()
        self._new_pids = _unshare_pids()
        self._spare = _spare_init() if self._new_pids else None
        with suppress(OSError):
            self._rehearse()

    # the start

    def _rehearse(self) -> None:
        """What of a start leaves no trace, for the memory that has to be copied for it (init.py): every shim needs these pages,
        and none besides."""
        ours, theirs = channel.pair()
        channel.send(ours, {"op": protocol.RUN}, [ours.fileno()])
        _, fds = channel.receive(theirs) or ({}, [])
        plan = Plan.load(REHEARSAL.encode())
        cgroups.birthplace(plan.directories)
        stdio, kept = Child(self.loop, "", plan.stream, self).open_stdio()
        for fd in (*fds, *stdio, *kept):
            os.close(fd)
        ours.close()
        theirs.close()

    def begin(self, bundle: Bundle, control: channel.Socket, starting: int) -> None:
        """Up to a forked init; a failure is told to the daemon and undone."""
        self._bundle, self._control, self._starting = bundle, control, starting
        self._connections.add(control)
        try:
            with step("bundle", "unable to prepare the bundle"):
                self._bundle.prepare()
            if self._spare is not None:
                self._tell_to_begin(self._spare)  # it has more to do than we
            set_title("ce-shim", ("compat-engine-shim", bundle.path))
            self._plan = Plan.load(self._bundle.plan())
            self._begin_container()
        except (Failure, OSError, ValueError, KeyError, TypeError) as error:
            self._abandon(unexpected(error))

    def _begin_container(self) -> None:
        forked = self._fork_init()
        self._main = Child(self.loop, "", self._plan.stream, self)
        self._main.adopt(forked)
        self._children[forked.pid] = self._main
        if self._plan.net_namespace != "new":
            self._created()
        try:  # all this while init is at work already
            cgroups.make(self._plan.cgroups)
            self._main.tell(protocol.CGROUPS)
            with step("log", "failed to initialize logging driver"):
                self._main.stdio.record(self._open_log(), self._watches.notify)
        except Failure as failure:
            self._main.kill(failure)
        self._listen()

    def _tell_to_begin(self, forked: Forked) -> None:
        with step(protocol.SHIM, "init has ended before it was told to begin"):
            forked.begin({"op": protocol.BEGIN, "spec": self._bundle.spec_path, "rootfs": self._bundle.rootfs})

    def _fork_init(self) -> Forked:
        """One that has begun: the spare, where it can be what the plan wants."""
        cgroup = cgroups.birthplace(self._plan.directories)
        try:
            spare, self._spare = self._spare, None
            if spare is not None:
                if cgroup < 0 and self._plan.pid_namespace == "new":
                    return spare
                self._drop_spare(spare)
            self._enter_pid_namespace(self._plan.pid_namespace)
            with step("fork", "unable to start the container's init"):
                forked = Forked(init.run, cgroup)
            self._tell_to_begin(forked)
            return forked
        finally:
            if cgroup >= 0:
                os.close(cgroup)

    def _drop_spare(self, spare: Forked) -> None:
        """The pid namespace it was the first in ends with it."""
        spare.end()
        self._new_pids = False
        with step("namespaces", "unable to leave the pid namespace"):
            ns.join("/proc/self/ns/pid", ns.CLONE_NEWPID)

    def _enter_pid_namespace(self, how: str) -> None:
        """Children forked from here on are born in it, execs too; the shim itself stays outside."""
        with step("namespaces", f"unable to enter the pid namespace {how}"):
            if how != "new":
                ns.join("/proc/self/ns/pid" if how == "host" else how, ns.CLONE_NEWPID)
            elif not self._new_pids:
                ns.unshare(ns.CLONE_NEWPID)

    def _listen(self) -> None:
        try:
            self._connections.listen(self._bundle.listen())
        except OSError as error:
            self._main.kill(Failure(error.errno or 0, "bundle", f"unable to listen in the bundle: {reason(error)}"))

    def _fork(self, child: Child, script: Script, cgroup: int) -> None:
        try:
            child.fork(script, cgroup)
        finally:
            if cgroup >= 0:
                os.close(cgroup)
        self._children[child.pid] = child

    def _open_log(self) -> Log:
        return NoLog() if self._plan.log.driver == "none" else open_log(self._plan.log, self._bundle.report)

    def on_message(self, child: Child, message: channel.Message) -> None:
        """init has its namespaces."""
        if message["op"] == protocol.CREATED:
            self._created()

    def _created(self) -> None:
        """The daemon may fill the network namespace, if that is for it to do."""
        self._bundle.write_pid(self._main.pid)
        self._connections.broadcast({"op": protocol.CREATED, "pid": self._main.pid})

    def on_started(self, child: Child) -> None:
        if child is self._main:
            self._started_at = clock.now()
            self._bundle.write_started()  # first: whoever has heard of the start finds it written
            self._connections.broadcast({"op": protocol.STARTED, "time": self._started_at})
            os.close(self._starting)
        else:
            self._connections.broadcast({"op": protocol.EXEC_STARTED, "id": child.id, "pid": child.pid})

    def on_failed(self, child: Child, failure: Failure) -> None:
        child.stdio.drain(lambda: self._failed(child, failure))

    def _failed(self, child: Child, failure: Failure) -> None:
        child.close()
        if child is self._main:
            self._abandon(failure)
        else:
            self._execs.pop(child.id, None)
            self._connections.broadcast({**failure.message(), "op": protocol.EXEC_FAILED, "id": child.id})
            self._leave_if_done()

    def _abandon(self, failure: Failure) -> None:
        """Nothing of a failed start is left when the daemon hears of it."""
        if self._spare is not None:
            self._spare.end()
        self._clean()
        self._connections.broadcast(failure.message())
        self._depart()

    # the end

    def _watch_children(self) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.loop.add(reader, 1, lambda events: self._reap(reader))

    def _reap(self, reader: int) -> None:
        """Ours by pid, and the orphans that came to us as their subreaper."""
        os.read(reader, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self._children.pop(pid, None)
            if child is not None:
                child.ended(status)

    def on_exit(self, child: Child) -> None:
        if child is self._main:
            self._exit = {"code": child.code, "oom": cgroups.oom_killed(self._plan.directories), "time": clock.now()}
            if self._plan.pid_namespace != "new":
                cgroups.kill_all(self._plan.directories)  # with a pid namespace of its own the kernel has done that
            self.loop.after(_EXECS_SECONDS, self._forget_execs)
        child.stdio.drain(lambda: self._ended(child))

    def _ended(self, child: Child) -> None:
        """Its output has been read to the end."""
        child.close()
        if child is self._main:
            self._drained = True
        else:
            self._execs.pop(child.id, None)
            self._connections.broadcast({"op": protocol.EXEC_EXITED, "id": child.id, "code": child.code})
        self._leave_if_done()

    def _forget_execs(self) -> None:
        self._execs.clear()
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if not self._drained or self._execs or self._left:
            return
        self._bundle.write_exit(self._exit)
        self._connections.broadcast({"op": protocol.EXITED, **self._exit})
        self._clean()
        self._depart()

    def _clean(self) -> None:
        """The cgroups and our files; what will not go is reported."""
        if hasattr(self, "_plan"):
            for left in cgroups.remove(self._plan.directories):
                self._bundle.report(f"cgroup left: {left}")
        self._bundle.clear()

    def _depart(self) -> None:
        """Leave, once the clients that still read have read all."""
        self._left = True
        self._watches.close()
        if not self._lingering():
            self.loop.stop()
        else:
            self.loop.after(0.1, self._depart)

    def _lingering(self) -> bool:
        return hasattr(self, "_main") and self._main.stdio.attached

    def crash(self) -> None:
        """After a bug of ours: no container without its keeper."""
        if not hasattr(self, "_main") or self._main.pid == 0:
            return
        self._main.signal(signal.SIGKILL)
        cgroups.kill_all(self._plan.directories)
        record = self._exit or {"code": _CRASHED, "oom": False, "time": clock.now()}
        self._bundle.write_exit(record)
        self._clean()
        self._connections.broadcast({"op": protocol.EXITED, **record})

    # the daemon's messages

    def _report(self, text: str) -> None:
        self._bundle.report(text)

    def _received(self, sock: channel.Socket, message: channel.Message, fds: list[int]) -> None:
        handler = self._handlers.get(message["op"])
        if handler is None:
            self._bundle.report(f"unknown message {message['op']!r}")
        else:
            handler(sock, message, fds)

    def _lost(self, sock: channel.Socket) -> None:
        """A daemon has gone. Before `go` the start goes with it; `_control` stays open until nothing is left of it."""
        if sock is not self._control:
            sock.close()
        elif not self._going and hasattr(self, "_main"):
            self._main.kill(Failure(0, "go", "the daemon has gone"))

    def _find(self, message: channel.Message) -> Child | None:
        return self._execs.get(message["exec"]) if message.get("exec") else self._main

    def _on_go(self, sock: channel.Socket, message: channel.Message, fds: list[int]) -> None:
        for wanted in message.get("attach") or ():
            self._main.stdio.attach(Attachment(self.loop, channel.adopt(fds.pop(0)), wanted))
        self._going = True
        self._main.tell(protocol.GO)

    def _on_signal(self, sock: channel.Socket, message: channel.Message, fds: list[int]) -> None:
        child = self._find(message)
        if child is not None:
            child.signal(int(message["signal"]))

    def _on_resize(self, sock: channel.Socket, message: channel.Message, fds: list[int]) -> None:
        child = self._find(message)
        if child is not None:
            child.resize(int(message["rows"]), int(message["columns"]))

    def _on_attach(self, sock: channel.Socket, message: channel.Message, fds: list[int]) -> None:
        child = self._find(message)
        client = channel.adopt(fds.pop())
        if child is None:
            client.close()
        else:
            child.stdio.attach(Attachment(self.loop, client, message))

    def _on_watch(self, sock: channel.Socket, message: channel.Message, fds: list[int]) -> None:
        self._watches.add(fds.pop())

    def _on_hello(self, sock: channel.Socket, message: channel.Message, fds: list[int]) -> None:
        if self._left and self._exit:
            self._connections.send(sock, {"op": protocol.EXITED, **self._exit})
            return
        execs = [{"id": child.id, "pid": child.pid} for child in self._execs.values() if child.started]
        state = {"pid": self._main.pid, "started": self._started_at, "execs": execs, "version": protocol.VERSION}
        self._connections.send(sock, {"op": protocol.STATE, **state})

    def _on_exec(self, sock: channel.Socket, message: channel.Message, fds: list[int]) -> None:
        raw = message["process"]
        child = Child(self.loop, message["id"], Stream.of(raw), self)
        if fds:
            child.stdio.attach(Attachment(self.loop, channel.adopt(fds.pop()), message.get("attach") or {}))
        try:
            if self._main.code >= 0 or not self._main.started:
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
            self._fork_exec(child, lambda stdio, sync: join.run(raw, self._main.pidfd, self._plan.directories, stdio, sync))
        except (OSError, Failure) as error:
            failure = _not_forked(error)
            child.stdio.drain(lambda: self._failed(child, failure))
        else:
            self._execs[child.id] = child

    def _fork_exec(self, child: Child, script: Script) -> None:
        try:
            self._fork(child, script, cgroups.birthplace(self._plan.directories))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            self._fork(child, script, cgroups.residence(self._plan.directories, self._main.pid))


def _not_forked(error: OSError | Failure) -> Failure:
    if isinstance(error, Failure):
        return error
    if error.errno in (errno.ENOMEM, errno.ESRCH):  # it, or its pid namespace, has just ended
        return Failure(error.errno, "fork", "container is not running")
    return Failure(error.errno or 0, "fork", f"unable to start the process: {reason(error)}")


def _unshare_pids() -> bool:
    """Whether the children to come have a pid namespace of their own; else it is tried again when a container wants one."""
    try:
        ns.unshare(ns.CLONE_NEWPID)
    except OSError:
        return False
    return True


def _spare_init() -> Forked | None:
    """Forked before it is wanted; not on v2, where it is born in the container's cgroup."""
    try:
        return Forked(init.run_spare) if cgroupfs.hierarchies() else None
    except OSError:  # no process to be had: then it is tried again when a container wants one
        return None
