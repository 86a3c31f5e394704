"""System call numbers by architecture, from the table `syscalls.txt` beside this file."""

import os
from functools import cache
from types import MappingProxyType

_TABLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "syscalls.txt")


@cache
def numbers(architecture: str) -> "MappingProxyType[str, int]":
    """name -> number for "x86_64", "x86", "x32" (without its high bit), "aarch64" or "arm". Raises KeyError for others."""
    return MappingProxyType(_tables()[architecture])


@cache
def _tables() -> dict[str, dict[str, int]]:
    with open(_TABLE, encoding="ascii") as file:
        columns = file.readline().removeprefix("# name ").partition(":")[0].split()
        tables: dict[str, dict[str, int]] = {column: {} for column in columns}
        for line in file:
            if not line.startswith("#"):
                name, *fields = line.split()
                for column, field in zip(columns, fields, strict=True):
                    if field != "-":
                        tables[column][name] = int(field)
    return tables
