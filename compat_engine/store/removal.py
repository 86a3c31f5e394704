"""Removing trees that containers and archives made, however deep they are."""

import os
import secrets
from collections.abc import Iterator
from itertools import count

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str | bytes | os.PathLike[str]) -> None:
    """The directory `path` and all that is in it, on one filesystem. Follows no link. Raises OSError.

    Directories inside are first moved up to the top, so that neither the depth nor the length of a path has a limit: a
    container can nest deeper than recursion, open files or PATH_MAX allow.
    """
    root = os.open(path, _DIRECTORY)
    try:
        prefix = secrets.token_hex(16)  # which nothing in the tree can have guessed
        names = (f".{prefix}-{number}" for number in count())
        doomed = _empty(root, root, names)
        while doomed:
            name = doomed.pop()
            directory = os.open(name, _DIRECTORY, dir_fd=root)
            try:
                doomed += _empty(directory, root, names)
            finally:
                os.close(directory)
            os.rmdir(name, dir_fd=root)
    finally:
        os.close(root)
    os.rmdir(path)


def _empty(directory: int, root: int, names: Iterator[str]) -> list[str]:
    """The names below `root` of the directories that were in `directory`; everything else in it is gone."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name in (name for name, is_directory in found if not is_directory):
        os.unlink(name, dir_fd=directory)
    return [_move(name, directory, root, names) for name, is_directory in found if is_directory]


def _move(name: str, directory: int, root: int, names: Iterator[str]) -> str:
    if directory == root:
        return name
    new = next(names)
    os.rename(name, new, src_dir_fd=directory, dst_dir_fd=root)
    return new
