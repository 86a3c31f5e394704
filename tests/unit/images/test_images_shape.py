from typing import Any

import pytest

from compat_engine.errors import InvalidParameter
from compat_engine.images.shape import check_shape

GOOD = {
    "created": "2026-01-01T00:00:00Z",
    "config": {"Cmd": ["sh"], "Entrypoint": "sh", "Labels": {"a": "b"}, "Volumes": {"/v": {}}, "Env": None, "New": 5},
    "history": [{"created_by": "x", "empty_layer": True}],
    "rootfs": {"type": "layers", "diff_ids": []},
}


def test_what_builders_write_passes() -> None:
    check_shape(GOOD)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"config": 5}, "config"),
        ({"config": {"Labels": 5}}, "config.Labels"),
        ({"config": {"Labels": {"a": 5}}}, "config.Labels.a"),
        ({"config": {"Env": ["a", 5]}}, "config.Env.1"),
        ({"config": {"Cmd": [{}]}}, "config.Cmd"),
        ({"config": {"StopTimeout": True}}, "config.StopTimeout"),
        ({"history": {"a": 1}}, "history"),
        ({"history": [5]}, "history.0"),
        ({"history": [None]}, "history.0"),
        ({"history": [{"empty_layer": "x"}]}, "history.0.empty_layer"),
        ({"created": 5}, "created"),
    ],
)
def test_wrong_types(change: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidParameter, match=rf"wrong type of configuration\.{where}$"):
        check_shape({**GOOD, **change})
