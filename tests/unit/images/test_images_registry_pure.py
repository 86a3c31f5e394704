"""What needs no registry: credentials, challenges, platforms, progress, the daemon's settings."""

import base64
import json
import time
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compat_engine.config import Config, from_arguments
from compat_engine.engine.transfers import platform_of
from compat_engine.errors import Internal, InvalidParameter
from compat_engine.images.registry.auth import Credentials, challenges, parse_credentials
from compat_engine.images.registry.failures import refused, seconds
from compat_engine.images.registry.hosts import HUB, Hosts
from compat_engine.images.registry.manifest import choose, is_index, parse, platforms, read_manifest
from compat_engine.images.registry.progress import drawn, human
from compat_engine.images.registry.tls import read_directory
from tests.support.fake_registry import OCI_INDEX, OCI_MANIFEST

AUTH = {"username": "me", "password": "s?c~et>", "serveraddress": "https://index.docker.io/v1/"}


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("padding", [True, False])
def test_credentials_in_every_alphabet(encode: object, padding: bool) -> None:
    text = (base64.urlsafe_b64encode if encode is base64.urlsafe_b64encode else base64.b64encode)(
        json.dumps(AUTH).encode()
    ).decode()
    found = parse_credentials(text if padding else text.rstrip("="))
    assert found == Credentials("me", "s?c~et>", server="https://index.docker.io/v1/")
    assert "et>" not in repr(found)


def test_credentials_of_other_shapes() -> None:
    assert parse_credentials("e30=") == Credentials()
    both = base64.b64encode(json.dumps({"auth": base64.b64encode(b"me:a:b").decode()}).encode()).decode()
    assert parse_credentials(both) == Credentials("me", "a:b")
    followed = base64.urlsafe_b64encode(b' {"username":"me","password":"b"} and more').decode()
    assert parse_credentials(followed) == Credentials("me", "b")
    for junk in ("!!!", "bnVsbA==", ""):
        with pytest.raises(ValueError):
            parse_credentials(junk)


def test_challenges() -> None:
    header = 'Bearer realm="https://a/t?x=1,2",service="s \\"q\\"",scope=repository:a:pull, Basic realm="b"'
    bearer, basic = challenges([header])
    assert bearer.parameters == {"realm": "https://a/t?x=1,2", "service": 's "q"', "scope": "repository:a:pull"}
    assert (bearer.scheme, basic.scheme, basic.parameters) == ("bearer", "basic", {"realm": "b"})
    assert challenges(["", "Negotiate"])[0].scheme == "negotiate"


@pytest.mark.parametrize(
    "status, body, text",
    [
        (404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","detail":{"Tag":"1"}}]}', "manifest unknown: manifest unknown"),
        (404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}', "manifest unknown"),
        (401, b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":null}]}', "unauthorized"),
        (403, b'{"errors":[{"code":"DENIED","message":"no way"},{"code":"TAG_INVALID"}]}', "denied: no way"),
        (403, b'{"details":"not yours"}', "denied: not yours"),
        (429, b"", "toomanyrequests: "),
        (400, b'{"errors":[{"code":"ODD","message":"a"}]}', "unknown: a"),
        (401, b"", "unauthorized: "),
        (404, b"404 page not found\n", "unknown: 404 page not found\n"),
        (503, b"<html>", "received unexpected HTTP status: 503 Service Unavailable"),
        (500, b'{"errors":[{"code":"UNKNOWN"}]}', "received unexpected HTTP status: 500 Internal Server Error"),
    ],
)
def test_refusals_in_docker_words(status: int, body: bytes, text: str) -> None:
    assert str(refused(status, body)) == text


@pytest.mark.parametrize(
    "header, pause",
    [("", 0), ("120", 120), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), (formatdate(time.time() + 3600, usegmt=True), 3600)],
)
def test_when_to_come_back(header: str, pause: float) -> None:
    assert seconds(header) == pytest.approx(pause, abs=600)


@pytest.mark.parametrize(
    "text, platform",
    [
        ("linux", ("linux", "amd64", "")),
        ("arm64", ("linux", "arm64", "")),
        ("linux/arm/v6", ("linux", "arm", "v6")),
        ("Linux/x86_64", ("linux", "amd64", "")),
        ("arm", ("linux", "arm", "v7")),
    ],
)
def test_platforms_as_people_write_them(text: str, platform: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compat_engine.engine.transfers.host_platform", lambda: ("linux", "amd64", ""))
    assert platform_of(text) == platform


@pytest.mark.parametrize("text", ["", "linux//x", "a/b/c/d", "gameboy", "linux/../x"])
def test_no_platforms(text: str) -> None:
    with pytest.raises(InvalidParameter):
        platform_of(text)


def test_bars() -> None:
    assert drawn(36445, 3001130) == "[>                                                  ]  36.45kB/3.001MB"
    assert drawn(10240, 100) == "[==================================================>]  10.24kB"
    assert drawn(20, 83) == "[============>                                      ]      20B/83B"
    assert (drawn(5, 0), human(999_950), human(0)) == ("      5B", "1000kB", "0B")


@pytest.fixture
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name server is asked."""

    def lookup(*args: object, **more: object) -> list[object]:
        raise OSError("no such name")

    monkeypatch.setattr("socket.getaddrinfo", lookup)


@pytest.mark.usefixtures("no_names")
async def test_hosts(tmp_path: Path) -> None:
    config = Config(
        certs_dirs=(tmp_path,),
        registry_mirrors=("https://m1/p/", "other.example=http://m2:5000"),
        insecure_registries=("10.0.0.0/8", "plain.example:5000"),
    )
    hosts = Hosts(config)

    async def bases(domain: str, push: bool = False) -> list[str]:
        return [endpoint.base for endpoint in await hosts.endpoints(domain, push)]

    assert await bases("docker.io") == ["https://m1/p/v2", f"https://{HUB}/v2"]
    assert await bases("docker.io", push=True) == [f"https://{HUB}/v2"]
    assert (await bases("other.example"))[0] == "http://m2:5000/v2"
    assert await bases("10.1.2.3:5000") == ["https://10.1.2.3:5000/v2", "http://10.1.2.3:5000/v2"]
    assert await bases("plain.example:5000") == ["https://plain.example:5000/v2", "http://plain.example:5000/v2"]
    assert await bases("11.1.2.3") == ["https://11.1.2.3/v2"]
    for host in ("127.0.0.1:5000", "[::1]:5000"):
        assert await hosts.insecure(host), host


@pytest.mark.usefixtures("no_names")
async def test_hosts_toml_rules(tmp_path: Path) -> None:
    directory = tmp_path / "a.example_5000_"
    directory.mkdir()
    (directory / "hosts.toml").write_text(
        'server = "https://up.example"\n[host."https://pull.example/x"]\ncapabilities = ["pull"]\n'
        '[host."http://all.example/y"]\noverride_path = true\n'
    )
    hosts = Hosts(Config(certs_dirs=(tmp_path,)))
    pulled = [(endpoint.base, endpoint.mirror) for endpoint in await hosts.endpoints("a.example:5000")]
    assert pulled == [("https://pull.example/x/v2", True), ("http://all.example/y", True), ("https://up.example/v2", False)]
    pushed = [endpoint.base for endpoint in await hosts.endpoints("a.example:5000", push=True)]
    assert pushed == ["http://all.example/y", "https://up.example/v2"]


def test_half_a_client_certificate(tmp_path: Path) -> None:
    (tmp_path / "client.cert").write_text("")
    with pytest.raises(Internal, match=r"missing key client.key for client certificate client.cert"):
        read_directory(tmp_path, verify=True)


def test_settings(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    file.write_text('{"registry-mirrors": ["https://m"], "max-concurrent-downloads": 7, "insecure-registries": ["h:5000"]}')
    config = from_arguments(["--config-file", str(file), "--max-download-attempts", "2"])
    assert (config.registry_mirrors, config.insecure_registries) == (("https://m",), ("h:5000",))
    assert (config.max_concurrent_downloads, config.max_download_attempts) == (7, 2)
    for bad in ('{"registry-mirrors": ["ftp://m"]}', '{"max-concurrent-uploads": 0}'):
        file.write_text(bad)
        with pytest.raises(InvalidParameter):
            from_arguments(["--config-file", str(file)])


@given(st.text(max_size=80))
def test_any_challenge_can_be_read(header: str) -> None:
    challenges([header])


@given(st.binary(max_size=80))
def test_any_refusal_has_words(body: bytes) -> None:
    assert str(refused(404, body))


_WORDS = st.sampled_from(
    ["config", "layers", "manifests", "platform", "os", "digest", "size", "mediaType", "linux", "amd64", OCI_INDEX, OCI_MANIFEST]
)
_DIGEST = st.just("sha256:" + "a" * 64)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _WORDS | _DIGEST,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(_WORDS, _JSON, max_size=4), _WORDS)
def test_any_manifest_is_read_or_refused(raw: dict[str, object], media_type: str) -> None:
    with suppress(Internal):
        found = parse(media_type, json.dumps(raw).encode())
        if is_index(media_type, found):
            platforms(found)
            choose(found, ("linux", "amd64", ""))
        else:
            read_manifest(found)
