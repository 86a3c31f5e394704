"""A disk that is full: whatever needs room says so, nothing is half there, and the next try works."""

import contextlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compat_engine.kernel.mounts import MS_REMOUNT, mount, umount2
from tests.support.daemon import Daemon, own_daemon
from tests.support.docker import Docker, eventually
from tests.support.registry import PROGRAM, registry
from tests.support.tars import Item, docker_archive, tar

pytestmark = pytest.mark.skipif("COMPAT_TEST_HOST" in os.environ, reason="another engine's disk is not ours to fill")
FULL = "no space left on device"
SMALL, ROOMY = "size=112m", "size=768m"  # the engine leaves 64 MB free
BIG = 80 << 20  # bytes


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One whose data root is a file system of its own, with room."""
    disk = tmp_path_factory.mktemp("disk")
    mount("tmpfs", str(disk), "tmpfs", 0, ROOMY)
    daemon = own_daemon("f", 4, base=str(disk))
    try:
        daemon.start()
        daemon.load_busybox()
        yield daemon
    finally:
        left = daemon.destroy()
        umount2(str(disk), 0)
    assert not left, "left behind:\n" + "\n".join(left)


@pytest.fixture
def docker(daemon: Daemon, tmp_path: Path) -> Iterator[Docker]:
    """The CLI; whatever a test did, the disk has room again after it and the engine has what it had before."""
    docker = Docker(daemon.host, "compat-test=full", str(tmp_path))
    before = state(daemon, docker)
    yield docker
    room(daemon, ROOMY)
    docker.clean()
    assert state(daemon, docker) == before


def room(daemon: Daemon, size: str) -> None:
    mount(None, daemon.base, "tmpfs", MS_REMOUNT, size)


def state(daemon: Daemon, docker: Docker) -> dict[str, object]:
    """Images, and the files of them: nothing unfinished, nothing nobody refers to."""
    files = {name: sorted(os.listdir(daemon.data / name)) for name in ("tmp", "downloads", "overlay2", "blobs")}
    return {"images": docker("images", "-aq", "--no-trunc"), **files}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of one large file that no compression makes smaller."""
    file = tmp_path_factory.mktemp("archive") / "big.tar"
    file.write_bytes(docker_archive(tar(Item("big", random.Random(1).randbytes(BIG))), tags=("full/big:1",)))
    return file


@contextmanager
def full(daemon: Daemon) -> Iterator[None]:
    """Not one byte is left meanwhile."""
    filler = Path(daemon.base, "filler")
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
            file.flush()
    try:
        yield
    finally:
        filler.unlink()


def test_load(daemon: Daemon, docker: Docker, archive: Path) -> None:
    room(daemon, SMALL)
    assert FULL in docker.fails("load", "-i", str(archive))
    assert docker("images", "-q", "full/big") == ""
    assert docker("run", "--rm", "busybox", "echo", "still there") == "still there"
    room(daemon, ROOMY)
    docker("load", "-i", str(archive))
    assert docker(
        "run", "--rm", "-v", "/bin/busybox:/bin/busybox", "full/big:1", "/bin/busybox", "stat", "-c", "%s", "/big"
    ) == str(BIG)
    docker("rmi", "full/big:1")


@pytest.mark.skipif(not PROGRAM, reason="docker-registry is not installed")
def test_pull_and_push(daemon: Daemon, docker: Docker, archive: Path, tmp_path: Path) -> None:
    docker("load", "-q", "-i", str(archive))
    with registry(tmp_path) as here:
        name = f"{here.host}/full:1"
        docker("tag", "full/big:1", name)
        docker("rmi", "full/big:1")
        with full(daemon):  # it is sent as it is packed; only what is known of it needs room
            assert FULL in docker.fails("push", name)
        docker("push", "-q", name)
        docker("rmi", name)
        room(daemon, SMALL)
        assert f"failed to register layer: {FULL}" in docker.fails("pull", name)
        assert docker("images", "-q", "full/big") == ""
        room(daemon, ROOMY)
        docker("pull", "-q", name)
        assert docker("run", "--rm", "-v", "/bin/busybox:/bin/busybox", name, "/bin/busybox", "stat", "-c", "%s", "/big") == str(
            BIG
        )
        docker("rmi", name)


def test_import(daemon: Daemon, docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(tar(Item("big", random.Random(2).randbytes(BIG))))
    room(daemon, SMALL)
    assert FULL in docker.fails("import", str(tmp_path / "root.tar"), "full/imported:1")
    room(daemon, ROOMY)
    docker("import", str(tmp_path / "root.tar"), "full/imported:1")
    docker("rmi", "full/imported:1")


def test_commit_and_export(daemon: Daemon, docker: Docker, tmp_path: Path) -> None:
    container = docker("create", "busybox", "sh", "-c", f"head -c {BIG} /dev/urandom > /big")
    docker("start", "-a", container)
    with full(daemon):
        assert FULL in docker.fails("commit", container, "full/commit:1")
        docker("export", "-o", str(tmp_path / "whole.tar"), container)
        docker("cp", f"{container}:/big", str(tmp_path / "big"))
    assert (tmp_path / "big").stat().st_size == BIG
    docker("commit", container, "full/commit:1")
    assert docker("run", "--rm", "full/commit:1", "stat", "-c", "%s", "/big") == str(BIG)
    docker("rmi", "full/commit:1")


def test_not_one_byte(daemon: Daemon, docker: Docker, archive: Path) -> None:
    docker("load", "-q", "-i", str(archive))
    with full(daemon):
        for command in (["tag", "busybox", "full/tag:1"], ["create", "busybox"], ["volume", "create", "full"]):
            assert FULL in docker.fails(*command), command
        assert docker("images", "-q", "full/tag") == docker("volume", "ls", "-q") == docker("ps", "-aq") == ""
        docker("rmi", "full/big:1")  # what makes room goes on
        assert docker("images", "-q", "full/big") == ""
    docker("tag", "busybox", "full/tag:1")
    docker("rmi", "full/tag:1")


def test_a_daemon_that_starts_on_it(daemon: Daemon, docker: Docker, archive: Path) -> None:
    room(daemon, SMALL)
    loading = docker.start("load", "-q", "-i", str(archive))
    eventually(lambda: bool(os.listdir(daemon.data / "tmp")) or loading.poll() is not None)
    daemon.kill9()
    loading.communicate(timeout=60)
    with full(daemon):
        daemon.start()
        assert docker("images", "-q", "full/big") == ""
        assert os.listdir(daemon.data / "tmp") == []
