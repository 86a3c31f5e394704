"""Cases about images and archives. Each measurement uses layers no engine has seen, and begins with the disk at rest.

Nothing is removed before the last: a filesystem is slow to make files where many were deleted a moment ago.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.case import Case
from benchmarks.peer import MARK, CommandFailed, Peer, memory

_FILL = 300_000_000  # bytes a container has written before its commit


def load(kind: str) -> Callable[[Peer], float]:
    def measure(peer: Peer) -> float:
        archive = peer.fixtures.corpus.archive(kind, MARK, f"{MARK}/{kind}:{_word()}")
        return _rested(peer, "load", "-q", "-i", str(archive))

    return measure


def pull(kind: str) -> Callable[[Peer], float]:
    return lambda peer: _rested(peer, "pull", "-q", published(peer, kind))


def published(peer: Peer, kind: str) -> str:
    return peer.fixtures.publish(peer.fixtures.corpus.image(kind, MARK, gzipped=True), f"{MARK}/{kind}", _word())


def loaded(kind: str) -> Callable[[Peer], None]:
    return lambda peer: peer.kept.update(image=_load(peer, kind))


def push(peer: Peer) -> float:
    """ms to push an image that was loaded, so that its layers are to be compressed."""
    there = f"{peer.fixtures.registry.host}/{MARK}/pushed:{_word()}"
    peer.docker("tag", _load(peer, "python"), there)
    return _rested(peer, "push", "-q", there)


def save(peer: Peer) -> float:
    return _rested(peer, "save", peer.kept["image"])


def export(peer: Peer) -> float:
    return _rested(peer, "export", peer.kept["id"])


def with_container(peer: Peer) -> None:
    """A running container that has the tree in /tree."""
    peer.kept["id"] = peer.run("-d", "busybox", "sleep", "6000")
    peer.docker("cp", str(peer.fixtures.corpus.tree()), f"{peer.kept['id']}:/tree")


def image_container(peer: Peer) -> None:
    peer.kept["id"] = peer.docker("create", "--label", MARK, _load(peer, "python"))


def large_container(peer: Peer) -> None:
    """A running container with _FILL bytes in a few files."""
    peer.kept["id"] = peer.run("-d", "busybox", "sleep", "6000")
    each = _FILL // 10
    script = f"for i in 0 1 2 3 4 5 6 7 8 9; do head -c {each} /dev/urandom > /file-$i; done"
    peer.docker("exec", peer.kept["id"], "sh", "-c", script)


def commit(peer: Peer) -> float:
    """ms; the container is changed a little each time, so that the layer is new."""
    peer.docker("exec", peer.kept["id"], "sh", "-c", f"echo {_word()} > /word")
    return _rested(peer, "commit", peer.kept["id"], f"{MARK}/commit:{_word()}")


def copy_in(peer: Peer) -> float:
    return _rested(peer, "cp", str(peer.fixtures.corpus.tree()), f"{peer.kept['id']}:/{_word()}")


def copy_out(peer: Peer) -> float:
    return _rested(peer, "cp", f"{peer.kept['id']}:/tree", str(peer.fixtures.directory / f"out-{_word()}"))


def archive_in(peer: Peer) -> float:
    """ms to unpack the tree, sent as one tar: of `docker cp` the engine's own part, without the client, which takes longer."""
    directory = f"/{_word()}"
    peer.docker("exec", peer.kept["id"], "mkdir", directory)
    os.sync()
    return peer.upload(f"/containers/{peer.kept['id']}/archive?path={directory}", peer.fixtures.corpus.tree_archive()) * 1000


def archive_out(peer: Peer) -> float:
    """ms to receive the tree as one tar."""
    os.sync()
    return peer.download(f"/containers/{peer.kept['id']}/archive?path=/tree") * 1000


def pull_memory(peer: Peer) -> float:
    """MB of all the engine's processes, at the moment of a large pull when they had most."""
    most = 0.0
    for _ in _while_pulling(peer):
        most = max(most, _engine_memory(peer))
        time.sleep(0.02)
    return most


def pull_ping(peer: Peer) -> float:
    """ms within which 99 of 100 pings are answered during a large pull."""
    taken = []
    for _ in _while_pulling(peer):
        began = time.perf_counter()
        peer.ping()
        taken.append(time.perf_counter() - began)
        time.sleep(0.01)
    return sorted(taken)[len(taken) * 99 // 100] * 1000


def _while_pulling(peer: Peer) -> Iterator[None]:
    """A pull of one layer of a gigabyte; steps until it is done."""
    with _background(peer, "pull", "-q", published(peer, "big")) as running:
        while running():
            yield


@contextmanager
def _background(peer: Peer, *args: str) -> Iterator[Callable[[], bool]]:
    failures: list[CommandFailed] = []

    def work() -> None:
        try:
            peer.docker(*args)
        except CommandFailed as failure:
            failures.append(failure)

    os.sync()
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread.is_alive
    finally:
        thread.join()
    if failures:
        raise failures[0]


def _engine_memory(peer: Peer) -> float:
    total = 0.0
    for pid in peer.daemon_pids():
        try:
            total += memory(pid, "Pss")
        except (FileNotFoundError, ProcessLookupError):  # a worker that has just ended
            continue
    return total


def _load(peer: Peer, kind: str) -> str:
    tag = f"{MARK}/{kind}:{_word()}"
    peer.docker("load", "-q", "-i", str(peer.fixtures.corpus.archive(kind, MARK, tag)))
    return tag


def _rested(peer: Peer, *args: str) -> float:
    os.sync()
    return peer.seconds(*args) * 1000


def _word() -> str:
    return f"{random.getrandbits(64):016x}"


FASTER, COPY, STREAM = {"dockerd": 0.25, "podman": 0.5}, {"dockerd": 0.6}, {"dockerd": 0.7}
CASES = {
    **{f"load-{kind}": Case("ms", load(kind), rounds=5, goals=FASTER) for kind in ("debian", "python", "node")},
    **{f"pull-{kind}": Case("ms", pull(kind), rounds=5, goals=FASTER) for kind in ("debian", "python", "node")},
    "commit": Case("ms", commit, large_container, rounds=7, goals={"dockerd": 0.25}),
    "commit-files": Case("ms", commit, with_container, rounds=7, goals={"dockerd": 0.25}),
    "cp-in": Case("ms", copy_in, with_container, rounds=5, goals=COPY),
    "cp-out": Case("ms", copy_out, with_container, rounds=5, goals=COPY),
    "archive-in": Case("ms", archive_in, with_container, rounds=5, goals=COPY),
    "archive-out": Case("ms", archive_out, with_container, rounds=5, goals=COPY),
    "export": Case("ms", export, image_container, rounds=7, goals=STREAM),
    "save": Case("ms", save, loaded("python"), rounds=7, goals=STREAM),
    "push": Case("ms", push, rounds=5, goals=STREAM),
    "pull-memory": Case("MB", pull_memory, rounds=2, goals={"": 100}),
    "pull-ping": Case("ms", pull_ping, rounds=2, goals={"": 20}),
}
