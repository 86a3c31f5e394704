"""Fixtures of the end-to-end tests: a live daemon, the docker CLI and docker-py.

COMPAT_TEST_HOST=unix:///... runs them against another engine instead, to see that what they ask for is what Docker does.
"""

import os
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import docker as docker_py
import hypothesis
import pytest

from tests.support.daemon import Daemon, own_daemon
from tests.support.docker import Docker
from tests.support.leftovers import traces

# The same examples in every run, however slow the machine: what fails here fails everywhere.
hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize=True, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")


def pytest_configure() -> None:
    """Ended by SIGTERM, as `timeout` does, a run still tears its daemons down."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def clean_host() -> Iterator[None]:
    """Fails at the very end when the run has left anything on the host."""
    before = traces()
    yield
    deadline = time.monotonic() + 30
    while (left := traces() - before) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, "this run has left behind:\n" + "\n".join(sorted(left))


@pytest.fixture(scope="session")
def engine_host() -> Iterator[str]:
    """DOCKER_HOST of the engine under test, busybox loaded. Fails at the end when a container left something behind."""
    if other := os.environ.get("COMPAT_TEST_HOST"):
        yield other
        return
    daemon = own_daemon("a", 0)
    try:
        daemon.start()
        daemon.load_busybox()
        yield daemon.host
    finally:
        left = daemon.destroy()
    assert not left, "left behind:\n" + "\n".join(left)


@pytest.fixture
def engine_daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A daemon for one test alone, busybox loaded: for tests that stop, kill or restart it."""
    if os.environ.get("COMPAT_TEST_HOST"):
        pytest.skip("needs a daemon of its own, COMPAT_TEST_HOST names another engine")
    daemon = own_daemon("b", 1, **getattr(request, "param", {}))
    try:
        daemon.start()
        daemon.load_busybox()
        yield daemon
    finally:
        left = daemon.destroy()
    assert not left, "left behind:\n" + "\n".join(left)


@pytest.fixture
def docker(engine_host: str, tmp_path: Path) -> Iterator[Docker]:
    """The docker CLI on the engine under test."""
    if shutil.which("docker") is None:
        pytest.skip("the docker CLI is not installed; tests/e2e/test_docker_py.py covers the same ground without it")
    docker = Docker(engine_host, f"compat-test={secrets.token_hex(6)}", str(tmp_path))
    yield docker
    docker.clean()


@pytest.fixture
def client(engine_host: str) -> Iterator[docker_py.DockerClient]:
    """docker-py on the engine under test; containers made during the test are removed after it."""
    client = docker_py.DockerClient(base_url=engine_host, timeout=60)
    yield client
    client.close()


@pytest.fixture
def unique() -> str:
    """A name nothing else on the engine has."""
    return f"cet-{secrets.token_hex(6)}"
