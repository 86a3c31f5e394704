"""--iptables=false: the host's packet filter is left alone.

Nothing is masqueraded or kept apart then, and published ports are served by the daemon's relays (relay.py).
"""

from typing import Any

from compat_engine.network.edge import LinuxEdge
from compat_engine.network.firewall import remove_table


class UnfilteredEdge(LinuxEdge):
    """Removes the table a daemon before may have left, and writes none. Raises Internal."""

    # Without our rules a neighbour could reach what listens on the host's loopback only (CVE-2020-8558).
    route_localnet = "0"

    def __init__(self, table: str) -> None:
        super().__init__()
        self._worker.submit(self._nft.run, remove_table(table)).result()

    async def nft(self, commands: str) -> None:
        pass

    async def nft_list(self, what: str) -> list[dict[str, Any]]:
        return []
