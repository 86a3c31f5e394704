"""Sizes and truth values as people write them for Docker: "64M", "1.5 GiB", "T"."""

import re

from compat_engine.errors import InvalidParameter

_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+) ?(?:([kmgtp])i?b?|b)?", re.IGNORECASE)
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


def boolean(text: str) -> bool:
    """As Go's strconv.ParseBool. Raises InvalidParameter with its text."""
    if text not in _TRUE + _FALSE:
        raise InvalidParameter(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in _TRUE


def size_bytes(text: str, base: int = 1000) -> int:
    """ "10m" -> bytes, in powers of `base`, as Docker's go-units reads it. Raises InvalidParameter with its text."""
    match = _SIZE.fullmatch(text)
    if not match or len(match[1]) > 18:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(float(match[1]) * base ** " kmgtp".index((match[2] or " ").lower()))
