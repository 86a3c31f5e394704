"""Driver "host": the container runs in the host's network namespace."""

from collections.abc import Sequence

from compat_engine.errors import Forbidden
from compat_engine.network.model import HOST, Endpoint, Network
from compat_engine.network.plan import SharedPlan


class Host:
    addresses = publishes = several_subnets = False

    def validate(self, network: Network, others: Sequence[Network]) -> None:
        if network.name != HOST:
            raise Forbidden('only one instance of "host" network is allowed')

    def host(self, network: Network) -> None:
        return None

    def plug(self, network: Network, endpoint: Endpoint) -> Endpoint:
        return endpoint

    def endpoint(self, network: Network, endpoint: Endpoint) -> SharedPlan:
        return SharedPlan()
