"""`docker rmi` and `image prune`: Docker's rules of what goes, what stays and what is in conflict.

An untagged image goes with its layers; a tag goes alone while others are left; a parent that nothing names any more goes with its
last child. Hard conflicts (children, running containers) stand against force, soft ones (stopped containers, names) do not.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from compat_engine.errors import Conflict, NotFound
from compat_engine.ids import short
from compat_engine.images.gc import collect
from compat_engine.images.library import Library
from compat_engine.images.records import Image, Layer
from compat_engine.images.reference import Reference, parse


@dataclass(frozen=True, slots=True)
class User:
    """A container that uses an image."""

    id: str
    running: bool


@dataclass(slots=True)
class Removal:
    """What one call did, in order: ("Untagged", reference) and ("Deleted", digest) as Docker reports it."""

    records: list[tuple[str, str]] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)  # ("untag" or "delete", image id)
    layers: list[Layer] = field(default_factory=list)

    @property
    def freed(self) -> int:
        """Bytes of the layers removed."""
        return sum(layer.size for layer in self.layers)


InUse = Callable[[str], Iterable[User]]  # image id -> containers


@dataclass(frozen=True, slots=True)
class _Conflict:
    text: str
    hard: bool = False
    used: bool = False


async def remove(library: Library, word: str, force: bool, noprune: bool, in_use: InUse) -> Removal:
    """Raises NotFound and Conflict with Docker's texts."""
    async with library.lock:
        image = library.find(word)
        removal = Removal()
        quiet = False
        if _is_id(image.id, word):
            await _by_id(library, image, force, in_use, removal)
        elif await _by_reference(library, image, word, force, in_use, removal):
            return removal
        else:
            quiet = True
        await _delete(library, image, force, noprune, in_use, removal, quiet)
        return removal


async def prune(library: Library, images: list[Image], dangling_only: bool, in_use: InUse) -> Removal:
    """Removes those of `images` that nothing uses; with `dangling_only` those that have no tag. Conflicts are passed over."""
    total = Removal()
    for image in images:
        references = library.references(image.id)
        if dangling_only and any(reference.tag for reference in references):
            continue
        for word in [str(reference) for reference in references] or [image.id]:
            try:
                part = await remove(library, word, False, False, in_use)
            except (Conflict, NotFound):
                continue
            total.records += part.records
            total.events += part.events
            total.layers += part.layers
    return total


async def _by_reference(library: Library, image: Image, word: str, force: bool, in_use: InUse, removal: Removal) -> bool:
    """Untags; true when the image keeps other names."""
    reference = parse(word).tagged
    if not force and _single(library.references(image.id)):
        user = next(iter(in_use(image.id)), None)
        if user is not None:
            raise Conflict(
                f'conflict: unable to remove repository reference "{word}" (must force) - '
                f"container {short(user.id)} is using its referenced image {short(image.id)}"
            )
    await _untag(library, image, [reference], removal)
    left = library.references(image.id)
    if not reference.digest and not any(other.tag and other.name == reference.name for other in left):
        await _untag(library, image, [other for other in left if other.name == reference.name], removal)
    return bool(library.references(image.id))


async def _by_id(library: Library, image: Image, force: bool, in_use: InUse, removal: Removal) -> None:
    references = library.references(image.id)
    if not _single(references):
        return
    conflict = _conflict(library, image, in_use, soft=not force, names=False)
    if conflict is not None:
        raise _refusal(image, conflict)
    await _untag(library, image, references, removal)


async def _delete(
    library: Library, image: Image, force: bool, noprune: bool, in_use: InUse, removal: Removal, quiet: bool
) -> None:
    conflict = _conflict(library, image, in_use, soft=not force, names=not force)
    if conflict is not None:
        dangling = not library.references(image.id) and not library.children(image.id)
        if quiet and (not dangling or conflict.used):
            return
        raise _refusal(image, conflict)
    await _untag(library, image, library.references(image.id), removal)
    layers = await collect(library, [image.id])
    removal.events.append(("delete", image.id))
    removal.records.append(("Deleted", image.id))
    removal.records += [("Deleted", layer.chain_id) for layer in layers]
    removal.layers += layers
    parent = library.images.get(image.parent)
    if not noprune and parent is not None:
        await _delete(library, parent, False, False, in_use, removal, True)


def _conflict(library: Library, image: Image, in_use: InUse, soft: bool, names: bool) -> _Conflict | None:
    if library.children(image.id):
        return _Conflict("image has dependent child images", hard=True)
    users = list(in_use(image.id))
    running = next((user for user in users if user.running), None)
    if running is not None:
        return _Conflict(f"image is being used by running container {short(running.id)}", hard=True, used=True)
    if names and library.references(image.id):
        return _Conflict("image is referenced in multiple repositories")
    if soft and users:
        return _Conflict(f"image is being used by stopped container {short(users[0].id)}", used=True)
    return None


def _refusal(image: Image, conflict: _Conflict) -> Conflict:
    force = "cannot be forced" if conflict.hard else "must be forced"
    return Conflict(f"conflict: unable to delete {short(image.id)} ({force}) - {conflict.text}")


async def _untag(library: Library, image: Image, references: list[Reference], removal: Removal) -> None:
    references = list(references)
    await library.untag(references)
    removal.events += [("untag", image.id)] * len(references)
    removal.records += [("Untagged", reference.familiar) for reference in references]


def _single(references: list[Reference]) -> bool:
    """At most one tag, and every digest in that tag's repository."""
    tags = [reference for reference in references if not reference.digest]
    repositories = {reference.name for reference in references}
    return len(references) <= 1 or (len(tags) <= 1 and len(repositories) == 1)


def _is_id(id: str, word: str) -> bool:
    bare = word.removeprefix("sha256:")
    return id.removeprefix("sha256:").startswith(bare) if bare else False
