"""`--mount type=image`: the files of an image, read-only, in another one's container."""

from compat_engine.engine.parts import Engine
from compat_engine.engine.records import MountPoint
from compat_engine.engine.registry import Container
from compat_engine.shim.spec import Mount


def image_mounts(engine: Engine, container: Container) -> dict[str, Mount]:
    """What init is to mount, by destination. Raises NotFound for an image that was removed by force."""
    points = [point for point in container.record.mounts if point.type == "image"]
    return {point.destination: _mount(engine, container.id, point) for point in points}


def _mount(engine: Engine, id: str, point: MountPoint) -> Mount:
    staging = engine.tree.container(id) / "image"
    staging.mkdir(mode=0o700, exist_ok=True)
    lower = engine.images.snapshots.view(point.source).lower
    return Mount("overlay", str(staging), point.destination, ("bind", "rro", "rprivate"), subpath=point.subpath, lower=lower)
