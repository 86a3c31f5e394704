"""The daemon's configuration: one frozen value, made once from defaults, daemon.json and flags."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Config:
    """What the daemon was told. Paths are absolute; names follow dockerd's flags and daemon.json keys."""

    hosts: tuple[str, ...] = ("unix:///run/compat-engine/docker.sock",)
    data_root: Path = Path("/var/lib/compat-engine")
    exec_root: Path = Path("/run/compat-engine")
    pidfile: Path = Path("/run/compat-engine/compat-engine.pid")
    group: str = "docker"
    log_level: str = "info"
    bridge: str = "docker0"  # name of the default bridge; "none" turns the default network off
    bip: str = "172.17.0.1/16"  # address and prefix of the default bridge
    nft_table: str = ""  # nftables table (family inet and ip); "" derives compat-<bridge> from the bridge's name
    log_driver: str = "json-file"
    log_opts: dict[str, str] = field(default_factory=lambda: {"max-size": "100m", "max-file": "3"})
    default_shm_size: int = 64 << 20  # bytes
    shutdown_timeout: int = 15  # seconds
    live_restore: bool = True  # containers survive a stop of the daemon
    labels: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    cgroup_parent: str = "compat"  # parent of container cgroups, below the hierarchy's root
    api_version: str = "1.51"  # advertised; 1.24 to 1.56 are accepted in the path

    @property
    def table(self) -> str:
        return self.nft_table or f"compat-{self.bridge}"
