"""Whole small files by descriptor: open() would bring the io and codecs machinery into every shim's memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_LEAST = 1 << 12  # bytes a read; kernel files tell no size


def read(path: str, directory: int | None = None) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        data = chunk = os.read(fd, max(os.fstat(fd).st_size, _LEAST))
        while chunk:
            chunk = os.read(fd, _LEAST)
            data += chunk
        return data
    finally:
        os.close(fd)


def read_line(path: str, directory: int) -> bytes:
    """The first line, and of the rest no more than comes with it."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        data = chunk = os.read(fd, _LEAST)
        while chunk and b"\n" not in chunk:
            chunk = os.read(fd, _LEAST)
            data += chunk
        return data.partition(b"\n")[0]
    finally:
        os.close(fd)


def write(path: str, value: str) -> None:
    """To a file that exists, in one write(2), as kernel files want it."""
    with writing(path) as fd:
        os.write(fd, value.encode())


@contextmanager
def writing(path: str) -> Iterator[int]:
    """A descriptor for writing to a file that exists."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def replace(name: str, text: str, directory: int) -> None:
    """Put `text` in the place of `name`, whole or not at all."""
    temporary = f".{name}.tmp"
    append(temporary, text, directory, os.O_TRUNC)
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def append(name: str, text: str, directory: int, flags: int = os.O_APPEND) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600, dir_fd=directory)
    try:
        os.write(fd, text.encode("utf-8", "backslashreplace"))
    finally:
        os.close(fd)
