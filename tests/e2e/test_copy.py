"""docker cp, diff and export: files in and out of containers, and what must not get out."""

import contextlib
import io
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import docker as docker_py
import pytest

from tests.support import tars
from tests.support.docker import Docker

IMAGE = "busybox:latest"


@pytest.fixture
def container(docker: Docker) -> str:
    return docker("run", "-d", "--network", "none", IMAGE, "sleep", "1000")


def tree(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_text("content")
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o4755)
    (source / "link").symlink_to("sub/file")
    return source


def unpacked(docker: Docker, *arguments: str) -> dict[str, tarfile.TarInfo]:
    """Members of the tar a command prints."""
    command = subprocess.run(docker.command(*arguments), capture_output=True, check=True, env=docker.environment, timeout=60)
    return {member.name: member for member in tarfile.open(fileobj=io.BytesIO(command.stdout))}


def test_there_and_back(docker: Docker, container: str, tmp_path: Path) -> None:
    docker("cp", str(tree(tmp_path)), f"{container}:/new")
    docker("cp", f"{container}:/new", str(tmp_path / "back"))
    back = tmp_path / "back"
    assert (back / "sub" / "file").read_text() == "content"
    assert (back / "link").readlink() == Path("sub/file")
    assert (back / "run").stat().st_mode & 0o7777 == 0o4755


def test_into_one_that_will_be_removed_when_it_ends(docker: Docker, tmp_path: Path) -> None:
    """It has stood by for a start before that, on a mount that the kernel does not take up again just so."""
    (tmp_path / "file").write_text("content")
    container = docker("create", "--rm", "--network", "none", IMAGE, "cat", "/file")
    time.sleep(0.1)
    docker("cp", str(tmp_path / "file"), f"{container}:/file")
    assert docker("start", "-a", container) == "content"


def test_what_is_in_a_directory(docker: Docker, container: str, tmp_path: Path) -> None:
    docker("cp", f"{tree(tmp_path)}/.", f"{container}:/tmp")
    assert docker("exec", container, "cat", "/tmp/sub/file") == "content"
    docker("cp", f"{container}:/tmp/sub/.", str(tmp_path))
    assert (tmp_path / "file").read_text() == "content"


def test_a_file_onto_another_name(docker: Docker, container: str, tmp_path: Path) -> None:
    docker("cp", str(tree(tmp_path) / "run"), f"{container}:/tmp/other")
    assert docker("exec", container, "cat", "/tmp/other") == "#!/bin/sh"


def test_following_links(docker: Docker, container: str, tmp_path: Path) -> None:
    docker("exec", container, "sh", "-c", "mkdir /d; echo x > /d/f; ln -s /d/f /l; ln -s /d /ld")
    docker("cp", "-L", f"{container}:/l", str(tmp_path / "followed"))
    assert (tmp_path / "followed").read_text() == "x\n"
    docker("cp", f"{container}:/l", str(tmp_path / "kept"))
    assert (tmp_path / "kept").is_symlink()
    docker("cp", str(tree(tmp_path) / "run"), f"{container}:/ld/")
    assert docker("exec", container, "ls", "/d/run") == "/d/run"


def test_streams(docker: Docker, container: str) -> None:
    archive = tars.tar(tars.directory("s"), tars.Item("s/f", b"streamed"))
    subprocess.run(docker.command("cp", "-", f"{container}:/tmp"), input=archive, check=True, env=docker.environment, timeout=60)
    found = unpacked(docker, "cp", f"{container}:/tmp/s", "-")
    assert list(found) == ["s", "s/f"]


def test_created_and_stopped(docker: Docker, tmp_path: Path) -> None:
    container = docker("create", "--network", "none", "-v", "/vol", "-w", "/app/dir", IMAGE, "cat", "/vol/sub/file", "/app/dir/file")
    docker("cp", f"{tree(tmp_path)}/.", f"{container}:/vol")
    docker("cp", str(tree(tmp_path / "2") / "sub" / "file"), f"{container}:/app/dir/")
    assert docker("start", "-a", container) == "contentcontent"
    assert list(unpacked(docker, "cp", f"{container}:/vol/sub", "-")) == ["sub", "sub/file"]


def test_owners(docker: Docker, container: str, tmp_path: Path) -> None:
    user = docker("run", "-d", "--network", "none", "-u", "daemon", IMAGE, "sleep", "1000")
    source = tree(tmp_path)
    subprocess.run(["chown", "7:8", source / "run"], check=True)
    docker("cp", "-a", str(source / "run"), f"{user}:/tmp/")
    docker("cp", "-a", str(source / "run"), f"{container}:/tmp/")
    assert docker("exec", user, "stat", "-c", "%U", "/tmp/run") == "daemon"
    assert docker("exec", container, "stat", "-c", "%u:%g", "/tmp/run") == "7:8"


def test_refusals(docker: Docker, container: str, tmp_path: Path) -> None:
    source = str(tree(tmp_path) / "run")
    assert f"Could not find the file /nope in container {container}" in docker.fails("cp", f"{container}:/nope", str(tmp_path))
    assert "no such directory" in docker.fails("cp", source, f"{container}:/nope/")
    locked = docker("create", "--read-only", "-v", "/vol", IMAGE)
    assert "container rootfs is marked read-only" in docker.fails("cp", source, f"{locked}:/tmp/")
    docker("cp", source, f"{locked}:/vol/")


@pytest.mark.parametrize(
    "archive",
    [
        tars.tar(tars.Item("../../../../escape", b"x")),
        tars.tar(tars.symlink("l", "/.."), tars.Item("l/../escape", b"x")),
        tars.tar(tars.symlink("l", "../../.."), tars.Item("l/escape", b"x")),
        tars.tar(tars.symlink("l", "/proc/1/root"), tars.Item("l/escape", b"x")),
        tars.tar(tars.hard_link("h", "../../../etc/hostname"), tars.Item("h", b"x")),
        tars.tar(tars.Item("d", kind=tarfile.BLKTYPE, device=(8, 0)), tars.Item("d", b"x")),
        tars.tar(tars.Item("/escape", b"x")),
    ],
)
def test_nothing_leaves_the_container(docker: Docker, container: str, client: docker_py.DockerClient, archive: bytes) -> None:
    with contextlib.suppress(docker_py.errors.APIError):  # refused is as good
        client.api.put_archive(container, "/tmp", archive)
    assert not Path("/escape").exists()
    assert not Path("/tmp/escape").exists()
    assert docker("exec", container, "echo", "alive") == "alive"


def test_links_that_change_under_way(docker: Docker, container: str, tmp_path: Path) -> None:
    """A directory that a process swaps with a link to / all the time: whatever is read is the container's."""
    docker("exec", container, "sh", "-c", "echo container > /etc/whose; mkdir /d; touch /d/etc")
    script = "while :; do rm -rf /d; mkdir -p /d/etc; rm -rf /d; ln -s / /d; sleep 0.02; done"
    docker("exec", "-d", container, "timeout", "30", "sh", "-c", script)
    seen = number = 0
    while seen < 3 and number < 40:
        number += 1
        docker.run("cp", f"{container}:/d/etc", str(tmp_path / f"out{number}"))
        for found in tmp_path.glob(f"out{number}/passwd"):
            seen += 1
            assert (found.parent / "whose").read_text() == "container\n"
    assert seen, "the link was never there when it was read"


def test_a_reader_that_leaves(docker: Docker, container: str) -> None:
    docker("exec", container, "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null")
    reading = docker.start("cp", f"{container}:/big", "-")
    assert reading.stdout
    assert len(reading.stdout.read(4096)) > 0
    reading.kill()
    reading.communicate()
    assert docker("exec", container, "ls", "/big") == "/big"
    assert docker("rm", "-f", container) == container


def test_many_at_once(docker: Docker, container: str, tmp_path: Path) -> None:
    source = tree(tmp_path)
    failures: list[str] = []

    def copy(number: int) -> None:
        result = docker.run("cp", str(source), f"{container}:/c{number}")
        failures.extend([result.stderr] if result.returncode else [])

    threads = [threading.Thread(target=copy, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert docker("exec", container, "sh", "-c", "ls -d /c? | wc -l") == "6"


def test_diff(docker: Docker, container: str) -> None:
    docker("exec", container, "sh", "-c", "mkdir -p /a/b; touch /etc/new; rm /bin/awk")
    assert sorted(docker("diff", container).splitlines()) == ["A /a", "A /a/b", "A /etc/new", "C /bin", "C /etc", "D /bin/awk"]
    assert docker("diff", docker("create", IMAGE)) == ""


@pytest.mark.parametrize("command", ["create", "run"])
def test_export(docker: Docker, command: str) -> None:
    words = [command, "--network", "none", "-v", "/vol", *(["-d"] if command == "run" else []), IMAGE]
    container = docker(*words, "sleep", "1000")
    found = unpacked(docker, "export", container)
    assert {"bin/busybox", "proc", "sys", "dev", ".dockerenv", "etc/hosts"} <= set(found)
    assert not any(name.startswith(("proc/", "sys/")) for name in found)
    assert found["bin/busybox"].mode == 0o755
