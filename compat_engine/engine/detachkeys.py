"""The keys that end an attach and leave the container running (`--detach-keys`)."""

from typing import Final

from compat_engine.errors import InvalidParameter

DEFAULT: Final = "ctrl-p,ctrl-q"
_CONTROL: Final = {f"ctrl-{letter}": code for code, letter in enumerate("@abcdefghijklmnopqrstuvwxyz[\\]^_")} | {"DEL": 127}


class DetachKeys:
    """Scans what a client types. `keys`: comma-separated characters or ctrl-<a-z@[\\]^_>; "" is ctrl-p,ctrl-q.

    Raises InvalidParameter with Docker's text; `what` is the word it uses (detach for attach, escape for exec).
    """

    def __init__(self, keys: str = "", what: str = "detach") -> None:
        self.sequence = bytes(_code(key, f"Invalid {what} keys ({keys}) provided") for key in (keys or DEFAULT).split(","))
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(bytes to pass on, whether the sequence is complete). Bytes that may begin the sequence are held until the next call;
        what follows a complete sequence is dropped."""
        data = self._held + data
        start = data.find(self.sequence)
        if start >= 0:
            self._held = b""
            return data[:start], True
        keep = self._begun(data)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep], False

    def _begun(self, data: bytes) -> int:
        """How many of the last bytes are a beginning of the sequence."""
        longest = min(len(self.sequence) - 1, len(data))
        return next(size for size in range(longest, -1, -1) if data.endswith(self.sequence[:size]))


def _code(key: str, complaint: str) -> int:
    if len(key) == 1 and ord(key) < 256:
        return ord(key)
    if key not in _CONTROL:
        raise InvalidParameter(complaint)
    return _CONTROL[key]
