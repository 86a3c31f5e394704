"""Parents of macvlan and ipvlan networks that are not there yet: a VLAN of an interface, or one that leads nowhere."""

from collections.abc import Collection

from compat_engine.errors import Internal
from compat_engine.network.edge import Edge
from compat_engine.network.plan import ParentPlan


async def make_parent(edge: Edge, plan: ParentPlan) -> None:
    """Raises Internal with dockerd's text when it is missing and cannot be made."""
    links = await edge.links()
    if plan.name in links:
        return
    if plan.dummy:
        await edge.add_dummy(plan.name, plan.alias)
        return
    base, vlan = vlan_of(plan.name, links)
    await edge.add_vlan(plan.name, base, vlan, plan.alias)


def vlan_of(name: str, interfaces: Collection[str]) -> tuple[str, int]:
    """("eth0", 10) of "eth0.10". Raises Internal when it is no such name, or not of one of the host's interfaces."""
    words = name.split(".")
    if len(words) == 1:
        raise Internal(f"invalid subinterface vlan name {name}, example formatting is eth0.10")
    if len(words) > 2:
        raise Internal(f"required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {name}")
    base, number = words
    if not number.isdecimal() or not number.isascii():
        raise Internal(f"unable to parse a valid vlan id from: {number} (ex. eth0.10 for vlan 10)")
    if base not in interfaces:
        raise Internal(f"-o parent interface was not found on the host: {base}")
    if not 1 <= int(number) <= 4094:
        raise Internal(f"vlan id must be between 1-4094, received: {int(number)}")
    return base, int(number)
