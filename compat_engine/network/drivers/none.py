"""Driver "null", the network called none: a namespace with nothing but lo."""

from collections.abc import Sequence

from compat_engine.errors import Forbidden
from compat_engine.network.model import NONE, Endpoint, Network
from compat_engine.network.plan import LoopbackPlan


class Null:
    addresses = publishes = several_subnets = False

    def validate(self, network: Network, others: Sequence[Network]) -> None:
        if network.name != NONE and not network.config_only:
            raise Forbidden('only one instance of "null" network is allowed')

    def host(self, network: Network) -> None:
        return None

    def plug(self, network: Network, endpoint: Endpoint) -> Endpoint:
        return endpoint

    def endpoint(self, network: Network, endpoint: Endpoint) -> LoopbackPlan:
        return LoopbackPlan()
