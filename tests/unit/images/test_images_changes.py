"""Dockerfile lines on an image configuration: values and Docker's complaints."""

from typing import Any

import pytest

from compat_engine.errors import InvalidParameter
from compat_engine.images.changes import apply


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('CMD ["a", "b"]', {"Cmd": ["a", "b"]}),
        ("cmd echo hi", {"Cmd": ["/bin/sh", "-c", "echo hi"]}),
        ('ENTRYPOINT ["/e"]', {"Entrypoint": ["/e"]}),
        ("ENV A=b C='d e'", {"Env": ["OLD=1", "A=b", "C=d e"]}),
        ("ENV OLD two words", {"Env": ["OLD=two words"]}),
        ('LABEL a="b c" d=e', {"Labels": {"a": "b c", "d": "e"}}),
        (
            "EXPOSE 80 53/UDP 8000-8002",
            {"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {}}},
        ),
        ("VOLUME /a /b", {"Volumes": {"/a": {}, "/b": {}}}),
        ('VOLUME ["/a b"]', {"Volumes": {"/a b": {}}}),
        ("WORKDIR sub/../dir", {"WorkingDir": "/dir"}),
        ("USER 1:2", {"User": "1:2"}),
        ("STOPSIGNAL SIGTERM", {"StopSignal": "SIGTERM"}),
        ("ONBUILD RUN x", {"OnBuild": ["RUN x"]}),
        ("HEALTHCHECK NONE", {"Healthcheck": {"Test": ["NONE"]}}),
        (
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl x",
            {"Healthcheck": {"Test": ["CMD-SHELL", "curl x"], "Interval": 90_000_000_000, "Retries": 3}},
        ),
    ],
)
def test_instructions(line: str, expected: dict[str, Any]) -> None:
    before = {"Env": ["OLD=1"]}
    assert apply(before, [line]) == {**before, **expected}
    assert before == {"Env": ["OLD=1"]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("FOO x", "FOO is not a valid change command"),
        ("RUN x", "RUN is not a valid change command"),
        ("EXPOSE x", "Invalid containerPort: x"),
        ("ENV x", "ENV must have two arguments"),
        ("LABEL x", "LABEL must have two arguments"),
        ("USER", "USER requires exactly one argument"),
        ("STOPSIGNAL x", "invalid signal: x"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ENV a='b", "ENV: unexpected end of statement while looking for matching quote"),
    ],
)
def test_refused(line: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as error:
        apply({}, [line])
    assert str(error.value) == message
