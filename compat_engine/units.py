"""Sizes as people write them for Docker: "64M", "1.5 GiB"."""

import re

from compat_engine.errors import InvalidParameter

_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+) ?(?:([kmgtp])i?b?|b)?", re.IGNORECASE)


def size_bytes(text: str, base: int = 1000) -> int:
    """ "10m" -> bytes, in powers of `base`. Raises InvalidParameter."""
    match = _SIZE.fullmatch(text)
    if not match or len(match[1]) > 18:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(float(match[1]) * base ** " kmgtp".index((match[2] or " ").lower()))
