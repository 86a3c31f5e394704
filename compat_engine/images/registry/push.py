"""`docker push`: layers where they are missing, then configuration and manifest, exactly as the image came if it did."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from compat_engine.errors import Internal
from compat_engine.ids import short
from compat_engine.images.library import Library, check_fits
from compat_engine.images.records import CONFIG, LAYER, MANIFEST, Descriptor, Image
from compat_engine.images.reference import Reference
from compat_engine.images.registry import manifest as manifests
from compat_engine.images.registry.auth import Credentials
from compat_engine.images.registry.client import PUSH, Client, Found, Repository
from compat_engine.images.registry.failures import FAILURES, NO_CREDENTIALS, NoCredentials, as_engine_error
from compat_engine.images.registry.manifest import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Platform
from compat_engine.images.registry.progress import Say, message, step
from compat_engine.images.registry.registries import Registries
from compat_engine.images.registry.retry import retried
from compat_engine.images.registry.uploads import Layer, Upload
from compat_engine.images.waiting import together

_GZIP, _ZSTD = LAYER + "+gzip", LAYER + "+zstd"


@dataclass(frozen=True, slots=True)
class Offered:
    """What to push. reference: with a tag, or without for every tag of its repository; platform: what the images must be for."""

    reference: Reference
    platform: Platform | None
    credentials: Credentials


async def push(registries: Registries, offered: Offered, pushed: Callable[[Reference, Image], None], say: Say) -> None:
    """Pushes, and says what it does as Docker would; `pushed` hears of each tag. Raises Internal, Unauthorized and NotFound."""
    say(message(f"The push refers to repository [{offered.reference.name}]"))
    images = _images(registries.library, offered)
    held = {key for _, image in images for key in (*image.digests, *image.chains)}

    async def work(client: Client) -> None:
        for reference, image in images:
            neighbours = [_neighbours(registries.library, reference, layer.diff_id) for layer in image.layers]
            repository = client.repository(reference.path, PUSH, *sorted({name for names in neighbours for name in names}))
            await _Push(registries, repository, reference, image, neighbours, say).run()
            pushed(reference, image)

    try:
        with registries.library.pins.hold(held):
            await registries.through(offered.reference.domain, offered.credentials, work, push=True)
    except NoCredentials as failure:
        raise Internal(NO_CREDENTIALS) from failure
    except FAILURES as failure:
        raise as_engine_error(failure) from failure


def _images(library: Library, offered: Offered) -> list[tuple[Reference, Image]]:
    """The tags to push with their images. Raises Internal when there is none, NotFound for the wrong platform."""
    wanted = offered.reference
    tagged = [(reference, id) for reference, id in library.repository(wanted.name) if reference.tag]
    if not tagged:
        raise Internal(f"An image does not exist locally with the tag: {wanted.familiar_name}")
    found = [(reference, library.images[id]) for reference, id in tagged if wanted.tag in ("", reference.tag)]
    if not found:
        raise Internal(f"tag does not exist: {wanted.familiar}")
    shown = "/".join(part for part in offered.platform or () if part)
    for reference, image in found:
        check_fits(image, reference.familiar, shown)
    return found


def _neighbours(library: Library, reference: Reference, diff_id: str) -> tuple[str, ...]:
    """Repositories of the same registry where an image with this layer is known to be."""
    found = {
        name.path
        for other in library.images.values()
        if any(layer.diff_id == diff_id for layer in other.layers)
        for name in library.references(other.id)
        if name.digest and name.domain == reference.domain and name.path != reference.path
    }
    return tuple(sorted(found))


def _keeps_its_manifest(library: Library, image: Image) -> bool:
    """An image from a registry goes on as it came, and so does one from an archive, unless its layers are plain tars as `docker
    save` writes them: those go as gzip."""
    if image.manifest is None:
        return False
    known = any(name.digest == image.manifest.digest for name in library.references(image.id))
    return known or all(blob.media_type in (_GZIP, _ZSTD, DOCKER_LAYER) for blob in image.blobs)


class _Push:
    """One tag of one repository."""

    def __init__(
        self,
        registries: Registries,
        repository: Repository,
        reference: Reference,
        image: Image,
        neighbours: list[tuple[str, ...]],
        say: Say,
    ) -> None:
        self._registries = registries
        self._library = registries.library
        self._repository = repository
        self._reference = reference
        self._image = image
        self._neighbours = neighbours
        self._say = say
        self._exact = _keeps_its_manifest(registries.library, image)

    async def run(self) -> None:
        for layer in reversed(self._image.layers):
            self._say(step(short(layer.diff_id), "Preparing"))
        numbers = list(reversed(range(len(self._image.layers))))
        sent = dict(zip(numbers, await together([self._layer(number) for number in numbers]), strict=True))
        manifest = await self._manifest([sent[number] for number in range(len(numbers))])
        await self._configuration()
        await self._retried(partial(self._repository.put_manifest, self._reference.tag, manifest))
        await self._remember(manifest.descriptor.digest)
        self._report(manifest.descriptor)

    async def _layer(self, number: int) -> Descriptor:
        registries, blob = self._registries, self._image.blobs[number]
        layer = Layer(self._image.layers[number].diff_id, blob, self._packs(blob), self._neighbours[number])
        if registries.upload_slots.locked():
            self._say(step(short(layer.diff_id), "Waiting"))
        async with registries.upload_slots:
            upload = Upload(self._library, registries.packed, self._repository, layer, self._say)
            return await upload.run(registries.attempts, registries.pause)

    def _packs(self, blob: Descriptor) -> bool:
        return not self._exact and blob.media_type not in (_GZIP, _ZSTD)

    async def _manifest(self, layers: list[Descriptor]) -> Found:
        image = self._image
        if image.manifest is not None and self._exact:
            content = await asyncio.to_thread(self._library.blobs.read, image.manifest.digest)
            return Found(image.manifest.media_type, content)
        config = Descriptor(DOCKER_CONFIG, image.id, image.config_size)
        if any(layer.media_type == _ZSTD for layer in layers):  # schema 2 has no name for it
            oci = [replace(layer, media_type=layer.media_type.replace(DOCKER_LAYER, _GZIP)) for layer in layers]
            return Found(MANIFEST, manifests.oci_manifest(replace(config, media_type=CONFIG), oci))
        layers = [replace(layer, media_type=DOCKER_LAYER) for layer in layers]
        return Found(DOCKER_MANIFEST, manifests.docker_manifest(config, layers))

    async def _configuration(self) -> None:
        async def send() -> None:
            if not await self._repository.has(self._image.id):
                content = await asyncio.to_thread(self._library.blobs.read, self._image.id)
                await self._repository.finish_upload(await self._repository.start_upload(), self._image.id, content)

        await self._retried(send)

    async def _retried(self, work: Callable[[], Awaitable[None]]) -> None:
        await retried(work, self._registries.attempts, self._registries.pause)

    async def _remember(self, digest: str) -> None:
        """RepoDigests: the registry has it under this name now."""
        named = replace(self._reference, tag="", digest=digest)
        async with self._library.lock:
            if self._library.id_of(named) != self._image.id and self._image.id in self._library.images:
                await self._library.commit(self._library.images[self._image.id], [], [named])

    def _report(self, manifest: Descriptor) -> None:
        tag = self._reference.tag
        self._say(message(f"{tag}: digest: {manifest.digest} size: {manifest.size}"))
        self._say({"progressDetail": {}, "aux": {"Tag": tag, "Digest": manifest.digest, "Size": manifest.size}})
