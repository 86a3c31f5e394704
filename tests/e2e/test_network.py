"""The default bridge, published ports, and the files a container resolves names with."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.docker import Docker, eventually
from tests.support.leftovers import RUN
from tests.support.ports import can_bind, fetch, free_port

SERVER = "mkdir -p /www; echo -n hello > /www/index.html; exec httpd -f -p 80 -h /www"


def serve(docker: Docker, *args: str) -> str:
    return docker("run", "-d", *args, "busybox", "sh", "-c", SERVER)


def published(docker: Docker, container: str, port: str) -> int:
    return int(docker("port", container, port).splitlines()[0].rsplit(":", 1)[1])


def test_the_bridge_gives_an_address_and_a_gateway(docker: Docker) -> None:
    container = docker("run", "-d", "busybox", "sleep", "60")
    network = docker.inspect(container)["NetworkSettings"]["Networks"]["bridge"]
    assert f"inet {network['IPAddress']}/{network['IPPrefixLen']}" in docker("exec", container, "ip", "addr", "show", "eth0")
    assert f"default via {network['Gateway']} dev eth0" in docker("exec", container, "ip", "route")
    assert network["MacAddress"] in docker("exec", container, "ip", "link", "show", "eth0")
    assert docker.run("exec", container, "ping", "-c", "1", "-W", "2", network["Gateway"]).returncode == 0


def test_containers_on_the_bridge_reach_each_other(docker: Docker) -> None:
    server = serve(docker)
    address = docker.inspect(server)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    eventually(lambda: docker.run("run", "--rm", "busybox", "wget", "-qO-", address).stdout == "hello")


def test_an_address_is_free_again_after_stop(docker: Docker, unique: str) -> None:
    docker("run", "--name", unique, "busybox", "true")
    assert docker.inspect(unique)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == ""


def test_none_has_only_loopback(docker: Docker) -> None:
    assert docker("run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net") == "lo"
    assert docker("run", "--rm", "--network", "none", "busybox", "ping", "-c", "1", "127.0.0.1").count("1 packets received")


def test_networks_changed_between_create_and_start(docker: Docker) -> None:
    """At once, while what create has made ready still waits."""
    show = ("sh", "-c", "cat /etc/hosts; ls /sys/class/net")
    for before, after in (("none", "bridge"), ("bridge", "none")):
        container = docker("create", "--network", before, "busybox", *show)
        docker("network", "disconnect", before, container)
        docker("network", "connect", after, container)
        shown = docker("start", "-a", container)
        assert "localhost" in shown and (container[:12] in shown, "eth0" in shown) == (after == "bridge",) * 2, shown


def test_a_published_port_answers_on_localhost(docker: Docker) -> None:
    port = free_port()
    container = serve(docker, "-p", f"{port}:80")
    eventually(lambda: fetch("127.0.0.1", port) == "hello")
    assert docker("port", container).splitlines()[0] == f"80/tcp -> 0.0.0.0:{port}"


def test_an_ephemeral_port(docker: Docker) -> None:
    container = serve(docker, "-p", "80")
    eventually(lambda: fetch("127.0.0.1", published(docker, container, "80/tcp")) == "hello")


def test_publish_all(docker: Docker) -> None:
    container = serve(docker, "-P", "--expose", "80")
    eventually(lambda: fetch("127.0.0.1", published(docker, container, "80/tcp")) == "hello")


def test_a_host_address_limits_a_port_to_it(docker: Docker) -> None:
    port = free_port()
    container = serve(docker, "-p", f"127.0.0.1:{port}:80")
    eventually(lambda: fetch("127.0.0.1", port) == "hello")
    bindings = docker.inspect(container)["NetworkSettings"]["Ports"]["80/tcp"]
    assert bindings == [{"HostIp": "127.0.0.1", "HostPort": str(port)}]
    gateway = docker.inspect(container)["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
    assert fetch(gateway, port) == ""


def test_a_range_of_ports(docker: Docker) -> None:
    first = free_port(count=3)
    container = docker("run", "-d", "-p", f"{first}-{first + 2}:80-82", "busybox", "sh", "-c", SERVER.replace("80", "82"))
    ports = docker.inspect(container)["NetworkSettings"]["Ports"]
    assert [ports[f"{80 + more}/tcp"][0]["HostPort"] for more in range(3)] == [str(first + more) for more in range(3)]
    eventually(lambda: fetch("127.0.0.1", first + 2) == "hello")


ECHO = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 53))
while True:
    server.sendto(*server.recvfrom(100))
"""


def test_udp(docker: Docker) -> None:
    """The server is the host's Python in the container's network namespace: busybox may lack a UDP server."""
    port = free_port(kind=socket.SOCK_DGRAM)
    container = docker("run", "-d", "-p", f"{port}:53/udp", "busybox", "sleep", "60")
    pid = docker("inspect", "-f", "{{.State.Pid}}", container)
    server = subprocess.Popen(["nsenter", "-t", pid, "-n", sys.executable, "-c", ECHO])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(2)
            sock.connect(("127.0.0.1", port))
            assert eventually(lambda: datagram(sock, b"ping\n")) == b"ping\n"
    finally:
        server.kill()
        server.wait()


def datagram(sock: socket.socket, data: bytes) -> bytes:
    try:
        sock.send(data)
        return sock.recv(100)
    except OSError:
        return b""


def test_a_taken_port_fails_the_start_and_is_named(docker: Docker, unique: str) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = docker.fails("run", "-d", "--name", unique, "-p", f"{port}:80", "busybox", "sleep", "60", code=125)
        assert "address already in use" in error or "port is already allocated" in error
        assert docker.state(unique) == "created"
    docker("start", unique)


def test_two_containers_cannot_publish_one_port(docker: Docker) -> None:
    port = free_port()
    serve(docker, "-p", f"{port}:80")
    assert "port is already allocated" in docker.fails("run", "-d", "-p", f"{port}:80", "busybox", "sleep", "9", code=125)


def test_a_port_is_free_again_when_its_container_ended(docker: Docker, unique: str) -> None:
    port = free_port()
    docker("run", "--name", unique, "-p", f"{port}:80", "busybox", "true")
    eventually(lambda: can_bind(port))
    serve(docker, "-p", f"{port}:80")
    eventually(lambda: fetch("127.0.0.1", port) == "hello")


def test_a_container_reaches_itself_through_its_published_port(docker: Docker) -> None:
    port = free_port()
    container = serve(docker, "-p", f"{port}:80")
    gateway = docker.inspect(container)["NetworkSettings"]["Networks"]["bridge"]["Gateway"]
    eventually(lambda: docker.run("exec", container, "wget", "-qO-", f"{gateway}:{port}").stdout == "hello")


@contextmanager
def http_server(address: str) -> Iterator[int]:
    """One connection at a time on `address`, answering with the peer's address."""
    with socket.create_server((address, 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, peer = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    connection.sendall(f"HTTP/1.0 200 OK\r\n\r\n{peer[0]}".encode())

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_container_reaches_the_host(docker: Docker) -> None:
    container = docker("run", "-d", "busybox", "sleep", "60")
    network = docker.inspect(container)["NetworkSettings"]["Networks"]["bridge"]
    with http_server(network["Gateway"]) as port:
        assert docker("exec", container, "wget", "-qO-", f"{network['Gateway']}:{port}") == network["IPAddress"]


WHO = """
import socket
server = socket.create_server(("", 8099))
while True:
    connection, peer = server.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + peer[0].encode())
"""


def test_traffic_to_other_hosts_is_masqueraded(docker: Docker, unique: str) -> None:
    """Another host, made of a network namespace: it has no route back to the bridge, and sees the host's address."""
    name, wire = f"cen{RUN}", f"198.18.{int(unique[-2:], 16)}"
    ip = f"ip netns add {name}; ip link add {name} type veth peer name eth0 netns {name}; ip addr add {wire}.1/24 dev {name};"
    ip += f"ip link set {name} up; ip -n {name} addr add {wire}.2/24 dev eth0; ip -n {name} link set eth0 up"
    subprocess.run(["sh", "-ec", ip.replace(";", "\n")], check=True)
    peer = subprocess.Popen(["ip", "netns", "exec", name, sys.executable, "-c", WHO])
    try:
        fetch = ["busybox", "wget", "-qO-", f"{wire}.2:8099"]
        assert eventually(lambda: docker.run("run", "--rm", *fetch).stdout) == f"{wire}.1"
    finally:
        peer.kill()
        peer.wait()
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_hosts_file(docker: Docker) -> None:
    args = ["--add-host", "db:10.9.8.7", "--add-host", "gw:host-gateway", "-h", "box"]
    lines = [line.split() for line in docker("run", "--rm", *args, "busybox", "cat", "/etc/hosts").splitlines()]
    assert ["127.0.0.1", "localhost"] in lines
    assert ["10.9.8.7", "db"] in lines
    assert any(line[-1] == "box" for line in lines)
    assert any(line[1] == "gw" and line[0].count(".") == 3 for line in lines)


def test_resolv_conf(docker: Docker) -> None:
    args = ["--dns", "9.9.9.9", "--dns", "8.8.4.4", "--dns-search", "example.test", "--dns-option", "ndots:3"]
    lines = docker("run", "--rm", *args, "busybox", "cat", "/etc/resolv.conf").splitlines()
    assert {"nameserver 9.9.9.9", "nameserver 8.8.4.4", "search example.test", "options ndots:3"} <= set(lines)


def test_network_files_can_be_written_inside(docker: Docker) -> None:
    script = "echo 1.2.3.4 x >> /etc/hosts && echo '#' >> /etc/resolv.conf && echo new > /etc/hostname && grep -c x /etc/hosts"
    assert int(docker("run", "--rm", "busybox", "sh", "-c", script)) >= 1


def test_sharing_another_s_network_shares_its_address(docker: Docker) -> None:
    server = serve(docker)
    eventually(
        lambda: (
            docker.run("run", "--rm", "--network", f"container:{server}", "busybox", "wget", "-qO-", "127.0.0.1").stdout
            == "hello"
        )
    )


@pytest.mark.parametrize("arguments", [("-h", "x"), ("-p", "80:80"), ("--add-host", "a:1.2.3.4"), ("--dns", "1.2.3.4")])
def test_sharing_a_network_excludes_options_of_its_own(docker: Docker, unique: str, arguments: tuple[str, str]) -> None:
    docker("run", "-d", "--name", unique, "busybox", "sleep", "60")
    assert "conflicting options" in docker.fails("create", "--network", f"container:{unique}", *arguments, "busybox")


def test_predefined_networks_are_listed(docker: Docker) -> None:
    assert {"bridge", "host", "none"} <= set(docker("network", "ls", "--format", "{{.Name}}").split())


def test_an_unknown_network_is_refused(docker: Docker) -> None:
    assert "network no-such-net not found" in docker.fails("run", "--rm", "--network", "no-such-net", "busybox", "true", code=125)


def test_a_given_mac_address(docker: Docker) -> None:
    mac = "02:42:ac:11:99:01"
    assert mac in docker("run", "--rm", "--mac-address", mac, "busybox", "ip", "link", "show", "eth0")


def test_the_default_route_goes_by_the_names_of_the_networks(docker: Docker, unique: str) -> None:
    """Whichever came first: among several networks with a gateway, the first in alphabetical order is the way out."""
    early, late = f"{unique}-a", f"{unique}-z"

    def way_out(container: str) -> str:
        return docker("exec", container, "ip", "route", "show", "default").split()[2]

    try:
        for name in (early, late):
            docker("network", "create", name)
        container = docker("run", "-d", "--network", late, "busybox", "sleep", "60")
        docker("network", "connect", early, container)
        gateways = {name: item["Gateway"] for name, item in docker.inspect(container)["NetworkSettings"]["Networks"].items()}
        assert way_out(container) == gateways[early]
        docker("restart", "-t", "0", container)
        assert way_out(container) == gateways[early]
        docker("network", "disconnect", early, container)
        assert way_out(container) == gateways[late]
    finally:
        docker.clean()
        docker.run("network", "rm", early, late)


def test_published_ports_go_with_the_default_route(docker: Docker, unique: str) -> None:
    """From a network that the container leaves to the next one, and to one that comes before it."""
    names = [f"{unique}-{letter}" for letter in "ab"]
    for name in names:
        docker("network", "create", name)
    try:
        port = free_port()
        container = serve(docker, "--network", names[1], "-p", f"{port}:80")
        for act, network in (("connect", names[0]), ("disconnect", names[1]), ("connect", names[1]), ("disconnect", names[0])):
            docker("network", act, network, container)
            eventually(lambda: fetch("127.0.0.1", port) == "hello")
            assert docker("port", container).splitlines()[0] == f"80/tcp -> 0.0.0.0:{port}"
        docker("network", "disconnect", names[1], container)
        assert docker("port", container) == ""
        assert can_bind(port)
        docker("network", "connect", names[0], container)
        eventually(lambda: fetch("127.0.0.1", port) == "hello")
        docker("rm", "-f", container)
    finally:
        docker("network", "rm", *names)


def test_ports_of_a_routed_network(docker: Docker, unique: str) -> None:
    """Open at the container's address; no port of the host's (Docker 27 or newer)."""
    docker("network", "create", "-o", "com.docker.network.bridge.gateway_mode_ipv4=routed", unique)
    try:
        container = serve(docker, "--network", unique, "-p", "8080:80")
        assert docker.inspect(container)["NetworkSettings"]["Ports"] == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": ""}]}
        address = docker.inspect(container)["NetworkSettings"]["Networks"][unique]["IPAddress"]
        eventually(lambda: docker.run("run", "--rm", "busybox", "wget", "-qO-", address).stdout == "hello")
        docker("rm", "-f", container)
    finally:
        docker("network", "rm", unique)


def test_a_start_that_fails_disconnects_all_the_same(docker: Docker, unique: str) -> None:
    """Before process 1 after a connect; for want of a port without one."""
    port = free_port()
    docker("network", "create", unique)
    try:
        serve(docker, "--network", unique, "-p", f"{port}:80", "--name", f"{unique}-holder")
        for command in (("busybox", "nonexistent"), ("-p", f"{port}:80", "busybox", "true")):
            docker.run("run", "--name", f"{unique}-failing", "--network", unique, *command)
            docker("rm", "-f", f"{unique}-failing")
        docker("network", "connect", unique, docker("create", "--name", f"{unique}-stopped", "busybox", "true"))
        docker("network", "disconnect", unique, f"{unique}-stopped")
        docker("rm", "-f", f"{unique}-holder", f"{unique}-stopped")
    finally:
        docker("network", "rm", unique)
    filters = ("--filter", f"network={unique}", "--filter", "type=network")
    told = docker("events", "--since", "1h", "--until", str(int(time.time()) + 1), *filters, "--format", "{{.Action}}")
    assert told.split() == ["create", *["connect"] * 2, *["disconnect"] * 4, "destroy"]


def test_a_network_of_higher_priority_takes_route_and_ports(docker: Docker, unique: str) -> None:
    """Docker 28 or newer."""
    names = [f"{unique}-{letter}" for letter in "ab"]
    for name in names:
        docker("network", "create", name)
    try:
        port = free_port()
        container = serve(docker, "--network", names[0], "-p", f"{port}:80")
        docker("network", "connect", "--gw-priority", "1", names[1], container)
        gateway = docker.inspect(container)["NetworkSettings"]["Networks"][names[1]]["Gateway"]
        assert f"default via {gateway} dev eth1" in docker("exec", container, "ip", "route")
        eventually(lambda: fetch("127.0.0.1", port) == "hello")
        docker("network", "disconnect", names[0], container)
        eventually(lambda: fetch("127.0.0.1", port) == "hello")
        docker("rm", "-f", container)
    finally:
        docker("network", "rm", *names)


def test_sysctls_and_name_of_an_interface(docker: Docker, unique: str) -> None:
    """Docker 28 or newer."""
    docker("network", "create", unique)
    try:
        options = "driver-opt=com.docker.network.endpoint.ifname=lan0"
        sysctls = (
            '"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.tag=3"'
        )
        network = f"name={unique},{options},{sysctls}"
        script = "cd /proc/sys/net/ipv4/conf/lan0; cat log_martians tag"
        assert docker("run", "--rm", "--network", network, "busybox", "sh", "-c", script).split() == ["1", "3"]
        wrong = f'name={unique},"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.eth0.tag=3"'
        assert "unrecognised network interface sysctl 'net.ipv4.conf.eth0.tag=3'" in docker.fails(
            "create", "--network", wrong, "busybox"
        )
    finally:
        docker("network", "rm", unique)
