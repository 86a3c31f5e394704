"""Names on networks of the user's own, asked for as programs in containers do, and with messages of the test's own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.docker import Docker

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="enters network namespaces")
QUERIES = """
import json, sys
import dns.message, dns.query, dns.reversename
answers = []
for name, kind, way in json.loads(sys.argv[1]):
    query = dns.message.make_query(dns.reversename.from_address(name) if kind == "PTR" else name, kind)
    if way == "edns":
        query.use_edns(0, payload=4096)
    answer = (dns.query.tcp if way == "tcp" else dns.query.udp)(query, "127.0.0.11", 15)
    records = [record.to_text() for rrset in answer.answer for record in rrset]
    answers.append([answer.rcode(), sorted(records), bool(answer.flags & 0x200)])
print(json.dumps(answers))
"""
Answer = tuple[int, list[str], bool]  # code, records in order, whether it was cut short
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3


@pytest.fixture
def network(docker: Docker, unique: str) -> Iterator[str]:
    docker("network", "create", "--label", docker.mark, unique)
    yield unique
    docker.clean()
    docker("network", "rm", unique)


def run(docker: Docker, network: str, name: str, *args: str) -> str:
    docker("run", "-d", "--network", network, "--name", name, *args, "busybox", "sleep", "600")
    return address(docker, name, network)


def address(docker: Docker, container: str, network: str) -> str:
    return str(docker.inspect(container)["NetworkSettings"]["Networks"][network]["IPAddress"])


def pid(docker: Docker, container: str) -> str:
    return docker("inspect", "-f", "{{.State.Pid}}", container)


def ask(docker: Docker, container: str, *questions: tuple[str, str] | tuple[str, str, str]) -> list[Answer]:
    """(name or address, type, "tcp" or "edns" or nothing) each, asked by the test from the container's network namespace."""
    asked = json.dumps([[*question, ""][:3] for question in questions])
    command = ["nsenter", "-t", pid(docker, container), "-n", sys.executable, "-c", QUERIES, asked]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return [(code, records, cut) for code, records, cut in found]


def resolves(docker: Docker, container: str, name: str) -> str:
    """The address the container's own resolver finds; "" for none."""
    lines = docker.run("exec", container, "ping", "-c", "1", "-W", "1", name).stdout.splitlines()
    return lines[0].partition("(")[2].partition(")")[0] if lines else ""


def test_every_name_of_a_container(docker: Docker, network: str) -> None:
    ip = run(docker, network, f"{network}-a", "--network-alias", "Alias", "-h", "box")
    run(docker, network, f"{network}-b")
    short = docker.inspect(f"{network}-a")["Id"][:12]
    for name in (f"{network}-a", "alias", "ALIAS", short, "box", f"{network}-a.{network}", f"alias.{network}"):
        assert ask(docker, f"{network}-b", (name, "A"), (name, "A", "tcp")) == [(NOERROR, [ip], False)] * 2
    assert resolves(docker, f"{network}-b", "alias") == ip


def test_names_are_shown_also_while_it_does_not_run(docker: Docker, network: str) -> None:
    """From the first start on."""
    docker("create", "--network", network, "--name", network, "--network-alias", "alias", "-h", "box", "busybox", "true")
    assert docker.inspect(network)["NetworkSettings"]["Networks"][network]["DNSNames"] is None
    docker("start", "-a", network)
    found = docker.inspect(network)
    assert found["NetworkSettings"]["Networks"][network]["DNSNames"] == [network, "alias", found["Id"][:12], "box"]


@pytest.mark.skipif(shutil.which("getent") is None, reason="needs the C library's getent")
def test_the_c_library_resolves(docker: Docker, network: str, tmp_path: Path) -> None:
    """glibc's, or musl's, as the host has it, in the container's network and with the container's resolv.conf."""
    ip = run(docker, network, network, "--network-alias", "alias")
    (tmp_path / "resolv.conf").write_text(docker("exec", network, "cat", "/etc/resolv.conf"))
    script = f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf; getent hosts alias; RES_OPTIONS=use-vc getent hosts alias"
    command = ["nsenter", "-t", pid(docker, network), "-n", "unshare", "-m", "sh", "-ec", script]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [line.split() for line in found.splitlines()] == [[ip, "alias"]] * 2


@pytest.mark.skipif(shutil.which("dig") is None, reason="needs dig")
def test_dig(docker: Docker, network: str) -> None:
    ip = run(docker, network, network)
    dig = ["nsenter", "-t", pid(docker, network), "-n", "dig", "@127.0.0.11", "+short"]
    asked = [network, "A", "+tcp", network, "A", "+noedns", "-x", ip]
    found = subprocess.run([*dig, *asked], capture_output=True, text=True, check=True).stdout
    assert found.splitlines() == [ip, ip, f"{network}.{network}."]


def test_types(docker: Docker, network: str) -> None:
    ip = run(docker, network, f"{network}-a")
    name = f"{network}-a"
    found = ask(docker, name, (name, "AAAA"), (name, "MX"), (ip, "PTR"))
    assert found == [(NOERROR, [], False), (NOERROR, [], False), (NOERROR, [f"{name}.{network}."], False)]


def test_resolv_conf(docker: Docker, network: str) -> None:
    args = ["--network", network, "--dns", "192.0.2.1", "--dns-search", "x.test", "--dns-option", "timeout:1"]
    text = docker("run", "--rm", *args, "busybox", "cat", "/etc/resolv.conf")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines == ["nameserver 127.0.0.11", "search x.test", "options timeout:1 ndots:0"]


def test_a_shared_alias_takes_turns(docker: Docker, network: str) -> None:
    ips = sorted(run(docker, network, f"{network}-{number}", "--network-alias", "svc") for number in range(3))
    assert ask(docker, f"{network}-0", ("svc", "A")) == [(NOERROR, ips, False)]
    firsts = [docker("exec", f"{network}-0", "nslookup", "svc").split("Address: ")[1].split()[0] for _ in range(24)]
    assert set(firsts) == set(ips)


def test_names_follow_the_containers(docker: Docker, network: str) -> None:
    first, second = f"{network}-a", f"{network}-b"
    run(docker, network, first)
    with outside(docker, network) as server:
        ip = run(docker, network, second, "--dns", server)
        assert ask(docker, second, (first, "A"))[0][0] == NOERROR
        docker("stop", "-t", "0", first)
        assert ask(docker, second, (first, "A"))[0][1] == []
        docker("start", first)
        assert ask(docker, second, (first, "A"))[0][1] == [address(docker, first, network)]
        docker("rename", second, f"{network}-c")
        assert ask(docker, first, (f"{network}-c", "A"))[0][1] == [ip]


def test_a_link_is_a_name_of_one_container_only(docker: Docker, network: str) -> None:
    ip = run(docker, network, f"{network}-a")
    run(docker, network, f"{network}-b", "--link", f"{network}-a:db")
    assert ask(docker, f"{network}-b", ("db", "A"), (f"db.{network}", "A")) == [(NOERROR, [ip], False)] * 2
    with outside(docker, network) as server:
        run(docker, network, f"{network}-c", "--dns", server)
        assert ask(docker, f"{network}-c", ("db", "A"))[0][1] == []


def test_connecting_and_disconnecting(docker: Docker, network: str) -> None:
    peer, late = f"{network}-a", f"{network}-b"
    run(docker, network, peer)
    docker("run", "-d", "--name", late, "busybox", "sleep", "600")
    assert "127.0.0.11" not in docker("exec", late, "cat", "/etc/resolv.conf")
    docker("network", "connect", "--alias", "late", network, late)
    ip = address(docker, late, network)
    assert resolves(docker, late, peer) == address(docker, peer, network)
    assert resolves(docker, peer, "late") == ip
    assert [ip, docker.inspect(late)["Config"]["Hostname"]] in hosts(docker, late)
    docker("network", "disconnect", network, late)
    assert ip not in [line[0] for line in hosts(docker, late)]


def test_a_resolv_conf_that_was_edited_stays(docker: Docker, network: str) -> None:
    docker("run", "-d", "--name", network, "busybox", "sleep", "600")
    docker("exec", network, "sh", "-c", "echo nameserver 192.0.2.9 > /etc/resolv.conf")
    docker("network", "connect", network, network)
    assert docker("exec", network, "cat", "/etc/resolv.conf") == "nameserver 192.0.2.9"


def hosts(docker: Docker, container: str) -> list[list[str]]:
    return [line.split() for line in docker("exec", container, "cat", "/etc/hosts").splitlines()]


def test_two_networks(docker: Docker, network: str) -> None:
    """Names of both are known where both are; elsewhere only one's."""
    other = f"{network}-2"
    docker("network", "create", "--label", docker.mark, other)
    try:
        near, far = run(docker, network, f"{network}-a"), run(docker, other, f"{network}-b")
        run(docker, network, f"{network}-c")
        docker("network", "connect", other, f"{network}-c")
        found = ask(docker, f"{network}-c", (f"{network}-a", "A"), (f"{network}-b", "A"))
        assert [records for _, records, _ in found] == [[near], [far]]
    finally:
        docker.clean()
        docker("network", "rm", other)


def test_sharing_a_network_shares_its_names(docker: Docker, network: str) -> None:
    ip = run(docker, network, f"{network}-a")
    docker("run", "-d", "--name", f"{network}-b", "--network", f"container:{network}-a", "busybox", "sleep", "600")
    assert resolves(docker, f"{network}-b", f"{network}-a") == ip


def test_port_53_is_free_for_the_container(docker: Docker, network: str) -> None:
    run(docker, network, network)
    bind = "import socket; [socket.socket(2, kind).bind(('0.0.0.0', 53)) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]"
    subprocess.run(["nsenter", "-t", pid(docker, network), "-n", sys.executable, "-c", bind], check=True)


SERVER = """
import socket, struct, sys, threading
import dns.flags, dns.message, dns.rrset
address = sys.argv[1]
def answer(wire, limit):
    query = dns.message.from_wire(wire)
    name = query.question[0].name
    message = dns.message.make_response(query)
    if name.to_text().startswith("large."):
        message.answer.append(dns.rrset.from_text_list(name, 60, "IN", "A", [f"192.0.2.{n}" for n in range(1, 101)]))
    elif name.to_text().startswith("who."):
        message.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", client[0]))
    else:
        message.set_rcode(3)
    try:
        return message.to_wire(max_size=limit)
    except dns.exception.TooBig:
        message.answer.clear()
        message.flags |= dns.flags.TC
        return message.to_wire()
def serve_tcp():
    while True:
        connection, _ = tcp.accept()
        with connection:
            (length,) = struct.unpack("!H", connection.recv(2))
            wire = answer(connection.recv(length), 65535)
            connection.sendall(struct.pack("!H", len(wire)) + wire)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((address, 53))
tcp = socket.create_server((address, 53))
client = ("", 0)
threading.Thread(target=serve_tcp, daemon=True).start()
print("ready", flush=True)
while True:
    wire, client = udp.recvfrom(4096)
    payload = dns.message.from_wire(wire).payload
    udp.sendto(answer(wire, max(payload, 512)), client)
"""


@contextmanager
def outside(docker: Docker, network: str) -> Iterator[str]:
    """A name server next door: large.* has a hundred addresses, who.* says who asks, and nothing else exists."""
    name = f"{network}-ns"
    address = run(docker, network, name)
    command = ["nsenter", "-t", pid(docker, name), "-n", sys.executable, "-c", SERVER, address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield address
    finally:
        process.kill()
        process.communicate()


def test_everybody_else_is_asked_outside(docker: Docker, network: str) -> None:
    with outside(docker, network) as server:
        ip = run(docker, network, network, "--dns", server)
        who, missing = ask(docker, network, ("who.example", "TXT"), ("nobody.example", "A"))
        assert who == (NOERROR, [f'"{ip}"'], False)  # asked from the container's own namespace
        assert missing == (NXDOMAIN, [], False)


def test_large_answers(docker: Docker, network: str) -> None:
    with outside(docker, network) as server:
        run(docker, network, network, "--dns", server)
        name = "large.example"
        found = ask(docker, network, (name, "A"), (name, "A", "edns"), (name, "A", "tcp"))
        assert [(code, cut) for code, _, cut in found] == [(NOERROR, True), (NOERROR, False), (NOERROR, False)]
        assert [len(records) for _, records, _ in found][1:] == [100, 100]


def test_a_server_that_is_down_is_passed_over(docker: Docker, network: str) -> None:
    with outside(docker, network) as server:
        ip = run(docker, network, network, "--dns", "127.0.0.1", "--dns", server)
        assert ask(docker, network, ("who.example", "TXT")) == [(NOERROR, [f'"{ip}"'], False)]


def test_an_internal_network_has_names(docker: Docker, unique: str) -> None:
    """And asks servers inside it; for those outside there is no route."""
    docker("network", "create", "--internal", unique)
    try:
        with outside(docker, unique) as server:
            ip = run(docker, unique, f"{unique}-a", "--dns", server)
            assert ask(docker, f"{unique}-a", (f"{unique}-a", "A"), ("who.example", "TXT")) == [
                (NOERROR, [ip], False),
                (NOERROR, [f'"{ip}"'], False),
            ]
            run(docker, unique, f"{unique}-b", "--dns", "192.0.2.1")
            assert ask(docker, f"{unique}-b", ("who.example", "TXT")) == [(SERVFAIL, [], False)]
    finally:
        docker.clean()
        docker("network", "rm", unique)


FLOOD = """
import socket, sys, dns.message
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect(("127.0.0.11", 53))
client.settimeout(3)
def send(name):
    client.send(dns.message.make_query(name, "A").to_wire())
def answered(name):
    send(name)
    try:
        while not dns.message.from_wire(client.recv(512)).answer:
            pass
        return True
    except TimeoutError:
        return False
for number in range(500):
    send(f"{number}.example")
for _ in range(100):
    assert any(answered(sys.argv[1]) for _ in range(5))
"""


def test_many_at_once(docker: Docker, network: str) -> None:
    """Five hundred queries wait for a server that never answers; names and the API are there meanwhile."""
    run(docker, network, network, "--dns", "192.0.2.1")
    with subprocess.Popen(["nsenter", "-t", pid(docker, network), "-n", sys.executable, "-c", FLOOD, network]) as flood:
        docker("ps")
        assert flood.wait(100) == 0


def test_names_outlive_the_daemon(engine_daemon: Daemon, tmp_path: Path) -> None:
    docker = Docker(engine_daemon.host, "compat-test=dns", str(tmp_path))
    docker("network", "create", "names")
    ip = run(docker, "names", "one", "--network-alias", "uno")
    run(docker, "names", "two", "--link", "one:ein")
    engine_daemon.kill9()
    engine_daemon.start()
    assert ask(docker, "two", ("one", "A"), ("uno", "A", "tcp"), ("ein", "A")) == [(NOERROR, [ip], False)] * 3
    assert resolves(docker, "one", "two") == address(docker, "two", "names")
    docker.clean()
    docker("network", "rm", "names")
