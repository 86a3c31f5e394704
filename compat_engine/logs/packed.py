"""A rotated log file that was compressed: gzip, with what a reader wants to know beforehand in the extra field (as Docker's)."""

import json
import os
import zlib
from contextlib import suppress
from pathlib import Path
from struct import unpack

from compat_engine.logs.query import padded

_CHUNK = 256 << 10
_HAS_EXTRA = 4


class Packed:
    """Open; `close` when done. identity: (device, inode); origin: those of the file it was made of, if known. last_time: of its
    last record, padded, "" when unknown."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError."""
        self._directory = path.parent
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        status, about = os.fstat(self._fd), self._about()
        self.identity = (status.st_dev, status.st_ino)
        self.origin = (status.st_dev, int(about.get("inode", status.st_ino)))
        self.last_time = padded(about["lastTime"]) if "lastTime" in about else ""

    def unpack(self) -> int:
        """Its content as an open file without a name. Where it is damaged the content ends."""
        plain = os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        offset = 0
        with suppress(zlib.error), open(plain, "wb", closefd=False) as out:
            while chunk := os.pread(self._fd, _CHUNK, offset):
                out.write(unpacker.decompress(chunk))
                offset += len(chunk)
        return plain

    def close(self) -> None:
        os.close(self._fd)

    def _about(self) -> dict[str, str]:
        head = os.pread(self._fd, 12, 0)
        if len(head) < 12 or not head[3] & _HAS_EXTRA:
            return {}
        with suppress(ValueError):
            found = json.loads(os.pread(self._fd, unpack("<H", head[10:])[0], 12))
            return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
        return {}
