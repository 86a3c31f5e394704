"""Content by digest: blobs/sha256/<hex>, each file's bytes exactly as they came, verified before they got their name.

A blob is born as a file below Tree.tmp on the same filesystem; `adopt` gives it its name. Who is referenced decides the images
package: this one only knows files.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from compat_engine.errors import Internal


class Blobs:
    """All methods block on the disk for at most a few system calls (`put` for the size of its bytes)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        return self._directory / digest.removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    def read(self, digest: str) -> bytes:
        """The bytes of a small blob (config, manifest). Raises Internal when it is missing or no longer what it was."""
        try:
            content = self.path(digest).read_bytes()
        except OSError as error:
            raise Internal(f"blob {digest}: {error.strerror}") from error
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise Internal(f"blob {digest} is corrupt")
        return content

    def put(self, content: bytes, tmp: Path) -> str:
        """Writes a small blob by way of a file in `tmp`; returns its digest. Durable only after `sync`."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if not self.has(digest):
            file = tmp / digest.removeprefix("sha256:")
            file.write_bytes(content)
            self.adopt(file, digest)
        return digest

    def adopt(self, file: Path, digest: str) -> None:
        """Moves a complete, verified file to its place. A blob already there is the same bytes: the newcomer goes."""
        target = self.path(digest)
        if target.exists():
            file.unlink()
        else:
            os.chmod(file, 0o600)
            os.rename(file, target)

    def sync(self) -> None:
        """Makes the names given so far durable."""
        sync_directory(self._directory)

    def remove(self, digests: Iterable[str]) -> None:
        for digest in digests:
            self.path(digest).unlink(missing_ok=True)

    def all(self) -> list[str]:
        """Digests of every blob on the disk."""
        return [f"sha256:{entry.name}" for entry in os.scandir(self._directory)]


def sync_directory(directory: Path) -> None:
    """fsync(2) of a directory: renames in it survive a power loss."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
