"""Cases about containers: how fast they start, run commands and write logs, and what memory they take."""

import time
from collections.abc import Callable

from benchmarks.case import Case, command
from benchmarks.peer import MARK, Peer, memory
from tests.support.daemon import own_daemon

LINE = "2026-01-01 12:00:00 INFO request served path=/a/rather/usual/path status=200 bytes=5120 duration=0.0123 agent=bench id="


def run(network: str) -> Callable[[Peer], float]:
    return command("run", "--rm", "--network", network, "busybox", "true")


def idle_container(peer: Peer) -> None:
    peer.kept["id"] = peer.run("-d", "busybox", "sleep", "6000")


def many_containers(peer: Peer) -> None:
    peer.make(peer.options.containers, start=False)


def burst(peer: Peer) -> float:
    try:
        return peer.options.burst / peer.make(peer.options.burst, start=True)
    finally:
        peer.clean()


def idle_containers(peer: Peer) -> None:
    peer.make(peer.options.idle, start=True)
    time.sleep(1)


def idle_memory(peer: Peer) -> float:
    return sum(memory(pid, "Private_Clean", "Private_Dirty") for pid in peer.supervisors()) / peer.options.idle


def rest(peer: Peer) -> None:
    """What an engine keeps at hand for the next image may go, with any of them."""
    time.sleep(15)


def daemon_memory(peer: Peer) -> float:
    return sum(memory(pid, "Pss") for pid in peer.daemon_pids())


def lines_in_a_volume(peer: Peer) -> None:
    peer.docker("volume", "create", MARK)
    size = min(peer.options.log_bytes, 64 << 20)
    peer.run("--rm", "-v", f"{MARK}:/d", "busybox", "sh", "-c", f"yes '{LINE}' | head -c {size} > /d/lines")
    peer.kept["script"] = f"i=0; while [ $((i+=1)) -le {max(1, peer.options.log_bytes // size)} ]; do cat /d/lines; done"


def write_log(peer: Peer) -> float:
    """MB/s from start to the answered wait, the log going to a json-file without a limit."""
    began = time.perf_counter()
    options = ["-d", "--log-driver", "json-file", "--log-opt", "max-size=4g", "-v", f"{MARK}:/d"]
    id = peer.run(*options, "busybox", "sh", "-c", peer.kept["script"])
    peer.docker("wait", id)
    taken = time.perf_counter() - began
    peer.docker("rm", "-f", id)
    return peer.options.log_bytes / 1e6 / taken


def attach(peer: Peer) -> float:
    """MB/s through an attached `docker run` whose output goes nowhere, logging as by default."""
    taken = peer.seconds("run", "--rm", "-v", f"{MARK}:/d", "busybox", "sh", "-c", peer.kept["script"])
    return peer.options.log_bytes / 1e6 / taken


def long_log(peer: Peer) -> None:
    script = f"yes '{LINE}' | head -n {peer.options.log_lines}"
    options = ["-d", "--log-driver", "json-file", "--log-opt", "max-size=4g"]
    peer.kept["log"] = peer.run(*options, "busybox", "sh", "-c", script)
    peer.docker("wait", peer.kept["log"])


def cold_start(peer: Peer) -> float:
    """ms from the start of a new daemon, on an empty data root, to its first answered ping. Only this engine."""
    if peer.name != "ours":
        return float("nan")
    daemon = own_daemon("c", 3)
    try:
        began = time.perf_counter()
        daemon.start()
        return (time.perf_counter() - began) * 1000
    finally:
        daemon.destroy()


FASTER = {"dockerd": 0.2, "podman": 0.33}
CASES = {
    "run-bridge": Case("ms", run("bridge"), goals=FASTER),
    "run-none": Case("ms", run("none"), goals=FASTER),
    "run-host": Case("ms", run("host"), goals=FASTER),
    "exec": Case("ms", command("exec", "{id}", "true"), idle_container, goals={"dockerd": 0.4, "podman": 0.4}),
    "ps": Case("ms", command("ps", "-a"), many_containers, goals={"dockerd": 1.0}),
    "burst": Case("containers/s", burst, rounds=3, more_is_better=True, goals={"dockerd": 4.0}),
    "idle-memory": Case("MB each", idle_memory, idle_containers, rounds=1, goals={"": 2.0}),
    "daemon-memory": Case("MB", daemon_memory, rest, rounds=1, goals={"dockerd": 0.5}),
    "cold-start": Case("ms", cold_start, rounds=5, goals={"": 1000}),
    "log-write": Case("MB/s", write_log, lines_in_a_volume, rounds=3, more_is_better=True, goals={"dockerd": 3.0}),
    "attach": Case("MB/s", attach, lines_in_a_volume, rounds=3, more_is_better=True, goals={"dockerd": 1.5}),
    "logs-full": Case("ms", command("logs", "{log}"), long_log, rounds=3, goals={"dockerd": 0.3}),
    "logs-tail": Case("ms", command("logs", "--tail", "100", "{log}"), long_log, goals={"dockerd": 1.0}),
}
