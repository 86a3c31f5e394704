"""What an engine says of registries when none is needed to say it: names, credentials, and a port where nothing listens."""

from __future__ import annotations

from typing import Any

from ..assertions import equal, refused, status
from ..engine import Engine
from ..registry import Body, check, each

PULL = "POST /images/create"
PUSH = "POST /images/{name}/push"
SEARCH = "GET /images/search"
INSPECT = "GET /distribution/{name}/json"
AUTH = "POST /auth"
ANONYMOUS = {"X-Registry-Auth": "e30="}
NOBODY = "127.0.0.1:1"  # no registry listens on this port of any host
CLOSED = f'Get "http://{NOBODY}/v2/": dial tcp {NOBODY}: connect: connection refused'


def pull_is_refused(code: int, text: str, **query: Any) -> Body:
    def body(engine: Engine) -> None:
        refused(engine.client.post("/images/create", query, headers=ANONYMOUS), code, text)

    return body


each(
    PULL,
    "refuses",
    [
        ("upper case", pull_is_refused(400, "must be lowercase", fromImage="UPPER", tag="1")),
        ("a bad tag", pull_is_refused(400, "invalid tag format", fromImage="x", tag="..")),
        ("a bad digest", pull_is_refused(400, "invalid", fromImage="x", tag="sha256:12")),
        ("scratch", pull_is_refused(403, "'scratch' is a reserved name", fromImage="scratch", tag="latest")),
        ("nobody there", pull_is_refused(500, CLOSED, fromImage=f"{NOBODY}/x", tag="1")),
    ],
)
each(
    PULL,
    "refuses_platform",
    [
        ("an empty part", pull_is_refused(400, "is an invalid component of", fromImage="x", tag="1", platform="linux//v7")),
        ("too many parts", pull_is_refused(400, "cannot parse platform specifier", fromImage="x", tag="1", platform="a/b/c/d")),
        (
            "nonsense",
            pull_is_refused(400, "unknown operating system or architecture", fromImage="x", tag="1", platform="toaster"),
        ),
    ],
    since="1.32",
)


def pushed(engine: Engine, name: str, **query: Any) -> list[Any]:
    return status(engine.client.post(f"/images/{name}/push", query, headers=ANONYMOUS), 200).json_lines()


@check(PUSH)
def push_of_nothing(engine: Engine) -> None:
    name = f"{NOBODY}/{engine.name()}"
    first, last = pushed(engine, name, tag="1")
    equal(first, {"status": f"The push refers to repository [{name}]"}, "first line")
    text = f"An image does not exist locally with the tag: {name}"
    equal(last, {"errorDetail": {"message": text}, "error": text}, "last line")


@check(PUSH)
def push_to_nobody(engine: Engine) -> None:
    name = f"{NOBODY}/{engine.name()}"
    status(engine.client.post(f"/images/{engine.tag()}/tag", {"repo": name, "tag": "1"}), 201)
    try:
        equal(pushed(engine, name, tag="1")[-1]["error"], CLOSED, "error")
    finally:
        engine.client.delete(f"/images/{name}:1")


@check(PUSH)
def push_without_credentials(engine: Engine) -> None:
    response = engine.client.post(f"/images/{NOBODY}/x/push", {"tag": "1"})
    refused(response, 400, "bad parameters and missing X-Registry-Auth")


@check(INSPECT, since="1.30")
def inspect_refuses(engine: Engine) -> None:
    refused(engine.client.get("/distribution/UPPER/json"), 400, "must be lowercase")
    refused(engine.client.get(f"/distribution/{NOBODY}/x/json"), 500, CLOSED)


@check(AUTH)
def nobody_to_log_in_to(engine: Engine) -> None:
    body = {"username": "me", "password": "secret", "serveraddress": NOBODY}
    refused(engine.client.post("/auth", body=body), 500, CLOSED)


@check(SEARCH)
def search_refuses(engine: Engine) -> None:
    refused(engine.client.get("/images/search", {"term": "x", "limit": "101"}), 400, "limit 101 is outside the range of [1, 100]")
    refused(engine.client.get("/images/search", {"term": "x", "filters": {"odd": ["1"]}}), 400, "invalid filter 'odd'")
    refused(
        engine.client.get("/images/search", {"term": "x", "filters": {"is-official": ["2"]}}), 400, "invalid filter 'is-official="
    )
