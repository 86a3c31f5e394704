"""How much a container takes on the disk."""

from compat_engine.engine.parts import Engine
from compat_engine.engine.records import ContainerRecord
from compat_engine.errors import NotFound


async def sizes(engine: Engine, record: ContainerRecord) -> dict[str, int]:
    """SizeRw: bytes written in the container; SizeRootFs: with its image's."""
    written = await engine.images.snapshots.usage(record.id)
    try:
        return {"SizeRw": written, "SizeRootFs": written + engine.images.find(record.image).size}
    except NotFound:
        return {"SizeRw": written, "SizeRootFs": written}  # the image was removed by force
