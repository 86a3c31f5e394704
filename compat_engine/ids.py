"""Identifiers, names and the rules by which a client's word finds an object."""

import re
import secrets
from collections.abc import Iterable

from compat_engine.errors import InvalidParameter, NotFound

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_HEX = frozenset("0123456789abcdef")
SHORT = 12


def new_id() -> str:
    """64 hex digits; never all decimal in the first twelve, as a short id must not read as a number."""
    while True:
        id = secrets.token_hex(32)
        if not id[:SHORT].isdecimal():
            return id


def short(id: str) -> str:
    return id.removeprefix("sha256:")[:SHORT]


def check_name(name: str) -> str:
    """`name` without its leading slash. Raises InvalidParameter with Docker's text."""
    bare = name.removeprefix("/")
    if not NAME.fullmatch(bare):
        raise InvalidParameter(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    return bare


def by_prefix(word: str, ids: Iterable[str], missing: str) -> str:
    """The one id that starts with `word`; raises NotFound(missing), or InvalidParameter when several do."""
    found = [id for id in ids if id.startswith(word)] if word and _HEX.issuperset(word) else []
    if len(found) > 1:
        raise InvalidParameter(f"multiple IDs found with provided prefix: {word}")
    if not found:
        raise NotFound(missing)
    return found[0]
