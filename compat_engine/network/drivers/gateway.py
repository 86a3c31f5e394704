"""How a bridge network is reached from outside, for each family: the option com.docker.network.bridge.gateway_mode_ipv4 or _ipv6.

docs.docker.com, "Port publishing and mapping", of Docker 28.
"""

from compat_engine.errors import Internal, InvalidParameter
from compat_engine.network.model import Network
from compat_engine.network.plan import ISOLATED, NAT, ROUTED, UNPROTECTED

OPTIONS = {4: "com.docker.network.bridge.gateway_mode_ipv4", 6: "com.docker.network.bridge.gateway_mode_ipv6"}


def gateway_mode(network: Network, version: int) -> str:
    """Raises InvalidParameter."""
    option = OPTIONS[version]
    value = network.options.get(option, NAT)
    if value not in (NAT, UNPROTECTED, ROUTED, ISOLATED):
        raise InvalidParameter(f"failed to parse {option} value: {value} (unknown gateway mode {value})")
    return value


def check_gateway_modes(network: Network) -> None:
    """Raises InvalidParameter, and Internal where dockerd answers 500."""
    modes = [gateway_mode(network, version) for version in OPTIONS]
    if ISOLATED in modes and not network.internal:
        raise Internal("gateway mode 'isolated' can only be used for an internal network")


def families(network: Network, mode: str) -> frozenset[int]:
    """Those, as 4 and 6, in which a network is in that mode; only the bridge driver has modes."""
    if network.driver != "bridge":
        return frozenset()
    enabled = [version for version, wanted in ((4, network.enable_ipv4), (6, network.enable_ipv6)) if wanted]
    return frozenset(version for version in enabled if gateway_mode(network, version) == mode)
