"""``python -m conformance --host unix:///path``: run the checks, print what came of them, exit 1 on a failure."""

from __future__ import annotations

import argparse
import fnmatch
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from . import image, summary
from .checks import load_all
from .client import Address, Client, ProtocolError
from .engine import FOREVER, Setup
from .registry import CHECKS, Check
from .runner import Outcome, Verdict, Versions, run_all

PATIENCE = 60.0  # seconds for the removal at the end, whatever --timeout says


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="conformance", description="Check a server of the Docker Engine API.")
    default_host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    parser.add_argument("--host", default=default_host, help="unix:///path or tcp://host:port (default: DOCKER_HOST)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATTERN", help="part of a check's name or endpoint, or a glob"
    )
    parser.add_argument("--versions", default="", metavar="1.24,1.41", help="API versions (default: each check's newest)")
    parser.add_argument("--publish-address", default="127.0.0.1", help="where published ports are reached")
    parser.add_argument("--registry-address", default="127.0.0.1", help="where the engine finds this host, by plain http")
    parser.add_argument("--busybox", default="/bin/busybox", help="a static busybox to make the image of")
    parser.add_argument("--jobs", type=int, default=4, help="checks at a time (default: 4)")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds to wait for any answer (default: 30)")
    parser.add_argument("--allow-unsupported", action="store_true", help="an answer of 501 skips a check instead of failing it")
    parser.add_argument("--list", action="store_true", help="print the checks and end")
    parser.add_argument("-v", "--verbose", action="store_true", help="print each check as it ends")
    return parser.parse_args(arguments)


def selected(checks: Sequence[Check], patterns: Sequence[str]) -> list[Check]:
    """The checks whose name or endpoint contains or matches one of the patterns; all when there is none."""

    def wanted(check: Check) -> bool:
        texts = (check.name, check.endpoint)
        return any(pattern in text or fnmatch.fnmatchcase(text, pattern) for pattern in patterns for text in texts)

    return [check for check in checks if not patterns or wanted(check)]


def load_image(client: Client, busybox: str, run: str) -> tuple[str, str]:
    """Make and load the suite's image; its name and id. Raises ProtocolError when the engine does not take it."""
    tag, layers = f"conformance-{run}:base", [image.root_layer(busybox, run)]
    headers = {"Content-Type": "application/x-tar"}
    answer = client.post("/images/load", {"quiet": 1}, body=image.archive(tag, layers), headers=headers)
    if answer.status != 200 or b"Loaded image" not in answer.body:
        raise ProtocolError(f"the engine did not load the image: {answer.status} {answer.body[:300]!r}")
    return tag, image.image_id(layers)


def start_shared(client: Client, tag: str, name: str) -> str:
    """The container that all checks may use; raises ProtocolError when the engine does not start it."""
    body = {"Image": tag, "Cmd": list(FOREVER), "StopTimeout": 0, "HostConfig": {"NetworkMode": "none"}}
    answer = client.post("/containers/create", {"name": name}, body=body)
    if answer.status == 201:
        answer = client.post(f"/containers/{name}/start")
    if answer.status != 204:
        raise ProtocolError(f"the engine did not start a container: {answer.status} {answer.message}")
    return str(client.get(f"/containers/{name}/json").json()["Id"])


@contextmanager
def prepared(client: Client, options: argparse.Namespace) -> Iterator[Setup]:
    """The image and the shared container, removed at the end."""
    run = secrets.token_hex(4)
    prefix = f"conformance-{run}"
    tag, identity = load_image(client, options.busybox, run)
    try:
        shared = start_shared(client, tag, f"{prefix}-shared")
        addresses = options.publish_address, options.registry_address
        yield Setup(tag, identity, prefix, *addresses, options.busybox, shared, options.allow_unsupported)
    finally:
        client.delete(f"/containers/{prefix}-shared", {"force": 1, "v": 1}, timeout=PATIENCE)
        client.delete(f"/images/{tag}", {"force": 1}, timeout=PATIENCE)


def progress(verbose: bool) -> Callable[[Outcome], None]:
    def report(outcome: Outcome) -> None:
        if verbose or outcome.verdict is Verdict.FAILED:
            print(f"{outcome.verdict.value:7} {outcome.seconds:5.1f}s {summary.line(outcome)}", flush=True)

    return report


def print_summary(outcomes: Sequence[Outcome], seconds: float) -> None:
    print(*summary.table(outcomes), "", sep="\n")
    for verdict in (Verdict.SKIPPED, Verdict.FAILED):
        for text in summary.reasons(outcomes, verdict):
            print(text)
    print(f"took {seconds:.1f} s")
    print(summary.closing(outcomes))


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    load_all()
    checks = selected(CHECKS, options.only)
    if options.list:
        print(*(f"{check.endpoint:40} {check.name}" for check in checks), sep="\n")
        return 0
    client = Client(Address.parse(options.host), timeout=options.timeout)
    started = time.monotonic()
    try:
        versions = Versions.of(client, [v for v in options.versions.split(",") if v])
        with prepared(client, options) as setup:
            outcomes = run_all(checks, versions, client, setup, options.jobs, progress(options.verbose))
    except (OSError, ProtocolError) as error:
        print(f"conformance: {options.host}: {error}", file=sys.stderr)
        return 2
    print_summary(outcomes, time.monotonic() - started)
    return 1 if any(outcome.verdict is Verdict.FAILED for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
