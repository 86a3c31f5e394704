"""`docker pull`: a manifest, its configuration and the layers the store has not, verified and committed together."""

import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from compat_engine.errors import Internal
from compat_engine.ids import short
from compat_engine.images.intake import workspace
from compat_engine.images.layers import Incoming, IncomingLayer, add, parse_config
from compat_engine.images.records import Descriptor, Image, chain_ids
from compat_engine.images.reference import Reference
from compat_engine.images.registry import manifest as manifests
from compat_engine.images.registry.auth import Credentials
from compat_engine.images.registry.client import PULL, Client, Found, Repository
from compat_engine.images.registry.downloads import Download
from compat_engine.images.registry.failures import FAILURES, Refused, Unreachable, as_engine_error
from compat_engine.images.registry.manifest import ImageManifest, Platform
from compat_engine.images.registry.progress import Say, message, step
from compat_engine.images.registry.registries import Registries
from compat_engine.images.registry.retry import retried
from compat_engine.images.waiting import together

_CONFIG_LIMIT = 8 << 20  # bytes
_NESTING = 4  # indexes in indexes


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to pull. reference: with a tag or digest, or neither for every tag of its repository."""

    reference: Reference
    platform: Platform
    credentials: Credentials

    @property
    def everything(self) -> bool:
        return not self.reference.tag and not self.reference.digest


async def pull(registries: Registries, wanted: Wanted, pulled: Callable[[Reference, Image], None], say: Say) -> None:
    """Pulls, and says what it does as Docker would; `pulled` hears of each reference. Cancelling keeps what was downloaded.

    Raises NotFound, Internal and Unauthorized in Docker's words; nothing is said before the registry has shown a manifest.
    """
    registries.downloads.expire()
    news = False

    async def work(client: Client) -> None:
        nonlocal news
        repository = client.repository(wanted.reference.path, PULL)
        for reference in await _references(repository, wanted.reference):
            job = _Pull(registries, repository, reference, wanted.platform, say)
            image, new = await job.run()
            news = news or new
            pulled(reference, image)

    try:
        await registries.through(wanted.reference.domain, wanted.credentials, work)
    except FAILURES as failure:
        raise as_engine_error(failure, wanted.reference) from failure
    state = "Downloaded newer image" if news else "Image is up to date"
    say(message(f"Status: {state} for {wanted.reference.familiar}"))


async def _references(repository: Repository, reference: Reference) -> list[Reference]:
    if reference.tag or reference.digest:
        return [reference]
    return [reference.with_tag(tag) for tag in await repository.tags()]


class _Pull:
    """One reference from one repository."""

    def __init__(
        self, registries: Registries, repository: Repository, reference: Reference, platform: Platform, say: Say
    ) -> None:
        self._registries = registries
        self._library = registries.library
        self._repository = repository
        self._reference = reference
        self._platform = platform
        self._say = say
        self._before = self._library.id_of(reference)
        self._claimed: Platform | None = None  # what the index says the image is for

    async def run(self) -> tuple[Image, bool]:
        """The image, and whether the reference names it only now."""
        name = self._reference.digest or self._reference.tag
        digest = await self._repository.resolve(name)
        image = self._known(digest) if digest else None
        if image is not None:
            self._begin()
            return await self._name(image, digest)
        found = await self._repository.manifest(self._reference.digest or digest or name)  # a tag may have moved
        raw = manifests.parse(found.media_type, found.content)
        self._begin()
        digest = found.descriptor.digest
        for _ in range(_NESTING):
            if manifests.is_index(found.media_type, raw):
                choice = manifests.choose(raw, self._platform)
                self._claimed = choice.platform
                found = await self._repository.manifest(choice.descriptor.digest)
                raw = manifests.parse(found.media_type, found.content)
        image = await self._image(found, manifests.read_manifest(raw), self._names(digest))
        return await self._name(image, digest)

    def _begin(self) -> None:
        self._say(message(f"Pulling from {self._repository.path}", self._reference.tag or self._reference.familiar))

    def _known(self, digest: str) -> Image | None:
        """What this digest of the repository was when it was pulled, if that fits the platform."""
        id = self._library.id_of(replace(self._reference, tag="", digest=digest))
        image = self._library.images.get(id) if id else None
        fits = image is not None and any(manifests.fits(known, self._platform) for known in image.platforms)
        return image if fits else None

    async def _name(self, image: Image, digest: str) -> tuple[Image, bool]:
        names = [name for name in self._names(digest) if self._library.id_of(name) != image.id]
        claimed = self._news(image)
        if names or claimed:
            async with self._library.lock:
                image = self._library.find(image.id)
                image = await self._library.commit(replace(image, claimed=image.claimed + claimed), [], names)
        self._say(message(f"Digest: {digest}"))
        return image, self._before != image.id

    def _news(self, image: Image) -> tuple[Platform, ...]:
        """What the index says the image is for, if that was not known."""
        claimed = self._claimed
        if claimed is None or any(manifests.runs(known, claimed) for known in image.platforms):
            return ()
        return (claimed,)

    def _names(self, digest: str) -> tuple[Reference, ...]:
        """What the image is known by: as asked for, and by its digest."""
        return tuple(dict.fromkeys((self._reference, replace(self._reference, tag="", digest=digest))))

    async def _image(self, found: Found, manifest: ImageManifest, names: tuple[Reference, ...]) -> Image:
        known = self._library.images.get(manifest.config.digest)
        if known is not None:
            return known
        config = await self._configuration(manifest.config)
        _check_configuration(config)
        diff_ids = parse_config(config)["rootfs"]["diff_ids"]
        if len(diff_ids) != len(manifest.layers):
            raise Internal("layers from manifest don't match image configuration")
        chains = chain_ids(diff_ids)
        async with self._library.hold([manifest.config.digest, *chains, *(layer.digest for layer in manifest.layers)]):
            incoming = Incoming(config, (), names, found.content, found.media_type)
            return await self._assemble(incoming, manifest.layers, diff_ids, chains)

    async def _configuration(self, descriptor: Descriptor) -> bytes:
        getting = partial(self._repository.small_blob, descriptor, _CONFIG_LIMIT)
        try:
            return await retried(getting, self._registries.attempts, self._registries.pause)
        except Refused as failure:
            raise Refused(failure.status, "", f"error pulling image configuration: {failure}") from failure
        except Unreachable as failure:
            raise Unreachable(f"error pulling image configuration: {failure}") from failure

    async def _assemble(
        self, incoming: Incoming, layers: tuple[Descriptor, ...], diff_ids: list[str], chains: list[str]
    ) -> Image:
        async with AsyncExitStack() as stack:
            for layer, chain in zip(layers, chains, strict=True):
                self._say(step(short(layer.digest), "Already exists" if self._has(layer, chain) else "Pulling fs layer"))
            # The longest first: the others fill the time beside it.
            order = sorted(range(len(layers)), key=lambda number: -layers[number].size)
            works = [self._layer(stack, layers[number], chains[number], diff_ids[number]) for number in order]
            downloads = dict(zip(order, await together(works), strict=True))
            work = await stack.enter_async_context(workspace(self._library.tree.tmp))
            async with self._registries.registering:
                parts = tuple(self._part(layer, downloads[number]) for number, layer in enumerate(layers))
                return await add(self._library, replace(incoming, layers=parts), work)

    def _has(self, layer: Descriptor, chain: str) -> bool:
        return chain in self._library.layers and self._library.blobs.has(layer.digest)

    async def _layer(self, stack: AsyncExitStack, layer: Descriptor, chain: str, diff_id: str) -> Download | None:
        """The layer's download, None when the store has its blob: then it is unpacked from there if need be."""
        if self._library.blobs.has(layer.digest):
            return None
        unpack = chain not in self._library.layers
        opener = partial(self._repository.blob, layer.digest)
        download = await stack.enter_async_context(self._registries.downloads.get(layer, unpack, opener, self._say))
        if download.unpacked is not None and download.unpacked.diff_id != diff_id:
            raise Internal("layers from manifest don't match image configuration")
        self._say(step(short(layer.digest), "Pull complete"))
        return download

    def _part(self, layer: Descriptor, download: Download | None) -> IncomingLayer:
        if download is None:
            return IncomingLayer(layer, None)
        return IncomingLayer(layer, download.file, download.take())


def _check_configuration(config: bytes) -> None:
    """Raises Internal for one without layers, and for an image of another operating system. parse_config sees to the rest."""
    try:
        raw = json.loads(config)
        raw["rootfs"]["diff_ids"]
        system = raw.get("os") or "linux"
    except (ValueError, LookupError, TypeError, RecursionError):
        raise Internal("invalid rootfs in image configuration") from None
    if system != "linux":
        reason = "cannot be used on this platform: operating system is not supported"
        raise Internal(f'image operating system "{system}" {reason}')
