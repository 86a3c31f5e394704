"""How each kind of network is laid out. A driver only plans; edge.py carries plans out.

A new driver is one more object in DRIVERS; tests/contract/test_drivers.py holds what is expected of each.
"""

from collections.abc import Sequence
from typing import Protocol

from compat_engine.errors import Forbidden, NotFound
from compat_engine.network.drivers.bridge import Bridge
from compat_engine.network.drivers.host import Host
from compat_engine.network.drivers.ipvlan import Ipvlan
from compat_engine.network.drivers.macvlan import Macvlan
from compat_engine.network.drivers.none import Null
from compat_engine.network.model import Endpoint, Network
from compat_engine.network.plan import EndpointPlan, HostPlan


class Driver(Protocol):
    """addresses: whether IPAM serves its networks. publishes: whether containers' ports can be published on the host.

    several_subnets: whether a network of its may have more than one of a family.
    """

    @property
    def addresses(self) -> bool: ...

    @property
    def publishes(self) -> bool: ...

    @property
    def several_subnets(self) -> bool: ...

    def validate(self, network: Network, others: Sequence[Network]) -> None:
        """Raises EngineError with Docker's text, before anything is made."""

    def host(self, network: Network) -> HostPlan | None:
        """What the network needs on the host."""

    def plug(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """The endpoint, which has addresses, gateways and the MAC asked for, with what this driver makes of them.

        Raises InvalidParameter, Internal.
        """

    def endpoint(self, network: Network, endpoint: Endpoint) -> EndpointPlan:
        """What one container needs in its network namespace."""


DRIVERS: dict[str, Driver] = {"bridge": Bridge(), "host": Host(), "null": Null(), "macvlan": Macvlan(), "ipvlan": Ipvlan()}


def driver_of(name: str) -> Driver:
    """Raises NotFound, or Forbidden for a driver that needs a swarm, with Docker's text."""
    if name == "overlay":
        raise Forbidden(
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
            "and try again."
        )
    if name not in DRIVERS:
        raise NotFound(f'plugin "{name}" not found')
    return DRIVERS[name]
