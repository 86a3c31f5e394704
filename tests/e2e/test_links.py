"""`--link`: on the default bridge in the files and the environment, on a network as one container's own name."""

import subprocess
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.docker import Docker, eventually


def names(docker: Docker, container: str) -> str:
    return docker("ps", "-a", "--no-trunc", "--filter", f"name=^/{container}$", "--format", "{{.Names}}")


def test_a_link_is_a_host_a_variable_and_a_name(docker: Docker, unique: str) -> None:
    server, web = f"{unique}-db", f"{unique}-web"
    docker("run", "-d", "--name", server, "--hostname", "dbhost", "--expose", "80", "-e", "A=1", "busybox", "sleep", "100")
    docker("run", "-d", "--name", web, "--link", f"{server}:db", "busybox", "sleep", "100")
    address = docker.inspect(server)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert f"{address}\tdb dbhost {server}\n" in docker("exec", web, "cat", "/etc/hosts")
    assert docker("exec", web, "ping", "-c", "1", "-W", "5", "db").count("1 packets received")
    environment = docker("exec", web, "env").splitlines()
    assert {f"DB_PORT=tcp://{address}:80", "DB_ENV_A=1", f"DB_NAME=/{web}/db"} <= set(environment)
    assert docker.inspect(web)["HostConfig"]["Links"] == [f"/{server}:/{web}/db"]
    assert names(docker, server) == f"{server},{web}/db"
    assert docker("inspect", "-f", "{{.Name}}", f"{web}/db") == f"/{server}"


def test_a_link_outlives_restarts_and_renames(docker: Docker, unique: str) -> None:
    server, web, squatter = f"{unique}-db", f"{unique}-web", f"{unique}-other"
    docker("run", "-d", "--name", server, "busybox", "sleep", "100")
    docker("run", "-d", "--name", web, "--link", f"{server}:db", "busybox", "sleep", "100")
    docker("stop", "-t", "0", server)
    docker("run", "-d", "--name", squatter, "busybox", "sleep", "100")  # may take the address
    docker("start", server)
    address = docker.inspect(server)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert f"{address}\tdb " in docker("exec", web, "cat", "/etc/hosts")
    docker("rename", server, f"{server}2")
    assert docker.inspect(web)["HostConfig"]["Links"] == [f"/{server}2:/{web}/db"]
    docker("stop", "-t", "0", server + "2", web)
    assert f"Cannot link to a non running container: /{server}2 AS /{web}/db" in docker.fails("start", web)


def test_rm_link_leaves_the_container(docker: Docker, unique: str) -> None:
    server, web = f"{unique}-db", f"{unique}-web"
    docker("run", "-d", "--name", server, "busybox", "sleep", "100")
    docker("create", "--name", web, "--link", f"{server}:db", "busybox", "true")
    assert "cannot remove the default link name of the container" in docker.fails("rm", "--link", server)
    docker("rm", "--link", f"{web}/db")
    assert docker.inspect(web)["HostConfig"]["Links"] is None
    assert names(docker, server) == server
    assert docker.inspect(server)["State"]["Running"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--link", "nosuch-container:x"), "could not get container for nosuch-container: No such container: nosuch-container"),
        (("--link", "a:b:c"), "bad format for links: a:b:c"),
    ],
)
def test_refused(docker: Docker, options: tuple[str, ...], message: str) -> None:
    assert message in docker.fails("create", *options, "busybox", "true")


def test_on_a_network_a_link_is_a_name_for_one(docker: Docker, unique: str) -> None:
    docker("network", "create", unique)
    try:
        docker("run", "-d", "--name", f"{unique}-db", "--network", unique, "busybox", "sleep", "100")
        link = (f"--link={unique}-db:elsewhere", "--network", unique)
        assert docker("run", "--rm", *link, "busybox", "ping", "-c", "1", "-W", "5", "elsewhere").count("1 packets received")
        without = docker.run("run", "--rm", "--network", unique, "busybox", "ping", "-c", "1", "-W", "5", "elsewhere")
        assert without.returncode != 0
    finally:
        docker.clean()
        docker("network", "rm", unique)


@pytest.mark.parametrize("engine_daemon", [{"options": ("--icc=false",)}], indirect=True)
def test_without_icc_a_link_opens_what_its_target_exposes(engine_daemon: Daemon, tmp_path: Path) -> None:
    """For as long as both run: whoever gets the target's address next is not reached."""
    docker = Docker(engine_daemon.host, "compat-test=links", str(tmp_path))
    serve = ("sh", "-c", "httpd -p 80 -h /etc; httpd -p 81 -h /etc; exec sleep 600")
    docker("run", "-d", "--name", "db", "--expose", "80", "busybox", *serve)
    docker("run", "-d", "--name", "web", "--link", "db", "busybox", *serve)

    def reached(source: str, address: str) -> bool:
        return docker.run("exec", source, "timeout", "1", "wget", "-qO-", f"http://{address}/hostname").returncode == 0

    def address(name: str) -> str:
        return str(docker.inspect(name)["NetworkSettings"]["IPAddress"])

    def linked() -> str:
        command = ["nft", "list", "set", "inet", f"compat-{engine_daemon.label}", "linked"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    eventually(lambda: reached("web", "db:80"))
    eventually(lambda: reached("db", "127.0.0.1:81"))
    assert not reached("web", "db:81")
    assert not reached("db", f"{address('web')}:80")
    docker("restart", "-t", "0", "db")
    eventually(lambda: reached("web", "db:80"))
    assert address("db") in linked()
    docker("rm", "-f", "db")
    assert "elements" not in linked()
