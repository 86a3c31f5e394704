"""The registries as the engine sees them: one object with what all requests share; the work is in the modules beside it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

from compat_engine.config import Settings
from compat_engine.images.library import Library
from compat_engine.images.registry.auth import ANONYMOUS, Credentials
from compat_engine.images.registry.client import Client
from compat_engine.images.registry.downloads import Downloads
from compat_engine.images.registry.failures import FAILURES, Unreachable
from compat_engine.images.registry.hosts import Endpoint, Hosts
from compat_engine.images.registry.http import Http
from compat_engine.images.registry.packed import Packed
from compat_engine.images.registry.retry import PAUSE
from compat_engine.images.registry.slots import Slots

T = TypeVar("T")
Work = Callable[[Client], Awaitable[T]]


class Registries:
    """Make it on the event loop, after `Images.open`; end with `close`. pause: seconds after a transfer's first failure."""

    def __init__(self, settings: Settings, library: Library, pause: float = PAUSE) -> None:
        self.library, self._settings = library, settings
        self.http = Http()
        self.downloads = Downloads(library, settings, pause)
        self.packed = Packed(library)
        self.upload_slots = Slots(lambda: settings.now.max_concurrent_uploads)
        self.pause = pause
        self.registering = asyncio.Lock()  # one pull at a time adds its image: the next finds the layers they share

    @property
    def hosts(self) -> Hosts:
        return Hosts(self._settings.now)

    @property
    def attempts(self) -> int:
        return self._settings.now.max_download_attempts

    async def close(self) -> None:
        await self.http.close()

    async def through(self, domain: str, credentials: Credentials, work: Work[T], push: bool = False, offline: bool = False) -> T:
        """The result of `work` on the first place for `domain` that does it: a mirror that fails is passed over, http is only
        tried where nothing answers https. offline: ask for an identity token too. Raises what the last one did."""
        endpoints = await self.hosts.endpoints(domain, push)
        reached: set[str] = set()
        for endpoint in endpoints:
            if endpoint.host in reached:
                continue
            client = Client(self.http, endpoint, ANONYMOUS if endpoint.mirror else credentials, offline)
            try:
                await client.ping()
                reached.add(endpoint.host)
                return await work(client)
            except FAILURES as failure:
                if endpoint is endpoints[-1] or (endpoint.host in reached and not endpoint.mirror):
                    raise
                if not _may_go_on(endpoint, failure):
                    raise
        raise Unreachable(f"no endpoint left for {domain}")


def _may_go_on(endpoint: Endpoint, failure: Exception) -> bool:
    """To the next endpoint: always from a mirror, else from https to http when nothing (or nothing sensible) answered."""
    return endpoint.mirror or (isinstance(failure, Unreachable) and urlsplit(endpoint.base).scheme == "https")
