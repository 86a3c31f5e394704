"""Archives as `docker save` wrote them before Docker 1.10 (Docker image specification 1.0): a directory for each layer with its
`json` and `layer.tar`, tied together by parents, and `repositories` for the names."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from compat_engine.errors import InvalidParameter
from compat_engine.images.layers import Incoming, IncomingLayer
from compat_engine.images.reference import parse

_BOUND = ("id", "parent", "Size", "parent_id", "layer_id", "throwaway")  # what made sense for one layer alone
_MAX_PARENTS = 127
_NO_TIME = "0001-01-01T00:00:00Z"


def images(read: Callable[[str], Any], layer: Callable[[str], IncomingLayer]) -> Iterator[Incoming]:
    """The named images as Docker makes them of such an archive: of one that Docker 1.8.3 or later wrote they have the same ids.

    read: the JSON in a member; layer: the blob in one. Raises InvalidParameter.
    """
    for repository, tags in _object(read("repositories")).items():
        for tag, id in _object(tags).items():
            chain = _chain(read, id)
            layers = tuple(layer(f"{id}/layer.tar") for id, _ in chain)
            if any(content.blob.media_type.endswith(("+gzip", "+zstd")) for content in layers):
                raise InvalidParameter("invalid archive: a layer.tar is no tar")
            yield Incoming(_config([step for _, step in chain], layers), layers, (parse(repository).with_tag(str(tag)),))


def _chain(read: Callable[[str], Any], id: Any) -> list[tuple[str, dict[str, Any]]]:
    """(id, description) of an image and all its parents, the lowest first."""
    found: list[tuple[str, dict[str, Any]]] = []
    while id:
        if not isinstance(id, str) or len(found) > _MAX_PARENTS:
            raise InvalidParameter("invalid archive: malformed parents")
        found.insert(0, (id, _object(read(f"{id}/json"))))
        id = found[0][1].get("parent")
    return found


def _config(steps: list[dict[str, Any]], layers: tuple[IncomingLayer, ...]) -> bytes:
    """A configuration of today: what the topmost layer says, byte for byte as Docker writes it."""
    if not steps:
        raise InvalidParameter("invalid archive: an image without layers")
    config = {name: value for name, value in steps[-1].items() if name not in _BOUND}
    config["rootfs"] = {"type": "layers", "diff_ids": [content.blob.digest for content in layers]}
    config["history"] = [_history(step) for step in steps]
    text = json.dumps(dict(sorted(config.items())), separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()


def _history(step: dict[str, Any]) -> dict[str, Any]:
    command = (step.get("container_config") or {}).get("Cmd") or []
    said = {"created_by": " ".join(map(str, command)), "author": step.get("author"), "comment": step.get("comment")}
    return {"created": step.get("created") or _NO_TIME, **{name: value for name, value in said.items() if value}}


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidParameter("invalid archive: malformed image")
    return value
