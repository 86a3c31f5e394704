import pytest

from compat_engine.engine.links import Linked, link_hosts, link_variables, parse_link
from compat_engine.engine.records import ContainerRecord, Link, RunState
from compat_engine.engine.registry import Container
from compat_engine.errors import Internal
from compat_engine.network.files import moved
from compat_engine.wire.container import Config, HostConfig


def linked(alias: str, config: dict[str, object], ip: str = "10.0.0.2") -> Linked:
    record = ContainerRecord(
        id="i" * 64, name="server", created="", config=Config.parse({"Hostname": "host", **config}),
        host_config=HostConfig.parse({}), image="sha256:0", endpoints={}, args=("sh",),
    )  # fmt: skip
    return Linked(Link(alias, record.id, record.name), Container(record, RunState()), ip)


def variables(config: dict[str, object]) -> dict[str, str]:
    words = link_variables("web", [linked("my-db", config)])
    return {name: value for name, _, value in (word.partition("=") for word in words)}


@pytest.mark.parametrize(
    ("text", "parsed"),
    [("db", ("db", "db")), ("db:x", ("db", "x")), ("/db:/web/x", ("db", "x"))],
)
def test_the_forms_of_a_link(text: str, parsed: tuple[str, str]) -> None:
    assert parse_link(text) == parsed


@pytest.mark.parametrize(
    ("text", "message"), [("", "empty string specified for links"), ("a:b:c", "bad format for links: a:b:c")]
)
def test_no_link(text: str, message: str) -> None:
    with pytest.raises(Internal) as raised:
        parse_link(text)
    assert str(raised.value) == message


def test_variables_of_ports() -> None:
    found = variables({"ExposedPorts": {"80/tcp": {}, "53/udp": {}}})
    assert found["MY_DB_PORT"] == "udp://10.0.0.2:53"
    assert found["MY_DB_PORT_80_TCP"] == "tcp://10.0.0.2:80"
    assert [found[f"MY_DB_PORT_80_TCP_{part}"] for part in ("ADDR", "PORT", "PROTO")] == ["10.0.0.2", "80", "tcp"]
    assert found["MY_DB_NAME"] == "/web/my-db"
    assert not [name for name in found if name.endswith(("START", "END"))]


def test_three_ports_in_a_row_are_a_range_two_are_not() -> None:
    found = variables({"ExposedPorts": {f"{port}/tcp": {} for port in (80, 81, 82, 90, 91)}})
    ends = {name: value for name, value in found.items() if name.endswith(("START", "END"))}
    assert ends == {
        "MY_DB_PORT_80_TCP_START": "tcp://10.0.0.2:80",
        "MY_DB_PORT_80_TCP_PORT_START": "80",
        "MY_DB_PORT_80_TCP_END": "tcp://10.0.0.2:82",
        "MY_DB_PORT_80_TCP_PORT_END": "82",
    }


def test_the_targets_own_variables_but_for_those_of_the_system() -> None:
    found = variables({"Env": ["A=1", "PATH=/x", "HOME=/h", "UNSET"]})
    assert {name: value for name, value in found.items() if "_ENV_" in name} == {"MY_DB_ENV_A": "1"}


def test_hosts_name_the_alias_first_and_follow_an_address() -> None:
    assert [*link_hosts([linked("db", {})])] == [("db host server", "10.0.0.2")]
    assert [*link_hosts([linked("server", {})])] == [("server host", "10.0.0.2")]
    text = "127.0.0.1\tlocalhost\n10.0.0.2\tdb host server\n10.0.0.3\tdb2\n\n"
    assert moved(text, [("db host renamed", "10.0.0.9")]) == text.replace("10.0.0.2", "10.0.0.9")
