import time

import pytest

from compat_engine.engine.filters import any_match, boolean_filter, duration, labels_match, parse_time, prunable_labels, until
from compat_engine.errors import InvalidParameter


def test_labels() -> None:
    labels = {"a": "1", "b": ""}
    assert labels_match({"label": ["a", "a=1", "b", "b="]}, labels)
    assert not labels_match({"label": ["a", "a=2"]}, labels)
    assert not labels_match({"label": ["c"]}, None)
    assert prunable_labels({"label!": ["c"]}, labels)
    assert not prunable_labels({"label!": ["c", "a=1"]}, labels)


def test_loose_match() -> None:
    assert any_match([], ["x"])
    assert any_match(["^/web$"], ["web", "/web"])
    assert any_match(["e"], ["web"])
    assert not any_match(["["], ["web"])


def test_boolean() -> None:
    assert boolean_filter({}, "dangling") is None
    assert boolean_filter({"dangling": ["1"]}, "dangling") is True
    assert boolean_filter({"dangling": ["false"]}, "dangling") is False
    with pytest.raises(InvalidParameter, match=r"invalid filter 'dangling=\[x\]'"):
        boolean_filter({"dangling": ["x"]}, "dangling")
    assert boolean_filter({"dangling": ["x", "true"]}, "dangling") is True  # the CLI adds its own
    for values, text in (([], "'dangling'"), (["true", "0"], r"'dangling=\[true 0\]'")):
        with pytest.raises(InvalidParameter, match=f"invalid filter {text}"):
            boolean_filter({"dangling": values}, "dangling")


def test_times() -> None:
    assert duration("1h30m") == 5400
    assert duration("1.5s") == 1.5
    assert duration("300ms") == pytest.approx(0.3)
    assert duration("1h nonsense") is None
    assert parse_time("10m") == pytest.approx(time.time() - 600, abs=60)
    assert parse_time("1795502464.5") == 1795502464.5
    assert parse_time("2026-11-24T06:41:04.412771141Z") == pytest.approx(1795502464.412771)
    assert parse_time("2026-11-24T07:41:04+01:00") == 1795502464
    with pytest.raises(InvalidParameter, match='failed to parse value as time or duration: "x"'):
        parse_time("x")
    with pytest.raises(InvalidParameter, match="more than one until filter"):
        until({"until": ["1h", "2h"]})
