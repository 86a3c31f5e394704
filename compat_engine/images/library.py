"""The images this store has: three tables in memory, the same on the disk. Lookups never wait; changes hold `lock`."""

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any

from compat_engine.errors import InvalidParameter, NotFound
from compat_engine.images.pins import Pins
from compat_engine.images.records import IMAGES, LAYERS, TAGS, Image, Layer
from compat_engine.images.reference import Reference, is_digest, is_hex_id, parse
from compat_engine.images.registry.manifest import runs
from compat_engine.images.snapshots import Snapshots
from compat_engine.images.workers import Workers
from compat_engine.kernel.files import spread
from compat_engine.store.blobs import Blobs
from compat_engine.store.records import Delete, Put, Records
from compat_engine.store.tree import Tree

log = logging.getLogger(__name__)
_HEX = frozenset("0123456789abcdef")


class Library:
    """`open` it; then `images` (by id), `layers` (by chain id) and the references are the truth, for readers only."""

    def __init__(self, tree: Tree, records: Records, released: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        tree.tmp.mkdir(mode=0o700, parents=True, exist_ok=True)
        tree.layers.mkdir(mode=0o710, parents=True, exist_ok=True)
        for directory in (tree.tmp, tree.layers):  # where images' layers are made, and containers' are
            spread(directory)
        self.tree = tree
        self.records = records
        self.blobs = Blobs(tree.blobs)
        self.workers = Workers()
        self.pins = Pins()
        self.lock = asyncio.Lock()
        self.images: dict[str, Image] = {}
        self.layers: dict[str, Layer] = {}
        self.snapshots = Snapshots(tree, self.workers, self.layers, lambda word: self.find(word).chain, released)
        self._tags: dict[str, str] = {}  # canonical reference -> image id
        self._references: dict[str, list[Reference]] = {}  # image id -> its references, sorted

    async def read(self) -> None:
        """Fills the tables from the records. An image with a part missing is not listed: it is forgotten, and logged."""
        self.layers.update({chain: Layer.load(text) for chain, text in (await self.records.load(LAYERS)).items()})
        broken: list[Put | Delete] = []
        for id, text in (await self.records.load(IMAGES)).items():
            image = await asyncio.to_thread(self._load, id, text)
            if image is None:
                broken.append(Delete(IMAGES, id))
            else:
                self.images[id] = image
        for name, id in (await self.records.load(TAGS)).items():
            if id in self.images:
                self._tags[name] = id
            else:
                broken.append(Delete(TAGS, name))
        for id in self.images:
            self._index(id)
        await self.records.commit(*broken)

    @contextlib.asynccontextmanager
    async def hold(self, keys: Iterable[str]) -> AsyncIterator[None]:
        """Pins chain ids and digests, once a collection under way that does not know of it is over: what is there then stays.
        Not under `lock`."""
        with self.pins.hold(keys):
            async with self.lock:
                pass
            yield

    def find(self, word: str, platform: str = "") -> Image:
        """The image a client means: reference, id, unique prefix of one, digest. `platform`: "os[/arch[/variant]]" it must have.

        Raises NotFound "No such image: ..." as Docker writes it, InvalidParameter for what is no reference.
        """
        return check_fits(self._find(word), word, platform)

    def id_of(self, reference: Reference) -> str | None:
        """The image a reference names, tag latest understood."""
        if reference.digest:
            reference = replace(reference, tag="")
        return self._tags.get(str(reference.tagged))

    def references(self, id: str) -> list[Reference]:
        return self._references.get(id, [])

    def repository(self, name: str) -> list[tuple[Reference, str]]:
        """All references of one repository (canonical name), with what they name."""
        found = [(reference, id) for id, references in self._references.items() for reference in references]
        return sorted((pair for pair in found if pair[0].name == name), key=lambda pair: str(pair[0]))

    def tags(self, id: str) -> list[str]:
        """RepoTags: as people write them."""
        return [reference.familiar for reference in self.references(id) if not reference.digest]

    def digests(self, id: str) -> list[str]:
        """RepoDigests."""
        return [reference.familiar for reference in self.references(id) if reference.digest]

    def children(self, id: str) -> list[str]:
        return [child.id for child in self.images.values() if child.parent == id]

    async def commit(self, image: Image, layers: list[Layer], names: list[Reference]) -> Image:
        """Records an image, its new layers and its names in one transaction. Everything they name is in place. Under `lock`."""
        await self.records.commit(
            *(Put(LAYERS, layer.chain_id, layer.dump()) for layer in layers),
            Put(IMAGES, image.id, image.dump()),
            *(Put(TAGS, str(name), image.id) for name in names),
        )
        self.layers.update({layer.chain_id: layer for layer in layers})
        self.images[image.id] = image
        for name in names:
            previous = self._tags.get(str(name))
            self._tags[str(name)] = image.id
            if previous is not None:
                self._index(previous)
        self._index(image.id)
        return image

    async def untag(self, references: list[Reference]) -> None:
        """Under `lock`."""
        await self.records.commit(*(Delete(TAGS, str(reference)) for reference in references))
        for reference in references:
            id = self._tags.pop(str(reference), None)
            if id is not None:
                self._index(id)

    async def forget(self, images: list[str], layers: list[str]) -> None:
        """Deletes records: of images with their references, and of layers. Files are left to the caller. Under `lock`."""
        names = [name for name, id in self._tags.items() if id in images]
        await self.records.commit(
            *(Delete(IMAGES, id) for id in images),
            *(Delete(TAGS, name) for name in names),
            *(Delete(LAYERS, chain) for chain in layers),
        )
        for name in names:
            del self._tags[name]
        for id in images:
            self.images.pop(id, None)
            self._references.pop(id, None)
        for chain in layers:
            self.layers.pop(chain, None)

    def _find(self, word: str) -> Image:
        if is_hex_id(word) or is_digest(word):
            id = f"sha256:{word.removeprefix('sha256:')}"
            if id not in self.images:
                raise NotFound(f"No such image: {id}")
            return self.images[id]
        reference = parse(word)
        id_ = self.id_of(reference) or self._by_prefix(word.removeprefix("sha256:"))
        if id_ is None:
            raise NotFound(f"No such image: {reference.tagged.familiar}")
        return self.images[id_]

    def _by_prefix(self, prefix: str) -> str | None:
        if not prefix or not _HEX.issuperset(prefix):
            return None
        found = [id for id in self.images if id.startswith(f"sha256:{prefix}")]
        return found[0] if len(found) == 1 else None

    def _load(self, id: str, text: str) -> Image | None:
        try:
            image = Image.load(id, text, json.loads(self.blobs.read(id)), self.layers)
            missing = [layer.cache_id for layer in image.layers if not (self.tree.layers / layer.cache_id / "diff").is_dir()]
            made = {layer.diff_id for layer in image.layers if layer.made_here}
            missing += [digest for digest in image.digests if digest not in made and not self.blobs.has(digest)]
        except Exception:
            log.exception("image %s is unreadable and is forgotten", id)
            return None
        if missing:
            log.error("image %s lacks %s and is forgotten", id, ", ".join(missing))
            return None
        return image

    def _index(self, id: str) -> None:
        names = sorted(name for name, target in self._tags.items() if target == id)
        self._references[id] = [parse(name) for name in names]


def now_text() -> str:
    """RFC 3339 in UTC with nanoseconds, trailing zeros left out as Go does."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"


def check_fits(image: Image, word: str, platform: str) -> Image:
    """The image `word` names, if it is for `platform`, "" being any. Raises NotFound."""
    if platform and not any(_matches(known, platform) for known in image.platforms):
        actual = "/".join(part for part in image.platform if part)
        mismatch = f"does not match the specified platform: wanted {platform}, actual: {actual}"
        raise NotFound(f"image with reference {word} was found but {mismatch}")
    return image


def _matches(actual: tuple[str, str, str], wanted: str) -> bool:
    parts = wanted.split("/")
    system, architecture, variant = (*parts, "", "")[:3] if len(parts) > 1 or parts[0] == "linux" else ("", parts[0], "")
    asked = system, architecture, variant
    return runs(actual, asked) or all(not want or want == have for want, have in zip(asked, actual, strict=True))


def host_platform() -> tuple[str, str, str]:
    """os, architecture, variant as image configurations name them."""
    machine = os.uname().machine
    names = {
        "x86_64": ("amd64", ""),
        "aarch64": ("arm64", ""),
        "armv7l": ("arm", "v7"),
        "armv6l": ("arm", "v6"),
        "i686": ("386", ""),
    }
    return ("linux", *names.get(machine, (machine, "")))


def check_platform(config: dict[str, Any]) -> None:
    """Raises InvalidParameter for an image no Linux can run."""
    system = config.get("os") or "linux"
    if system != "linux":
        raise InvalidParameter(f"cannot load {system} image on linux")
