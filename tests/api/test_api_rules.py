"""What holds for every endpoint: paths, versions, headers, queries, bodies."""

import json
from urllib.parse import quote

import pytest

from tests.api.conftest import Api

CREATE = "/v1.51/containers/create"


@pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.41", "/v1.51", "/v1.56"])
async def test_every_version_and_none(api: Api, prefix: str) -> None:
    answer = await api.call("GET", f"{prefix}/version")
    assert answer.status == 200
    assert answer.json["ApiVersion"] == "1.51"
    assert answer.headers["Api-Version"] == "1.51"
    assert answer.headers["Ostype"] == "linux"
    assert answer.headers["Docker-Experimental"] == "false"
    assert answer.headers["Server"].startswith("Docker/")
    assert answer.headers["Content-Type"] == "application/json"


async def test_versions_out_of_range(api: Api) -> None:
    answer = await api.call("GET", "/v1.23/version")
    assert (answer.status, answer.message) == (
        400,
        "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
    )
    answer = await api.call("GET", "/v1.57/version")
    assert (answer.status, answer.message) == (
        400,
        "client version 1.57 is too new. Maximum supported API version is 1.56",
    )
    assert (await api.call("POST", "/v1.24/containers/prune")).status == 400
    assert (await api.call("GET", f"/v{'9' * 6000}/version")).status == 400


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nope"), ("GET", "/v1.0/nope"), ("PUT", "/version"), ("GET", "/containers/create"), ("GET", "/")]
)
async def test_unknown_path_or_method(api: Api, method: str, path: str) -> None:
    answer = await api.call(method, path)
    assert (answer.status, answer.message) == (404, "page not found")
    assert "Api-Version" in answer.headers


@pytest.mark.parametrize(
    "raw",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /version HTTP/1.1\r\n\r\n",
        b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_not_http(api: Api, raw: bytes) -> None:
    reader, _ = await api.send(raw)
    assert b" 400 " in await reader.readline()
    assert (await api.call("GET", "/_ping")).status == 200


async def test_a_broken_head_is_no_traceback_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    reader, _ = await api.send(b"GET /_ping HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n")
    assert b" 400 " in await reader.readline()
    assert not [record for record in caplog.records if record.exc_info]


async def test_heads_that_are_no_text(api: Api) -> None:
    reader, _ = await api.send(b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Type: \xff\r\nContent-Length: 2\r\n\r\n{}")
    assert b" 400 " in await reader.readline()


async def test_content_encoding_is_ignored(api: Api) -> None:
    answer = await api.call("POST", CREATE, {}, Content_Encoding="gzip")
    assert (answer.status, answer.message) == (400, "config cannot be empty in order to create a container")


async def test_options_and_unclean_paths(api: Api) -> None:
    for path in ("/v1.51/version", "/", "*"):
        assert (await api.call("OPTIONS", path)).status == 200
    answer = await api.call("GET", "/v1.51//containers//json?all=1")
    assert (answer.status, answer.headers["Location"]) == (301, "/v1.51/containers/json?all=1")
    answer = await api.call("GET", "/containers/./x/../json")
    assert (answer.status, answer.headers["Location"]) == (301, "/containers/json")
    answer = await api.call("GET", "/containers/%2e%2e/a%20b/json?x=%2e")
    assert (answer.status, answer.headers["Location"]) == (301, "/a%20b/json?x=%2e")


async def test_who_expects_to_be_told_to_go_on(api: Api) -> None:
    head = b"POST /v1.45/auth HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    reader, writer = await api.send(head + b"Expect: 100-continue\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"[}")
    assert b" 400 " in await reader.readline()
    reader, _ = await api.send(head + b"Expect: 200-foo\r\n\r\n")
    assert b" 417 " in await reader.readline()
    assert b"Connection: close" in await reader.read()


async def test_ping(api: Api) -> None:
    answer = await api.call("GET", "/_ping")
    assert (answer.status, answer.body, answer.headers["Swarm"]) == (200, b"OK", "inactive")
    answer = await api.call("HEAD", "/v1.51/_ping")
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "0")
    assert answer.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"", "application/json", "invalid JSON: got EOF while reading request body"),
        (b"{}", "text/plain", "unsupported Content-Type header (text/plain): must be 'application/json'"),
        (b"{}", "", "malformed Content-Type header (): mime: no media type"),
        (b"{", "application/json", "invalid JSON: unexpected EOF"),
        (b'{"Image":"a', "application/json", "invalid JSON: unexpected EOF"),
        (b"x", "application/json", "invalid JSON: invalid character 'x' looking for beginning of value"),
        (b'{"Image":"a"} x', "application/json", "unexpected content after JSON"),
        (b"{}", "application/json", "config cannot be empty in order to create a container"),
        (b"null", "application/json", "config cannot be empty in order to create a container"),
        (b'{"Image":NaN}', "application/json", "invalid JSON: invalid character 'N' looking for beginning of value"),
    ],
)
async def test_malformed_bodies(api: Api, body: bytes, content_type: str, message: str) -> None:
    answer = await api.call("POST", CREATE, body, Content_Type=content_type)
    assert (answer.status, answer.message) == (400, message)


@pytest.mark.parametrize(
    "body",
    [
        [], 5, "x", {"Image": 5}, {"Image": "b", "HostConfig": []}, {"Image": "b", "HostConfig": {"Memory": "5"}},
        {"Image": "b", "HostConfig": {"Memory": 1.5}}, {"Image": "b", "Tty": 1}, {"Image": "b", "Cmd": [5]}, {"Image": "b", "MacAddress": 5},
        {"Image": "b", "HostConfig": {"Mounts": [5]}}, {"Image": "b", "NetworkingConfig": {"EndpointsConfig": {"a": 5}}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", ["1.24", "1.56"])
async def test_wrong_types(api: Api, body: object, version: str) -> None:
    answer = await api.call("POST", f"/v{version}/containers/create", body)
    assert answer.status == 400
    assert answer.message.startswith("invalid JSON: json: cannot unmarshal ")


async def test_hostile_json(api: Api) -> None:
    assert (await api.call("POST", CREATE, b'{"Image":"a","Cmd":' + b"[" * 100_000)).status == 400
    assert (await api.call("POST", CREATE, b'{"Image":"a","HostConfig":{"Memory":' + b"9" * 5000 + b"}}")).status == 400
    assert (await api.call("POST", "/exec/x/start", b'{"Detach":"\\ud800"}')).status == 400
    assert (await api.call("POST", "/exec/x/start", b'{"x":"\xff\xfe"}')).status == 404


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("x", "invalid filter"),
        ("[]", "invalid filter"),
        ('{"label":5}', "invalid filter"),
        ('{"label":[5]}', "invalid filter"),
        ('{"label":{"a":1}}', "invalid filter"),
        ('{"x":["1"]}', "invalid filter 'x'"),
        ('{"x":{"1":true}}', "invalid filter 'x'"),
        ('{"status":["zz"]}', "invalid filter 'status=zz'"),
    ],
)
async def test_malformed_filters(api: Api, word: str, message: str) -> None:
    answer = await api.call("GET", f"/containers/json?filters={quote(word)}")
    assert (answer.status, answer.message) == (400, message)


async def test_both_filter_forms(api: Api) -> None:
    await api.container("web")
    for word in ({"name": ["web"]}, {"name": {"web": True}}, {"name": None}):
        answer = await api.call("GET", f"/containers/json?all=1&filters={quote(json.dumps(word))}")
        assert (answer.status, answer.body.count(b'"Id"')) == (200, 1)


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/containers/json?limit=x", 'strconv.Atoi: parsing "x": invalid syntax'),
        ("POST", "/containers/c/stop?t=x", 'strconv.Atoi: parsing "x": invalid syntax'),
        ("POST", "/containers/c/resize", 'strconv.Atoi: parsing "": invalid syntax'),
        ("POST", "/containers/c/resize?h=1&w=99999999999999999999", 'strconv.Atoi: parsing "99999999999999999999": value out of range'),
        ("GET", "/containers/c/logs", "Bad parameters: you must choose at least one stream"),
        ("GET", "/containers/c/logs?stdout=1&since=x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("GET", "/events?since=5&until=2", "`since` time (5) cannot be after `until` time (2)"),
        ("GET", "/system/df?type=zz", "unknown object type: zz"),
        ("POST", "/containers/c/attach?detachKeys=ctrl-zz", "Invalid detach keys (ctrl-zz) provided"),
        ("POST", "/containers/c/wait?condition=zz", 'invalid condition: "zz"'),
        ("GET", "/containers/c/attach/ws", "not websocket protocol"),
    ],
)
async def test_malformed_queries(api: Api, method: str, path: str, message: str) -> None:
    await api.container("c")
    answer = await api.call(method, path)
    assert (answer.status, answer.message) == (400, message)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/containers/nope/json"), ("GET", "/containers/nope/logs?stdout=1"), ("POST", "/containers/nope/start"),
        ("POST", "/containers/nope/stop"), ("POST", "/containers/nope/wait"), ("POST", "/containers/nope/attach?stream=1"),
        ("DELETE", "/containers/nope"), ("GET", "/containers/a/b/json"),
    ],
)  # fmt: skip
async def test_no_such_container(api: Api, method: str, path: str) -> None:
    answer = await api.call(method, path)
    name = "a/b" if "a/b" in path else "nope"
    assert (answer.status, answer.message) == (404, f"No such container: {name}")


@pytest.mark.parametrize(
    ("signal", "status", "message"),
    [("", 404, "No such container: nope"), ("65", 400, "the linux daemon does not support signal 65"), ("X", 400, "invalid signal: X")],
)
async def test_kill_of_no_container(api: Api, signal: str, status: int, message: str) -> None:
    answer = await api.call("POST", f"/containers/nope/kill?signal={signal}")
    assert (answer.status, answer.message) == (status, f"cannot kill container: nope: {message}")


async def test_start_tolerates_a_tiny_body(api: Api) -> None:
    assert (await api.call("POST", "/containers/nope/start", {})).status == 404
    answer = await api.call("POST", "/containers/nope/start", {"Binds": []})
    assert (answer.status, answer.message[:44]) == (400, "starting container with non-empty request bo")


async def test_what_is_not_here(api: Api) -> None:
    answer = await api.call("GET", "/swarm")
    assert (answer.status, answer.message[:33]) == (503, "This node is not a swarm manager.")
    assert (await api.call("GET", "/plugins")).json == []
    assert (await api.call("POST", "/build/prune")).json == {"CachesDeleted": None, "SpaceReclaimed": 0}
    for method, path in (("POST", "/build"), ("POST", "/session"), ("POST", "/grpc")):
        assert (await api.call(method, path)).status == 501


async def test_a_failure_inside_is_a_500_with_its_text(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.engine.containers, "find", lambda word: 1 // 0)
    answer = await api.call("GET", "/containers/x/json")
    assert (answer.status, answer.message) == (500, "integer division or modulo by zero")


async def test_long_query_and_headers(api: Api) -> None:
    answer = await api.call("GET", "/_ping?x=" + "a" * 100_000, X_Registry_Config="b" * 100_000)
    assert answer.status == 200


async def test_keep_alive(api: Api) -> None:
    reader, writer = await api.send(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
    for _ in range(2):
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\nOK")
    writer.write(b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"404" in await reader.readuntil(b"page not found\"}\n")
    writer.close()
