"""Several hosts on one machine: network namespaces, a wire between two of them, and servers and clients inside."""

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from compat_engine.config import Config
from compat_engine.kernel.netns import network_of
from compat_engine.network.networks import Networks
from compat_engine.store.records import Records
from compat_engine.store.tree import Tree

HOST, NEIGHBOUR = "198.51.100.1", "198.51.100.2"
HOST6, NEIGHBOUR6 = "2001:db8:99::1", "2001:db8:99::2"
SERVER = """
import socket, sys, threading
tcp = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0); udp.bind(("::", 81))
def hello(peer): return f"{sys.argv[1]} {peer[0].removeprefix('::ffff:')}".encode()
def answer():
    while True:
        data, peer = udp.recvfrom(100)
        udp.sendto(hello(peer), peer)
threading.Thread(target=answer, daemon=True).start()
print("ready", flush=True)
while True:
    connection, peer = tcp.accept()
    with connection: connection.sendall(hello(peer))
"""


@dataclass
class Namespace:
    """A network namespace held by one process."""

    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def fd(self) -> int:
        return os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def run(self, *command: str, check: bool = True) -> str:
        argv = ["nsenter", "-t", str(self.pid), "-n", *command]
        return subprocess.run(argv, check=check, capture_output=True, text=True).stdout.strip()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


def namespace(*command: str) -> Namespace:
    made = started("unshare", "--net", *command)
    process = made.process
    while process.poll() is None and not _elsewhere(process.pid):
        time.sleep(0.002)
    return made


def _elsewhere(pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/thread-self/ns/net")
    except OSError:  # it has ended, and is to be reaped
        return False


def started(*command: str) -> Namespace:
    return Namespace(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))


def server(name: str, *entering: str) -> Namespace:
    made = started(*(entering or ("unshare", "--net")), sys.executable, "-c", SERVER, name)
    assert made.process.stdout
    assert made.process.stdout.readline() == "ready\n"
    return made


@contextmanager
def wired_host(neighbour: Namespace) -> Iterator[Namespace]:
    """HOST and HOST6, on a wire with NEIGHBOUR and NEIGHBOUR6. This thread, and the threads it starts, are in it meanwhile."""
    made = namespace("sleep", "1000")
    made.run("ip", "link", "set", "lo", "up")
    made.run("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(neighbour.pid))
    for end, address, address6 in ((made, HOST, HOST6), (neighbour, NEIGHBOUR, NEIGHBOUR6)):
        end.run("ip", "address", "add", f"{address}/24", "dev", "wire")
        # Without a link-local address, which takes the kernel a second, nobody is asked where forwarded packets should go.
        for words in (f"{address6}/64", f"fe80::{address6[-1]}/64"):
            end.run("ip", "address", "add", words, "dev", "wire", "nodad")
        end.run("ip", "link", "set", "wire", "up")
    fd = made.fd
    try:
        with network_of(fd):
            yield made
    finally:
        os.close(fd)
        made.end()


CLIENT = """
import socket, sys
address, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
try:
    if kind == "udp":
        client = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM); client.settimeout(float(sys.argv[4]))
        client.sendto(b"x", (address, port))
    else:
        client = socket.create_connection((address, port), float(sys.argv[4]))
        client.shutdown(socket.SHUT_WR)
    print(client.recv(100).decode())
except OSError:
    print("nothing")
"""


def ask(where: Namespace, address: str, port: int, kind: str = "tcp", seconds: float = 30) -> str:
    """What a client in `where` hears: the server's name and the client's address as the server sees it."""
    return where.run(sys.executable, "-I", "-S", "-c", CLIENT, address, str(port), kind, str(seconds))


def silent(where: Namespace, address: str, port: int) -> bool:
    """Whether a client in `where` hears nothing: it is refused, or waits for half a second."""
    return ask(where, address, port, seconds=0.5) == "nothing"


@asynccontextmanager
async def opened_networks(path: Path, config: Config) -> AsyncIterator[Networks]:
    """The networks of a daemon whose roots are `path`, until it ends in order."""
    records = Records(path / "state.db")
    try:
        networks = await Networks.open(config, records, Tree(path, path))
        try:
            yield networks
        finally:
            await networks.close()
    finally:
        records.close()
