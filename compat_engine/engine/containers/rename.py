"""POST /containers/{id}/rename."""

from compat_engine.engine.containers.create import attributes
from compat_engine.engine.endpoints import renamed
from compat_engine.engine.parts import Engine
from compat_engine.errors import Conflict, InvalidParameter
from compat_engine.ids import check_name


async def rename(engine: Engine, word: str, name: str) -> None:
    """Raises NotFound, InvalidParameter (not a name, or the one it has), Conflict when the name is taken."""
    if not name:
        raise InvalidParameter("Neither old nor new names may be empty")
    container = engine.containers.find(word)
    async with container.lock:
        await engine.standby.dismiss(container)
        old = container.name
        if name.removeprefix("/") == old:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        try:
            await engine.containers.rename(container, check_name(f"/{name.removeprefix('/')}"))
        except (Conflict, InvalidParameter) as error:
            raise type(error)(f"Error when allocating new name: {error}") from None
        await renamed(engine, container)
    engine.events.publish("container", "rename", container.id, {**attributes(container.record), "oldName": f"/{old}"})
