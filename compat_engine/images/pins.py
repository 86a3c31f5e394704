"""What work under way needs although no record names it yet: chain ids and digests no collection may touch."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Pins:
    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    def __contains__(self, key: object) -> bool:
        return key in self._held

    @contextmanager
    def hold(self, keys: Iterable[str]) -> Iterator[None]:
        held = set(keys)
        self._held.update(held)
        try:
            yield
        finally:
            self._held -= Counter(held)  # drops what reaches zero
