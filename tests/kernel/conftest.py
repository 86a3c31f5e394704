"""A host, its neighbour on a wire, and servers: each a network namespace."""

from collections.abc import Iterator

import pytest

from tests.support.hosts import Namespace, namespace, wired_host


@pytest.fixture
def neighbour() -> Iterator[Namespace]:
    made = namespace("sleep", "1000")
    yield made
    made.end()


@pytest.fixture
def host(neighbour: Namespace) -> Iterator[Namespace]:
    """This thread, and the threads it starts, are in it during the test."""
    with wired_host(neighbour) as made:
        yield made


@pytest.fixture
def servers() -> Iterator[dict[str, Namespace]]:
    """By name; a test puts them in, here they end."""
    made: dict[str, Namespace] = {}
    yield made
    for one in made.values():
        one.end()
