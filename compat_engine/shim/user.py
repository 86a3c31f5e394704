"""Who a process runs as: Docker's "user[:group]" against the container's own /etc/passwd and /etc/group.

Called after pivot_root or setns, so the files are the container's. Failures have the step "user" and Docker's text, which the
API shows without any prefix.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from compat_engine.shim.failure import Failure
from compat_engine.shim.spec import User

_MAX_ID = (1 << 31) - 1
_MAX_DIGITS = 20
_MAX_FILE = 16 << 20  # bytes; the files are the image's, so neither their size nor their kind is trusted


@dataclass(frozen=True, slots=True)
class Identity:
    uid: int
    gid: int
    groups: tuple[int, ...]  # supplementary, gid first
    home: str


@dataclass(frozen=True, slots=True)
class _Account:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def resolve(user: User, passwd: str = "/etc/passwd", group: str = "/etc/group") -> Identity:
    """Raises Failure when a name is unknown or a number out of range, be it the image's: setuid(2) takes -1 for no change."""
    user_word, _, group_word = user.name.partition(":")
    groups = _groups(group)
    account = _find_account(user_word, _accounts(passwd))
    gid = account.gid
    memberships: tuple[int, ...] = ()
    if group_word:
        gid = _find_group(group_word, groups, "unable to find group")
    elif account.name:
        memberships = tuple(item.gid for item in groups if account.name in item.members)
    additional = tuple(_find_group(word, groups, "Unable to find group") for word in user.additional)
    ids = tuple(dict.fromkeys(_in_range(id) for id in (gid, *additional, *memberships)))
    return Identity(_in_range(account.uid), gid, ids, account.home)


def _find_account(word: str, accounts: Sequence[_Account]) -> _Account:
    uid = _number(word or "0")
    for account in accounts:
        if account.uid == uid if not word else account.name == word or account.uid == uid:
            return account
    if uid is None:
        raise _failure(f"unable to find user {word}: no matching entries in passwd file")
    return _Account("", uid, 0, "/")


def _find_group(word: str, groups: Sequence[_Group], complaint: str) -> int:
    gid = _number(word)
    for group in groups:
        if group.name == word or group.gid == gid:
            return group.gid
    if gid is None:
        raise _failure(f"{complaint} {word}: no matching entries in group file")
    return gid


def _number(word: str) -> int | None:
    digits = word[1:] if word[:1] in ("-", "+") else word
    if not (digits.isascii() and digits.isdigit()):
        return None
    return int(word) if len(digits) <= _MAX_DIGITS else _MAX_ID + 1


def _in_range(number: int) -> int:
    if not 0 <= number <= _MAX_ID:
        raise _failure(f"uids and gids must be in range 0-{_MAX_ID}")
    return number


def _failure(text: str) -> Failure:
    return Failure(0, "user", text)


def _accounts(path: str) -> list[_Account]:
    return [account for fields in _lines(path) if (account := _account(fields)) is not None]


def _account(fields: list[str]) -> _Account | None:
    if len(fields) < 4 or (uid := _number(fields[2])) is None or (gid := _number(fields[3])) is None:
        return None
    return _Account(fields[0], uid, gid, fields[5] if len(fields) > 5 else "")


def _groups(path: str) -> list[_Group]:
    return [_Group(f[0], gid, tuple(f[3].split(","))) for f in _lines(path) if len(f) > 3 and (gid := _number(f[2])) is not None]


def _lines(path: str) -> list[list[str]]:
    return [line.split(":") for line in _text(path).split("\n") if line.strip()]


def _text(path: str) -> str:
    """Empty when there is no such regular file."""
    try:
        # a FIFO or a device in their place must not block or act
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return ""
        return os.read(fd, min(found.st_size, _MAX_FILE)).decode("utf-8", "surrogateescape")
    finally:
        os.close(fd)
