import pytest

from compat_engine.network.files import embedded_resolv_conf, host_copy, hosts, name_servers, resolv_conf


def test_hosts_as_dockerd_writes_it() -> None:
    text = hosts("myhost", "example.com", ["172.31.0.4"], ["foo:1.2.3.4", "gw=host-gateway", "v6:::1"], ["172.31.0.1", "fd00::1"])
    assert text.splitlines()[-5:] == [
        "1.2.3.4\tfoo",
        "172.31.0.1\tgw",
        "fd00::1\tgw",
        "::1\tv6",
        "172.31.0.4\tmyhost.example.com myhost",
    ]
    assert text.startswith("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")


@pytest.mark.parametrize(
    ("entry", "text"), [("foo", "bad format"), ("foo:bar", "invalid IP address"), (":1.2.3.4", "bad format")]
)
def test_bad_extra_hosts(entry: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        hosts("h", "", [], [entry], ())


def test_host_copy_keeps_the_hosts_own_text() -> None:
    assert host_copy("127.0.0.1 x", ["foo:1.2.3.4"], ()) == "127.0.0.1 x\n1.2.3.4\tfoo\n"


HOST = "# c\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch a b\noptions edns0 trust-ad\n"


@pytest.mark.parametrize(
    ("host", "asked", "expected"),
    [
        (HOST, {}, "nameserver 10.0.0.1\nsearch a b\noptions edns0 trust-ad\n"),
        ("nameserver 127.0.0.53\n", {}, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
        (HOST, {"loopback": True}, "nameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch a b\noptions edns0 trust-ad\n"),
        (HOST, {"servers": ["1.1.1.1"], "search": ["."], "options": ["ndots:3"]}, "nameserver 1.1.1.1\noptions ndots:3\n"),
        ("", {}, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
        ("nameserver fd00::53\nnameserver 10.0.0.1\n", {}, "nameserver 10.0.0.1\n"),
        ("nameserver fd00::53\nnameserver ::1\n", {"ipv6": True}, "nameserver fd00::53\n"),
        (
            "",
            {"ipv6": True},
            "nameserver 8.8.8.8\nnameserver 8.8.4.4\nnameserver 2001:4860:4860::8888\nnameserver 2001:4860:4860::8844\n",
        ),
    ],
)
def test_resolv_conf(host: str, asked: dict[str, object], expected: str) -> None:
    assert resolv_conf(host, **asked) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "search", "options", "expected"),
    [
        (HOST, [], [], "nameserver 127.0.0.11\nsearch a b\noptions edns0 trust-ad ndots:0\n"),
        (HOST, ["x.test"], ["timeout:1", "ndots:3"], "nameserver 127.0.0.11\nsearch x.test\noptions timeout:1 ndots:3\n"),
        ("", ["."], [], "nameserver 127.0.0.11\noptions ndots:0\n"),
    ],
)
def test_embedded_resolv_conf(host: str, search: list[str], options: list[str], expected: str) -> None:
    assert embedded_resolv_conf(host, search, options) == expected


def test_name_servers_of_the_hosts_loopback_are_asked_from_the_host() -> None:
    assert name_servers(HOST) == [("127.0.0.53", True), ("10.0.0.1", False)]
    assert name_servers(HOST, ["127.0.0.1", "127.0.0.11", "dns.test"]) == [("127.0.0.1", False)]
    assert name_servers("") == [("8.8.8.8", False), ("8.8.4.4", False)]
