"""Image use cases: what /images answers, and the events."""

import re
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Any

from compat_engine.engine.filters import Filters, boolean_filter, check_filters, labels_match, prunable_labels, until
from compat_engine.engine.imagemanifests import manifests
from compat_engine.engine.parts import Engine
from compat_engine.engine.patterns import path_match
from compat_engine.engine.records import ContainerRecord
from compat_engine.engine.transfers import platform_of
from compat_engine.errors import InvalidParameter, NotFound
from compat_engine.images.archive_load import Platform
from compat_engine.images.images import Image, Removal, User
from compat_engine.images.import_ import download
from compat_engine.images.layers import Say
from compat_engine.images.reference import Reference, repository_tag
from compat_engine.images.waiting import narrated

_LIST_FILTERS = frozenset(("before", "dangling", "label", "reference", "since", "until"))
_PRUNE_FILTERS = frozenset(("dangling", "label", "label!", "until"))
_NEVER = "0001-01-01T00:00:00Z"
CONFIG_KEYS = (
    *("User", "ExposedPorts", "Env", "Cmd", "Healthcheck", "ArgsEscaped", "Volumes", "WorkingDir", "Entrypoint"),
    *("OnBuild", "Labels", "StopSignal", "Shell"),
)


def list_images(
    engine: Engine, filters: Filters, all: bool, shared_size: bool, with_manifests: bool = False
) -> list[dict[str, Any]]:
    """GET /images/json, newest first. Raises InvalidParameter for a filter that is not known, NotFound for before and since."""
    check_filters(filters, _LIST_FILTERS)
    dangling = boolean_filter(filters, "dangling")
    newest = min((created(engine.images.find(word)) for word in filters.get("before", ())), default=None)
    oldest = max((created(engine.images.find(word)) for word in filters.get("since", ())), default=None)
    limit = until(filters)
    users = _counts(engine)
    found = []
    for image in sorted(engine.images.all(), key=created, reverse=True):
        age = created(image)
        if (
            (newest is not None and age >= newest)
            or (oldest is not None and age <= oldest)
            or (limit is not None and age > limit)
        ):
            continue
        if not labels_match(filters, image.labels):
            continue
        names = [name for name in engine.images.references(image.id) if _named(name, filters.get("reference", ()))]
        if _listed(engine, image, names, all, dangling, bool(filters.get("reference"))):
            shared = engine.images.shared_size(image) if shared_size else -1
            more = {"Manifests": manifests(engine, image)} if with_manifests else {}
            found.append({**_summary(image, names, shared, users.get(image.id, 0)), **more})
    return found


def inspect(engine: Engine, word: str, platform: str, with_manifests: bool = False) -> dict[str, Any]:
    """GET /images/{name}/json. Raises NotFound."""
    image = engine.images.find(word, platform)
    config = image.config
    history = config.get("history") or []
    comment = config.get("comment") or (history[-1].get("comment") if history else "")
    system, architecture, variant = image.platform
    return {
        "Id": image.id,
        "RepoTags": engine.images.tags(image.id),
        "RepoDigests": engine.images.digests(image.id),
        **_present({"Parent": image.parent, "Comment": comment, "Created": image.created}),
        **_present({"DockerVersion": config.get("docker_version"), "Author": config.get("author")}),
        "Config": {name: image.runtime[name] for name in CONFIG_KEYS if image.runtime.get(name)},
        "Architecture": architecture,
        **_present({"Variant": variant}),
        "Os": system,
        **_present({"OsVersion": config.get("os.version")}),
        "Size": image.size,
        "GraphDriver": {"Data": _directories(engine, image), "Name": "overlay2"},
        "RootFS": {"Type": "layers", **_present({"Layers": [layer.diff_id for layer in image.layers]})},
        "Metadata": {"LastTagTime": image.tagged_at or _NEVER},
        **({"Manifests": manifests(engine, image)} if with_manifests else {}),
    }


def history(engine: Engine, word: str, platform: str) -> list[dict[str, Any]]:
    """GET /images/{name}/history, newest first; steps that changed no file have the size 0."""
    image = engine.images.find(word, platform)
    sizes = iter([layer.size for layer in image.layers])
    steps = [
        {
            "Comment": step.get("comment") or "",
            "Created": int(_seconds(step.get("created") or "")),
            "CreatedBy": step.get("created_by") or "",
            "Id": "<missing>",
            "Size": 0 if step.get("empty_layer") else next(sizes, 0),
            "Tags": None,
        }
        for step in image.config.get("history") or []
    ][::-1]
    parent: Image | None = image
    for step in steps:
        if parent is None:
            break
        step["Id"], step["Tags"] = parent.id, engine.images.tags(parent.id) or None
        parent = _parent(engine, parent)
    return steps


async def tag(engine: Engine, word: str, repository: str, tag: str) -> None:
    """POST /images/{name}/tag. Raises NotFound, InvalidParameter."""
    image = engine.images.find(word)
    reference = checked_name(repository, tag)
    if reference is None:
        raise InvalidParameter("invalid reference format: repository name must not be empty")
    await engine.images.tag(image, reference)
    _event(engine, "tag", image, reference.familiar)


def checked_name(repository: str, tag: str) -> Reference | None:
    """The reference an image is to get, None when none is asked for. Raises InvalidParameter."""
    reference = repository_tag(repository, tag)
    if reference is not None and reference.familiar_name == "sha256":
        raise InvalidParameter("refusing to create an ambiguous tag using digest algorithm as name")
    return reference


async def remove(engine: Engine, word: str, force: bool, noprune: bool, platform: str = "") -> list[dict[str, str]]:
    """DELETE /images/{name}: what was untagged and deleted. Raises NotFound, also for another platform's image; Conflict."""
    labels = engine.images.find(word, platform).labels
    removal = await engine.images.remove(word, force, noprune, lambda id: _users(engine, id))
    _removed(engine, removal, labels)
    return [{kind: name} for kind, name in removal.records]


async def prune(engine: Engine, filters: Filters) -> dict[str, Any]:
    """POST /images/prune: images without a tag, with dangling=false all that no container uses."""
    check_filters(filters, _PRUNE_FILTERS)
    dangling = boolean_filter(filters, "dangling") is not False
    limit = until(filters)
    chosen = [
        image
        for image in engine.images.all()
        if (limit is None or created(image) <= limit)
        and prunable_labels(filters, image.labels)
        and (engine.images.references(image.id) or not engine.images.children(image.id))
    ]
    removal = await engine.images.prune(chosen, dangling, lambda id: _users(engine, id))
    _removed(engine, removal, {})
    engine.events.publish("image", "prune", "", {"reclaimed": str(removal.freed)})
    return {"ImagesDeleted": [{kind: name} for kind, name in removal.records] or None, "SpaceReclaimed": removal.freed}


def load(engine: Engine, body: AsyncIterator[bytes], quiet: bool, platform: Platform | None) -> AsyncIterator[dict[str, Any]]:
    """POST /images/load: progress objects. Raises InvalidParameter."""
    return engine.images.load(body, quiet, platform, lambda image: _event(engine, "load", image, image.id))


def save(engine: Engine, words: list[str], platform: str = "") -> AsyncIterator[bytes]:
    """GET /images/get: a tar. Raises NotFound at once."""
    archive = engine.images.save(words, platform)
    for id in dict.fromkeys(image.id for image in map(_finder(engine), words) if image):
        _event(engine, "save", engine.images.find(id), id)
    return archive


def import_(
    engine: Engine,
    source: str,
    body: AsyncIterator[bytes],
    name: Reference | None,
    lines: tuple[str, ...],
    message: str,
    platform: str,
) -> AsyncIterator[dict[str, Any]]:
    """POST /images/create?fromSrc=: from the body (source "-") or a URL. The last object's status is the image's id."""
    wanted = platform_of(platform) if platform else None

    async def work(say: Say) -> None:
        content = body
        if source != "-":
            content = await download(source, say)
            say({"status": f"Downloading from {source}"})
        image = await engine.images.import_(content, name, lines, message or f"Imported from {source}", wanted)
        if name is not None:
            _event(engine, "tag", image, name.familiar)
        _event(engine, "import", image, image.id)
        say({"status": image.id})

    return narrated(work)


def created(image: Image) -> float:
    """Seconds since the epoch."""
    return _seconds(image.created)


def _summary(image: Image, names: list[Reference], shared: int, containers: int) -> dict[str, Any]:
    return {
        "Containers": containers,
        "Created": int(created(image)),
        "Id": image.id,
        "Labels": image.runtime.get("Labels"),
        "ParentId": image.parent,
        "RepoDigests": [name.familiar for name in names if name.digest],
        "RepoTags": [name.familiar for name in names if not name.digest],
        "SharedSize": shared,
        "Size": image.size,
    }


def _listed(engine: Engine, image: Image, names: list[Reference], all: bool, dangling: bool | None, by_name: bool) -> bool:
    if not names:
        inner = bool(engine.images.children(image.id))
        untagged = not engine.images.references(image.id)
        return untagged and dangling is not False and not by_name and (all or not inner)
    return not (dangling and any(not name.digest for name in names))


def _named(reference: Reference, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns matches it with or without its tag; no pattern matches all."""
    patterns = list(patterns)
    return not patterns or any(path_match(p, reference.familiar) or path_match(p, reference.familiar_name) for p in patterns)


def _directories(engine: Engine, image: Image) -> dict[str, str]:
    if not image.layers:
        return {}
    top, *below = engine.images.directories(image)
    base = top.removesuffix("/diff")
    found = {"LowerDir": ":".join(below)} if below else {}
    return {**found, "MergedDir": f"{base}/merged", "UpperDir": top, "WorkDir": f"{base}/work"}


def _counts(engine: Engine) -> dict[str, int]:
    counts: dict[str, int] = {}
    for container in engine.containers.all():
        counts[container.record.image] = counts.get(container.record.image, 0) + 1
    return counts


def _users(engine: Engine, id: str) -> list[User]:
    return [User(item.id, item.state.running) for item in engine.containers.all() if _uses(item.record, id)]


def _uses(record: ContainerRecord, id: str) -> bool:
    return record.image == id or any(point.type == "image" and point.source == id for point in record.mounts)


def _finder(engine: Engine) -> Any:
    def find(word: str) -> Image | None:
        try:
            return engine.images.find(word)
        except NotFound:  # a repository without the tag latest: its images are saved under the tags they have
            return None

    return find


def _parent(engine: Engine, image: Image) -> Image | None:
    return next((other for other in engine.images.all() if other.id == image.parent), None) if image.parent else None


def _removed(engine: Engine, removal: Removal, labels: dict[str, str]) -> None:
    for action, id in removal.events:
        engine.events.publish("image", action, id, {**labels, "name": id})


def _event(engine: Engine, action: str, image: Image, name: str) -> None:
    engine.events.publish("image", action, image.id, {**image.labels, "name": name})


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _seconds(text: str) -> float:
    """RFC 3339 with any number of decimals; 0 for what is none."""
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()
    except (ValueError, OverflowError):
        return 0
