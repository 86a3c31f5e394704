"""Cases about networks.

Servers and clients are the host's Python, inside the network namespaces of containers, engine and neighbour.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.case import Case, command
from benchmarks.peer import MARK, Peer, memory

_PORTS = "20000-20999"
_BYTES = 1 << 30
_QUERIES = 1000
_NEIGHBOUR, _HOST = "198.18.9.2", "198.18.9.1"
_SINK = """
import socket
server = socket.create_server(("", 5001), backlog=8)
print("ready", flush=True)
buffer = bytearray(1 << 20)
while True:
    connection, _ = server.accept()
    with connection:
        while connection.recv_into(buffer):
            pass
        connection.sendall(b"all")
"""
_SOURCE = """
import socket, sys, time
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
block, left = bytes(1 << 20), int(sys.argv[3])
began = time.perf_counter()
while left > 0:
    connection.sendall(block)
    left -= len(block)
connection.shutdown(socket.SHUT_WR)
assert connection.recv(3) == b"all"
print(time.perf_counter() - began)
"""
_RESOLVE = """
import socket, sys, time
name, count = sys.argv[1].encode(), int(sys.argv[2])
question = bytes([len(name)]) + name + b"\\0\\0\\1\\0\\1"
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect(("127.0.0.11", 53))
client.settimeout(5)
began = time.perf_counter()
for number in range(count):
    client.send(number.to_bytes(2, "big") + b"\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + question)
    answer = client.recv(512)
    assert answer[:2] == number.to_bytes(2, "big") and answer[7] == 1
print(time.perf_counter() - began)
"""


def user_network(peer: Peer) -> None:
    """A network of the user's own and a container on it, with one published port, that was started once."""
    peer.docker("network", "create", MARK)
    peer.kept["id"] = peer.docker("create", "--label", MARK, "--network", MARK, "-p", "80", "busybox", "sleep", "6000")
    start(peer)


def start(peer: Peer) -> float:
    taken = peer.seconds("start", peer.kept["id"])
    peer.docker("kill", peer.kept["id"])
    return taken * 1000


def network(peer: Peer) -> float:
    """ms to create a network and remove it."""
    return command("network", "create", MARK)(peer) + command("network", "rm", MARK)(peer)


def ports(peer: Peer) -> float:
    """ms to create and start a container with a thousand ports; how much the engine has grown is for ports_memory."""
    before = _engine_memory(peer)
    taken = peer.seconds("run", "--label", MARK, "--name", MARK, "-d", "-p", f"{_PORTS}:{_PORTS}", "busybox", "sleep", "6000")
    peer.kept["ports-memory"] = str(_engine_memory(peer) - before)
    peer.docker("rm", "-f", MARK)
    return taken * 1000


def ports_memory(peer: Peer) -> float:
    """MB; as the case `ports` found, or of a container of its own."""
    if "ports-memory" not in peer.kept:
        ports(peer)
    return float(peer.kept.pop("ports-memory"))


def _engine_memory(peer: Peer) -> float:
    return sum(memory(pid, "Pss") for pid in peer.daemon_pids())


def sink(peer: Peer) -> None:
    """A container with a published port."""
    id = peer.run("-d", "-p", "5001", "busybox", "sleep", "6000")
    peer.kept["id"], peer.kept["pid"] = id, peer.docker("inspect", "-f", "{{.State.Pid}}", id)
    peer.kept["port"] = peer.docker("port", id, "5001").splitlines()[0].rpartition(":")[2]


def throughput(client: Callable[[Peer], str], address: str) -> Callable[[Peer], float]:
    """MB/s from the namespace `client` makes to the published port."""

    def measure(peer: Peer) -> float:
        with _running(peer.kept["pid"], _SINK):
            seconds = _inside(client(peer), _SOURCE, address, peer.kept["port"], str(_BYTES))
        return _BYTES / 1e6 / seconds

    return measure


def localhost(peer: Peer) -> float:
    return throughput(lambda peer: str(peer.daemon_pids()[0]), "127.0.0.1")(peer)


def neighbour(peer: Peer) -> float:
    with _neighbour(str(peer.daemon_pids()[0])) as pid:
        return throughput(lambda peer: pid, _HOST)(peer)


def named(peer: Peer) -> None:
    peer.docker("network", "create", MARK)
    id = peer.run("-d", "--network", MARK, "--name", MARK, "busybox", "sleep", "6000")
    peer.kept["pid"] = peer.docker("inspect", "-f", "{{.State.Pid}}", id)


def queries(peer: Peer) -> float:
    """Answers a second, one question at a time."""
    return _QUERIES / _inside(peer.kept["pid"], _RESOLVE, MARK, str(_QUERIES))


def _inside(pid: str, script: str, *args: str) -> float:
    """What the script prints, in the network namespace of a process."""
    argv = ["nsenter", "-t", pid, "-n", sys.executable, "-I", "-S", "-c", script, *args]
    return float(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


@contextmanager
def _running(pid: str, script: str) -> Iterator[None]:
    argv = ["nsenter", "-t", pid, "-n", sys.executable, "-I", "-S", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


@contextmanager
def _neighbour(host: str) -> Iterator[str]:
    """Another host, on a wire to the network namespace of the process `host`; the pid that holds it."""
    with subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        pid, name = str(process.pid), f"ceb{process.pid}"
        _ip(host, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", pid)
        try:
            for where, link, address in ((host, name, _HOST), (pid, "eth0", _NEIGHBOUR)):
                _ip(where, "address", "add", f"{address}/30", "dev", link)
                _ip(where, "link", "set", link, "up")
            yield pid
        finally:
            _ip(host, "link", "del", name)
            process.kill()


def _ip(pid: str, *args: str) -> None:
    subprocess.run(["nsenter", "-t", pid, "-n", "ip", *args], check=True)


CASES = {
    "start-network": Case("ms", start, user_network, goals={"dockerd": 0.25}),
    "network": Case("ms", network, goals={"dockerd": 0.3}),
    "ports": Case("ms", ports, rounds=1, goals={"dockerd": 0.05}),
    "ports-memory": Case("MB", ports_memory, rounds=1, goals={"dockerd": 0.05}),
    "neighbour": Case("MB/s", neighbour, sink, rounds=5, more_is_better=True, goals={"dockerd": 0.95}),
    "localhost": Case("MB/s", localhost, sink, rounds=5, more_is_better=True, goals={"dockerd": 1.0}),
    "dns": Case("answers/s", queries, named, rounds=5, more_is_better=True, goals={"dockerd": 0.8}),
}
