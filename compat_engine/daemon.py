"""Composition root: build the parts, recover, serve, stop."""

import asyncio
import fcntl
import gc
import logging
import os
import resource
import signal
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack

from aiohttp import web

from compat_engine import __version__
from compat_engine.api.app import make_dispatcher, make_runner
from compat_engine.config import Config, Settings
from compat_engine.engine import logconfig
from compat_engine.engine.containers.stop import end
from compat_engine.engine.events import Events
from compat_engine.engine.execs import Execs
from compat_engine.engine.monitor import Monitor
from compat_engine.engine.parts import Engine
from compat_engine.engine.recover import recover, resume
from compat_engine.engine.registry import Registry
from compat_engine.engine.reload import reload, set_level
from compat_engine.engine.standby import Standby
from compat_engine.errors import Conflict, InvalidParameter
from compat_engine.images.images import Images
from compat_engine.images.registry.registries import Registries
from compat_engine.kernel.libc import trim_memory
from compat_engine.listeners import listen
from compat_engine.network.networks import Networks
from compat_engine.runtime.cgroups.manager import Cgroups
from compat_engine.runtime.linux import LinuxRuntime
from compat_engine.runtime.seccomp import SeccompCache
from compat_engine.store.records import Records
from compat_engine.store.tree import Tree
from compat_engine.volumes.volumes import Volumes

log = logging.getLogger("compat_engine")
_REST, _MANY = 5.0, 200  # seconds without a request, requests before that


def run(config: Config, arguments: Sequence[str]) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP loads the configuration anew, which `arguments` (the command line's) lead to.

    Raises EngineError or OSError when it cannot start.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    set_level(config)
    try:
        logconfig.check(config.log_driver, config.log_opts)
    except InvalidParameter as error:
        raise InvalidParameter(f"failed to set log opts: {error}") from error
    asyncio.run(_main(config, arguments))


async def _main(config: Config, arguments: Sequence[str]) -> None:
    async with AsyncExitStack() as stack:
        tree = _directories(config)
        stack.callback(os.close, _lock(config, tree))
        _pidfile(config, stack)
        engine = await _build(config, tree, stack)
        monitor = Monitor(engine)
        await recover(engine, monitor)
        watching = asyncio.create_task(monitor.run())
        stack.callback(watching.cancel)
        stack.push_async_callback(monitor.settle)
        runner = await _serve(config, engine, stack)
        resuming = asyncio.create_task(resume(engine, monitor))
        stack.callback(resuming.cancel)
        gc.collect()
        gc.freeze()  # what lives from here on is what requests make
        reloading = asyncio.create_task(_reload_on_hangup(engine, arguments))
        stack.callback(reloading.cancel)
        trimming = asyncio.create_task(_trim_at_rest(runner))
        stack.callback(trimming.cancel)
        _notify("READY=1")
        log.info("compat-engine %s serves on %s", __version__, ", ".join(config.hosts))
        await _stop_signal()
        _notify("STOPPING=1")
        monitor.closing = True
        await _stop_containers(engine)
        await runner.cleanup()


async def _build(config: Config, tree: Tree, stack: AsyncExitStack) -> Engine:
    records = Records(tree.database)
    stack.callback(records.close)
    cgroups = Cgroups.detect(tree.cache)
    cgroups.make_parent(config.cgroup_parent)
    runtime = await LinuxRuntime.open(tree, cgroups)
    stack.push_async_callback(runtime.close)
    _raise_file_limit()
    images = await Images.open(tree, records)
    stack.push_async_callback(images.close)
    settings = Settings(config)
    registries = Registries(settings, images.library)
    stack.push_async_callback(registries.close)
    networks = await Networks.open(config, records, tree)
    stack.push_async_callback(networks.close)
    volumes = await Volumes.open(tree, records)
    containers = Registry(records)
    await containers.load()
    events, standby = Events(), Standby()
    stack.push_async_callback(standby.close)
    return Engine(
        settings=settings,
        tree=tree,
        records=records,
        runtime=runtime,
        cgroups=cgroups,
        seccomp=SeccompCache(tree.cache),
        images=images,
        registries=registries,
        networks=networks,
        volumes=volumes,
        events=events,
        containers=containers,
        execs=Execs(events),
        standby=standby,
    )


def _raise_file_limit() -> None:
    """A published port holds up to three sockets. After the launcher has started, so that containers keep the host's default."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _directories(config: Config) -> Tree:
    tree = Tree(config.data_root, config.exec_root)
    for path, mode in ((tree.data, 0o710), (tree.exec, 0o711)):
        path.mkdir(mode=mode, parents=True, exist_ok=True)
    for path in (tree.containers, tree.blobs, tree.layers, tree.volumes, tree.tmp, tree.cache, tree.bundles):
        path.mkdir(mode=0o710, parents=True, exist_ok=True)
    return tree


def _lock(config: Config, tree: Tree) -> int:
    """One daemon a data root: the lock goes with the process, so a crash needs no cleaning up."""
    lock = os.open(tree.data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Conflict(f"another daemon is running on data root {config.data_root}") from None
    return lock


def _pidfile(config: Config, stack: AsyncExitStack) -> None:
    try:
        old = int(config.pidfile.read_text())
    except (OSError, ValueError):
        old = 0
    if old and old != os.getpid() and _is_daemon(old):
        raise Conflict(f"process with PID {old} is still running, and {config.pidfile} says it is a daemon")
    config.pidfile.parent.mkdir(parents=True, exist_ok=True)
    config.pidfile.write_text(f"{os.getpid()}\n")
    stack.callback(config.pidfile.unlink, missing_ok=True)


def _is_daemon(pid: int) -> bool:
    """A pid file that outlived a reboot may name any process by now."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"compat" in file.read()
    except OSError:
        return False


async def _serve(config: Config, engine: Engine, stack: AsyncExitStack) -> web.ServerRunner:
    dispatcher = make_dispatcher(engine)
    stack.push_async_callback(dispatcher.settle)
    runner = make_runner(dispatcher)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    for host in config.hosts:
        for listener in listen(host, config.group):
            await web.SockSite(runner, listener, backlog=1024).start()
            if listener.family == socket.AF_UNIX and host.startswith("unix://"):
                stack.callback(_unlink, host.removeprefix("unix://"))
    return runner


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        log.debug("socket %s was gone", path)


async def _reload_on_hangup(engine: Engine, arguments: Sequence[str]) -> None:
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    while True:
        await asked.wait()
        asked.clear()
        await reload(engine, arguments)


async def _trim_at_rest(runner: web.ServerRunner) -> None:
    """What many requests have freed goes back to the kernel when none has come for a while: after 1,000 containers 6 MB."""
    seen = trimmed = 0
    while True:
        await asyncio.sleep(_REST)
        count = runner.server.requests_count if runner.server else 0
        if count == seen and count - trimmed >= _MANY:
            await asyncio.to_thread(trim_memory)
            trimmed = count
        seen = count


async def _stop_signal() -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await stopping.wait()


async def _stop_containers(engine: Engine) -> None:
    """All at once, within the shutdown timeout; what still runs then is left to the next daemon."""
    config = engine.config
    running = [] if config.live_restore else [container for container in engine.containers.all() if container.state.running]
    if not running:
        return
    work = asyncio.gather(*(end(engine, container, None, by_user=False) for container in running), return_exceptions=True)
    try:
        results = await asyncio.wait_for(work, config.shutdown_timeout)
    except TimeoutError:
        log.warning("some containers did not stop within %d s", config.shutdown_timeout)
        return
    for error in results:
        if isinstance(error, BaseException):
            log.warning("stopping a container: %s", error)


def _notify(state: str) -> None:
    """sd_notify(3), when systemd asked for it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.connect("\0" + address[1:] if address.startswith("@") else address)
        notifier.send(state.encode())
