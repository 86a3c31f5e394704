"""How each kind of network is laid out. A driver only plans; edge.py carries plans out."""

from collections.abc import Sequence
from typing import Protocol

from compat_engine.errors import NotFound, NotImplementedHere
from compat_engine.network.drivers.bridge import Bridge
from compat_engine.network.drivers.host import Host
from compat_engine.network.drivers.none import Null
from compat_engine.network.model import Endpoint, Network
from compat_engine.network.plan import BridgePlan, EndpointPlan


class Driver(Protocol):
    """addresses: whether IPAM serves its networks."""

    @property
    def addresses(self) -> bool: ...

    def validate(self, network: Network, others: Sequence[Network]) -> None:
        """Raises InvalidParameter, Forbidden or NotImplementedHere, with Docker's text, before anything is made."""

    def bridge(self, network: Network) -> BridgePlan | None:
        """The bridge the network needs on the host."""

    def endpoint(self, network: Network, endpoint: Endpoint) -> EndpointPlan:
        """What one container needs in its network namespace."""


DRIVERS: dict[str, Driver] = {"bridge": Bridge(), "host": Host(), "null": Null()}
_NOT_YET = ("macvlan", "ipvlan", "overlay")


def driver_of(name: str) -> Driver:
    """Raises NotFound with Docker's text, NotImplementedHere for a driver Docker has and this engine does not."""
    if name in _NOT_YET:
        raise NotImplementedHere(f'network driver "{name}" is not available in this engine')
    if name not in DRIVERS:
        raise NotFound(f'plugin "{name}" not found')
    return DRIVERS[name]
