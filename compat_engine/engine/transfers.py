"""Registry use cases: pull, push, login, search, and what a name is over there."""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from compat_engine.config import Config
from compat_engine.engine.filters import Filters, boolean_filter, check_filters
from compat_engine.engine.parts import Engine
from compat_engine.errors import Forbidden, InvalidParameter
from compat_engine.images.images import Image
from compat_engine.images.library import host_platform
from compat_engine.images.reference import Reference, parse
from compat_engine.images.registry import login as registry
from compat_engine.images.registry.auth import ANONYMOUS, from_object, parse_credentials
from compat_engine.images.registry.auth import Credentials as Credentials
from compat_engine.images.registry.hosts import is_network
from compat_engine.images.registry.manifest import Platform
from compat_engine.images.registry.progress import Say
from compat_engine.images.registry.pull import Wanted
from compat_engine.images.registry.pull import pull as pull_image
from compat_engine.images.registry.push import Offered
from compat_engine.images.registry.push import push as push_image
from compat_engine.images.registry.search import search as search_index
from compat_engine.images.waiting import narrated
from compat_engine.wire.system import AuthConfig

_PART = re.compile(r"[A-Za-z0-9_-]+")
_SYSTEMS = (
    *("aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "linux", "netbsd", "openbsd", "plan9", "solaris"),
    *("wasip1", "windows"),
)
_ARCHITECTURES = (
    *("386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64"),
    *("s390x", "wasm"),
)
_SPELLINGS = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm", "armel": "arm"}
_SEARCH_FILTERS = frozenset(("is-automated", "is-official", "stars"))
_SEARCH_LIMITS = range(1, 101)
_SEARCH_LIMIT = 25


def credentials(header: str) -> Credentials:
    """X-Registry-Auth of a request; none, or what cannot be read, is anonymous."""
    try:
        return parse_credentials(header) if header else ANONYMOUS
    except ValueError:
        return ANONYMOUS


def credentials_of(config: AuthConfig) -> Credentials:
    """Raises InvalidParameter."""
    try:
        return from_object(config.dump())
    except ValueError as error:
        raise InvalidParameter(str(error)) from error


def pull(engine: Engine, name: str, tag: str, platform: str, credentials: Credentials) -> AsyncIterator[dict[str, Any]]:
    """POST /images/create?fromImage=: progress objects. No tag at all pulls every one; `tag` may be a digest.

    Raises InvalidParameter and Forbidden at once; NotFound, Unauthorized and Internal from the iterator.
    """
    wanted = platform_of(platform) if platform else None
    reference = _pulled(name, tag)

    async def work(say: Say) -> None:
        labels: dict[str, str] = {}

        def pulled(_: Reference, image: Image) -> None:
            labels.update(image.labels)

        await pull_image(engine.registries, Wanted(reference, wanted or host_platform(), credentials), pulled, say)
        attributes = {**labels, "name": reference.familiar_name}
        engine.events.publish("image", "pull", reference.familiar, attributes)
        if wanted is not None and (reference.tag or reference.digest):
            engine.images.find(reference.familiar, "/".join(part for part in wanted if part))

    return narrated(work)


def push(engine: Engine, name: str, tag: str, platform: str, credentials: Credentials) -> AsyncIterator[dict[str, Any]]:
    """POST /images/{name}/push: progress objects. No tag pushes every one. Raises InvalidParameter at once, the rest later."""
    wanted = platform_of(platform) if platform else None
    reference = parse(name)
    if reference.digest:
        raise InvalidParameter("cannot push a digest reference")
    if tag:
        reference = reference.with_tag(tag)

    async def work(say: Say) -> None:
        labels: dict[str, str] = {}

        def pushed(_: Reference, image: Image) -> None:
            labels.update(image.labels)

        await push_image(engine.registries, Offered(reference, wanted, credentials), pushed, say)
        engine.events.publish("image", "push", reference.familiar, {**labels, "name": reference.familiar_name})

    return narrated(work)


async def login(engine: Engine, config: AuthConfig) -> dict[str, str]:
    """POST /auth. Raises Unauthorized, Internal."""
    token = await registry.login(engine.registries, credentials_of(config))
    return {"IdentityToken": token, "Status": "Login Succeeded"}


async def inspect(engine: Engine, name: str, credentials: Credentials) -> dict[str, Any]:
    """GET /distribution/{name}/json. Raises InvalidParameter, NotFound, Unauthorized, Internal."""
    return await registry.inspect(engine.registries, parse(name).tagged, credentials)


async def search(
    engine: Engine, term: str, limit: int | None, filters: Filters, credentials: Credentials
) -> list[dict[str, Any]]:
    """GET /images/search. Raises InvalidParameter, Internal."""
    check_filters(filters, _SEARCH_FILTERS)
    official, automated, stars = boolean_filter(filters, "is-official"), boolean_filter(filters, "is-automated"), _stars(filters)
    if "://" in term:
        raise InvalidParameter(f"invalid repository name: repository name ({term}) should not have a scheme")
    limit = limit or _SEARCH_LIMIT
    if limit not in _SEARCH_LIMITS:
        raise InvalidParameter(f"limit {limit} is outside the range of [1, 100]")
    found = await search_index(engine.registries, term, limit, credentials)
    if automated:
        return []
    return [item for item in found if item["star_count"] >= stars and official in (None, item["is_official"])]


def settings(config: Config) -> dict[str, Any]:
    """RegistryConfig of GET /info."""
    networks = [entry for entry in config.insecure_registries if is_network(entry)]
    mirrors = [f"{mirror.removesuffix('/')}/" for mirror in config.registry_mirrors if "=" not in mirror]
    hub = {"Name": "docker.io", "Mirrors": mirrors, "Secure": True, "Official": True}
    insecure = {
        host: {"Name": host, "Mirrors": [], "Secure": False, "Official": False}
        for host in config.insecure_registries
        if host not in networks
    }
    return {
        "InsecureRegistryCIDRs": [*networks, "::1/128", "127.0.0.0/8"],
        "IndexConfigs": {**insecure, "docker.io": hub},
        "Mirrors": mirrors,
    }


def platform_of(text: str) -> Platform:
    """ "os[/arch[/variant]]" or an architecture alone, as Docker reads it. Raises InvalidParameter."""
    parts = text.split("/")
    for part in parts:
        if not _PART.fullmatch(part):
            rule = 'platform specifier component must match "^[A-Za-z0-9_-]+$": invalid argument'
            raise InvalidParameter(f'"{part}" is an invalid component of "{text}": {rule}')
    if len(parts) > 3:
        raise InvalidParameter(f'"{text}": cannot parse platform specifier: invalid argument')
    parts = [_SPELLINGS.get(part.lower(), part.lower()) for part in parts]
    system, architecture, variant = host_platform()
    if len(parts) > 1:
        return parts[0], parts[1], parts[2] if len(parts) > 2 else ""
    if parts[0] in _SYSTEMS:
        return parts[0], architecture, variant if parts[0] == system else ""
    if parts[0] in _ARCHITECTURES:
        return system, parts[0], "v7" if parts[0] == "arm" else ""
    raise InvalidParameter(f'"{text}": unknown operating system or architecture: invalid argument')


def _pulled(name: str, tag: str) -> Reference:
    reference = parse(f"{parse(name).familiar_name}@{tag}" if ":" in tag else name)
    if tag and ":" not in tag:
        reference = reference.with_tag(tag)
    if reference.digest:
        reference = Reference(reference.domain, reference.path, "", reference.digest)
    if reference.familiar_name == "scratch":
        raise Forbidden("'scratch' is a reserved name")
    return reference


def _stars(filters: Mapping[str, Any]) -> int:
    found = [0]
    for value in filters.get("stars", ()):
        try:
            found.append(int(value))
        except ValueError:
            reason = f'strconv.Atoi: parsing "{value}": invalid syntax'
            raise InvalidParameter(f"invalid filter 'stars={value}': {reason}") from None
    return max(found)
