import pytest

from compat_engine.engine.merge import arguments, merge
from compat_engine.wire.container import Config

IMAGE = {
    "Entrypoint": ["/entry"],
    "Cmd": ["serve"],
    "Env": ["A=image", "B=image"],
    "User": "web",
    "WorkingDir": "/srv",
    "Labels": {"l": "i"},
}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ("/entry", "serve")),
        ({"Cmd": ["x", "y"]}, ("/entry", "x", "y")),
        ({"Entrypoint": ["/bin/sh"]}, ("/bin/sh",)),
        ({"Entrypoint": ["/bin/sh"], "Cmd": ["-c", "ls"]}, ("/bin/sh", "-c", "ls")),
        ({"Entrypoint": [""], "Cmd": ["ls"]}, ("ls",)),
        ({"Entrypoint": [""]}, ()),
    ],
)
def test_the_command_line_is_entrypoint_then_cmd(asked: dict[str, object], expected: tuple[str, ...]) -> None:
    assert arguments(merge(Config.parse(asked), Config.parse(IMAGE))) == expected


def test_what_the_client_says_goes_before_the_image() -> None:
    merged = merge(Config.parse({"Env": ["B=mine", "C="], "Labels": {"m": "c"}, "User": "0"}), Config.parse(IMAGE))
    assert merged.Env == ["B=mine", "C=", "A=image"]
    assert merged.Labels == {"l": "i", "m": "c"}
    assert (merged.User, merged.WorkingDir) == ("0", "/srv")


@pytest.mark.parametrize(("asked", "shown"), [("", ""), ("/", "/"), ("/etc/../new/.", "/new"), ("//a//b/", "/a/b"), ("/..", "/")])
def test_the_working_directory_as_a_clean_path(asked: str, shown: str) -> None:
    assert merge(Config(WorkingDir=asked), Config()).WorkingDir == shown


def test_a_port_without_protocol_is_tcp() -> None:
    merged = merge(Config.parse({"ExposedPorts": {"80": {}, "53/udp": {}}}), Config.parse({"ExposedPorts": {"443/tcp": {}}}))
    assert sorted(merged.ExposedPorts or ()) == ["443/tcp", "53/udp", "80/tcp"]
