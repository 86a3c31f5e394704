"""The filters of GET /containers/json. Every key must match; of its values one is enough (labels: all)."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from compat_engine.engine.filters import Filters, any_match, boolean_filter, check_filters, labels_match
from compat_engine.engine.networks import network_settings, ports_summary
from compat_engine.engine.parts import Engine
from compat_engine.engine.records import ZERO_TIME
from compat_engine.engine.registry import Container
from compat_engine.errors import EngineError, Internal, InvalidParameter
from compat_engine.images.images import Image

_ACCEPTED = frozenset(
    ("ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network", "publish",
     "since", "status", "volume")
)  # fmt: skip
_STATUSES = frozenset(("created", "restarting", "running", "removing", "paused", "exited", "dead"))
_HEALTHS = frozenset(("none", "starting", "healthy", "unhealthy"))
Test = Callable[[Container], bool]


class Selection:
    """Checks the filters when made: raises InvalidParameter, NotFound (before, since), Internal (ports), with dockerd's texts."""

    def __init__(self, engine: Engine, filters: Filters) -> None:
        check_filters(filters, _ACCEPTED)
        self._engine = engine
        self._before = _last(engine, filters, "before")
        self._since = _last(engine, filters, "since")
        makers = {
            "ancestor": self._ancestor, "exited": self._exited, "expose": self._expose, "health": self._health,
            "network": self._network, "publish": self._publish, "status": self._status, "volume": self._volume,
        }  # fmt: skip
        self._tests: list[Test] = [make(filters[key]) for key, make in makers.items() if filters.get(key)]
        if filters.get("label"):
            self._tests.append(lambda item: labels_match(filters, item.record.config.Labels))
        if filters.get("name"):
            self._tests.append(lambda item: any_match(filters["name"], _names(engine, item)))
        if filters.get("id"):
            self._tests.append(lambda item: item.id.startswith(tuple(filters["id"])))
        if boolean_filter(filters, "is-task"):
            self._tests.append(lambda item: False)  # there is no swarm, so nothing is a task

    def between(self, newest_first: Iterable[Container]) -> Iterator[Container]:
        """Those created before `before` and after `since`."""
        begun = self._before is None
        for container in newest_first:
            if container is self._since:
                return
            if begun:
                yield container
            begun = begun or container is self._before

    def accepts(self, container: Container) -> bool:
        return all(test(container) for test in self._tests)

    def _ancestor(self, words: Sequence[str]) -> Test:
        found = [image for word in words if (image := _image(self._engine, word))]
        ids = {image.id for image in found}
        wanted = {item.record.image for item in self._engine.containers.all() if self._descends(item.record.image, found)} | ids
        return lambda item: item.record.image in wanted

    def _descends(self, id: str, ancestors: Iterable[Image]) -> bool:
        image = _image(self._engine, id)
        layers = [layer.diff_id for layer in image.layers] if image else []
        stacks = [[layer.diff_id for layer in ancestor.layers] for ancestor in ancestors]
        return any(stack and len(stack) < len(layers) and layers[: len(stack)] == stack for stack in stacks)

    def _exited(self, codes: Sequence[str]) -> Test:
        wanted = {_exit_code(code) for code in codes}
        return lambda item: item.state.exit_code in wanted and not item.state.running and item.state.started_at != ZERO_TIME

    def _expose(self, ports: Sequence[str]) -> Test:
        wanted = {port for word in ports for port in port_range(word, "expose")}
        return lambda item: not wanted.isdisjoint(_with_protocol(item.record.config.ExposedPorts or ()))

    def _publish(self, ports: Sequence[str]) -> Test:
        wanted = {port for word in ports for port in port_range(word, "publish")}

        def published(item: Container) -> bool:
            ports = [port for port in ports_summary(self._engine, item) if "PublicPort" in port]
            return any(f"{port['PublicPort']}/{port['Type']}" in wanted for port in ports)

        return published

    def _health(self, words: Sequence[str]) -> Test:
        for word in words:
            if word not in _HEALTHS:
                raise InvalidParameter(f"unrecognized filter value for health: {word}")
        return lambda item: (item.health.status if item.health else "none") in words

    def _network(self, words: Sequence[str]) -> Test:
        def joined(item: Container) -> bool:
            networks = network_settings(self._engine, item)["Networks"]
            return any(
                word == name or (word and view["NetworkID"].startswith(word)) for name, view in networks.items() for word in words
            )

        return joined

    def _status(self, words: Sequence[str]) -> Test:
        for word in words:
            if word not in _STATUSES:
                raise InvalidParameter(f"invalid filter 'status={word}'")
        return lambda item: item.state.status in words

    def _volume(self, words: Sequence[str]) -> Test:
        return lambda item: any(
            word in (point.name or point.source, point.destination) for point in item.record.mounts for word in words
        )


def _names(engine: Engine, container: Container) -> list[str]:
    names = engine.containers.names(container)
    return [*names, *(f"/{name}" for name in names)]


def port_range(word: str, what: str) -> Iterator[str]:
    """ "80", "80/udp", "8000-8010/tcp" as the single ports they mean. Raises Internal with dockerd's text: it answers 500."""
    numbers, _, protocol = word.partition("/")
    first, _, last = numbers.partition("-")
    for number in (first, last or first):
        if not number.isdecimal() or len(number) > 5 or int(number) > 65535:
            reason = "value out of range" if number.isdecimal() else "invalid syntax"
            raise Internal(f'error while looking up for {what} {word}: strconv.ParseUint: parsing "{number}": {reason}')
    for port in range(int(first), int(last or first) + 1):
        yield f"{port}/{protocol or 'tcp'}"


def _with_protocol(ports: Iterable[str]) -> Iterator[str]:
    return (port if "/" in port else f"{port}/tcp" for port in ports)


def _exit_code(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidParameter(f"invalid filter 'exited={text}': strconv.Atoi: parsing \"{text}\": invalid syntax") from None


def _last(engine: Engine, filters: Filters, key: str) -> Container | None:
    found = [engine.containers.find(word) for word in filters.get(key, ())]
    return found[-1] if found else None


def _image(engine: Engine, word: str) -> Image | None:
    try:
        return engine.images.find(word)
    except EngineError:
        return None  # an image nobody has is the ancestor of nothing
