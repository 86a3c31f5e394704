"""How many downloads or uploads go on at once, with a limit that changes."""

import asyncio

from compat_engine.images.registry.slots import Slots


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_limit_that_changes() -> None:
    limit = 1
    slots = Slots(lambda: limit)
    doors = [asyncio.Event() for _ in range(6)]
    entered: list[int] = []

    async def work(number: int) -> None:
        async with slots:
            entered.append(number)
            await doors[number].wait()

    tasks = [asyncio.create_task(work(number)) for number in range(6)]
    await settle()
    assert entered == [0]
    assert slots.locked()
    limit = 3
    doors[0].set()
    await settle()
    assert entered == [0, 1, 2, 3]
    limit = 1
    tasks[1].cancel()
    doors[2].set()
    await settle()
    assert entered == [0, 1, 2, 3]
    for door in doors:
        door.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert entered == list(range(6))
    assert not slots.locked()
