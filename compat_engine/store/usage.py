"""How many bytes the files of a tree hold, while containers change it."""

import errno
import os
import stat
from collections.abc import Iterator

_PASSED_OVER = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


def disk_usage(directory: str | os.PathLike[str]) -> int:
    """Sizes of all that is no directory below `directory`, what has several names counted once. What vanishes meanwhile, or lies
    deeper than a path can say, is not counted. Raises OSError."""
    seen: set[tuple[int, int]] = set()
    total = 0
    todo = [os.fspath(directory)]
    while todo:
        for path, status in _entries(todo.pop()):
            key = (status.st_dev, status.st_ino)
            if stat.S_ISDIR(status.st_mode):
                todo.append(path)
            elif status.st_nlink == 1 or key not in seen:
                seen.add(key)
                total += status.st_size
    return total


def _entries(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    yield entry.path, entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
    except OSError as error:
        if error.errno not in _PASSED_OVER:
            raise
