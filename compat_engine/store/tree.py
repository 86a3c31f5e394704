"""All paths below data-root and exec-root, in one place."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tree:
    """data: survives a reboot. exec: on a tmpfs, gone after a reboot."""

    data: Path
    exec: Path

    @property
    def database(self) -> Path:
        return self.data / "state.db"

    @property
    def containers(self) -> Path:
        return self.data / "containers"

    def container(self, id: str) -> Path:
        """hosts, hostname, resolv.conf and the log of one container."""
        return self.containers / id

    def log(self, id: str, driver: str = "json-file") -> Path:
        return self.containers / id / ("local-logs/container.log" if driver == "local" else f"{id}-json.log")

    @property
    def blobs(self) -> Path:
        return self.data / "blobs" / "sha256"

    @property
    def layers(self) -> Path:
        """overlay2/<cache id>/diff is one unpacked layer; overlay2/<container id>/{diff,work} a container's writable one."""
        return self.data / "overlay2"

    @property
    def volumes(self) -> Path:
        return self.data / "volumes"

    @property
    def tmp(self) -> Path:
        """Unfinished work on the same filesystem as what it becomes; emptied at start."""
        return self.data / "tmp"

    @property
    def downloads(self) -> Path:
        """Blobs on their way from a registry, named as in `blobs`; what there is of one is kept over a restart."""
        return self.data / "downloads"

    @property
    def cache(self) -> Path:
        """Compiled seccomp and BPF programs; may be deleted at any time while no daemon runs."""
        return self.data / "cache"

    @property
    def run_database(self) -> Path:
        """Records that end with the boot: endpoints of running containers."""
        return self.exec / "run.db"

    @property
    def bundles(self) -> Path:
        return self.exec / "containers"

    def bundle(self, id: str) -> Path:
        return self.bundles / id
