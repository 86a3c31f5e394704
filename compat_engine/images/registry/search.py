"""`docker search`: the index of docker.io, or of the registry a term begins with, when it has one."""

from typing import Any

from compat_engine.errors import Internal
from compat_engine.images.reference import DEFAULT_DOMAIN
from compat_engine.images.registry.auth import Credentials, basic
from compat_engine.images.registry.failures import FAILURES, Refused
from compat_engine.images.registry.hosts import Endpoint
from compat_engine.images.registry.http import Sent
from compat_engine.images.registry.registries import Registries

_INDEX = "index.docker.io"
_FIELDS: dict[str, Any] = {"name": "", "description": "", "is_official": False, "star_count": 0}


async def search(registries: Registries, term: str, limit: int, credentials: Credentials) -> list[dict[str, Any]]:
    """What the index found, each with star_count, is_official, name, is_automated (false: no index tells any more) and
    description. Raises Internal for an index that does not answer, or not as one."""
    domain, words = _split(term)
    failure: Exception | None = None
    for base in await _bases(registries, domain):
        try:
            return await _ask(registries, base, words, limit, credentials)
        except FAILURES as error:
            failure = error
            if isinstance(error, Refused):
                break
    text = f"Unexpected status code {failure.status}" if isinstance(failure, Refused) else str(failure)
    raise Internal(text) from failure


def _split(term: str) -> tuple[str, str]:
    first, slash, rest = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return (DEFAULT_DOMAIN if first in (DEFAULT_DOMAIN, _INDEX) else first), rest
    return DEFAULT_DOMAIN, term


async def _bases(registries: Registries, domain: str) -> list[Endpoint]:
    return [endpoint for endpoint in await registries.hosts.endpoints(domain, push=True) if not endpoint.mirror]


async def _ask(
    registries: Registries, endpoint: Endpoint, words: str, limit: int, credentials: Credentials
) -> list[dict[str, Any]]:
    base = endpoint.base.removesuffix("/v2").replace("://registry-1.docker.io", f"://{_INDEX}")
    headers = {"Authorization": basic(credentials)} if credentials.username and credentials.password else {}
    query = (("q", words), ("n", str(limit)))
    async with registries.http.send(Sent("GET", f"{base}/v1/search", headers, endpoint.tls, query)) as response:
        try:
            raw = await registries.http.json(response)
        except Refused as error:
            raise Internal(f"error decoding registry search results: {error}") from error
    results = raw.get("results")
    if not isinstance(results, list):
        raise Internal(f"{base}: the index's answer has no results")
    return [
        {**_FIELDS, **{name: item[name] for name in _FIELDS if name in item}, "is_automated": False}
        for item in results
        if isinstance(item, dict)
    ]
