"""Questions to a registry: whether credentials let in (`docker login`), and what a reference names there."""

import json
from typing import Any

from compat_engine.images.reference import DEFAULT_DOMAIN, Reference
from compat_engine.images.registry import manifest as manifests
from compat_engine.images.registry.auth import Credentials
from compat_engine.images.registry.client import PULL, Client
from compat_engine.images.registry.failures import FAILURES, as_engine_error
from compat_engine.images.registry.registries import Registries

_CONFIG_LIMIT = 8 << 20  # bytes
_PLATFORM = ("architecture", "os", "os.version", "os.features", "variant")


async def login(registries: Registries, credentials: Credentials) -> str:
    """The identity token the registry gives for a password, "" when it gives none. Raises Unauthorized, Internal."""
    token = ""

    async def work(client: Client) -> None:
        nonlocal token
        await client.login()
        token = client.refresh_token or credentials.identity_token

    try:
        await registries.through(_domain(credentials.server), credentials, work, push=True, offline=True)
    except FAILURES as failure:
        raise as_engine_error(failure) from failure
    return token


async def inspect(registries: Registries, reference: Reference, credentials: Credentials) -> dict[str, Any]:
    """GET /distribution/{name}/json: {Descriptor, Platforms}. Raises NotFound, Unauthorized, Internal."""

    async def work(client: Client) -> dict[str, Any]:
        repository = client.repository(reference.path, PULL)
        name = reference.digest or reference.tag
        found = await repository.manifest(reference.digest or await repository.resolve(name) or name)
        raw = manifests.parse(found.media_type, found.content)
        descriptor = found.descriptor.plain()
        if manifests.is_index(found.media_type, raw):
            return {"Descriptor": descriptor, "Platforms": manifests.platforms(raw)}
        config = json.loads(await repository.small_blob(manifests.read_manifest(raw).config, _CONFIG_LIMIT))
        platform = {field: config[field] for field in _PLATFORM if config.get(field)}
        return {"Descriptor": descriptor, "Platforms": [platform] if platform else []}

    try:
        return await registries.through(reference.domain, credentials, work)
    except (*FAILURES, ValueError, AttributeError) as failure:
        raise as_engine_error(failure) from failure


def _domain(server: str) -> str:
    """The registry a server address means; docker.io has more than one spelling."""
    host = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return DEFAULT_DOMAIN if host in ("", DEFAULT_DOMAIN, "index.docker.io", "registry-1.docker.io") else host
