"""A container's log driver and its options: what is refused at create, and what a start makes of them."""

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from compat_engine.config import Config
from compat_engine.engine.logattrs import log_attributes
from compat_engine.engine.records import ContainerRecord
from compat_engine.errors import Internal, InvalidParameter
from compat_engine.logs.read import DRIVERS
from compat_engine.shim.spec import Log
from compat_engine.store.tree import Tree
from compat_engine.units import boolean, size_bytes
from compat_engine.wire.container import LogConfig

T = TypeVar("T")

_ANY_DRIVER = frozenset(("mode", "max-buffer-size", "cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"))
_FILES = frozenset(("max-size", "max-file", "compress"))
_OPTIONS = {"json-file": _FILES | {"labels", "labels-regex", "env", "env-regex", "tag"}, "local": _FILES}
_ROTATION = {"max-size": "100m", "max-file": "3"}  # of json-file, when the size is left open: no log fills the disk
_LOCAL = {"max-size": "20m", "max-file": "5", "compress": "true"}
_BUFFER = "1m"
_INTEGER = re.compile(r"[+-]?\d{1,18}")


def resolve(config: Config, asked: LogConfig) -> LogConfig:
    """The daemon's driver where none is asked for, and its options where the driver is the daemon's."""
    driver, options = asked.Type or config.log_driver, asked.Config or {}
    return LogConfig(Type=driver, Config={**config.log_opts, **options} if driver == config.log_driver else options)


def check(driver: str, options: Mapping[str, str]) -> None:
    """What can be refused before a log is written. Raises InvalidParameter."""
    if driver == "none":
        return
    if driver not in DRIVERS:
        raise InvalidParameter(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidParameter("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        try:
            size_bytes(options["max-buffer-size"], 1024)
        except InvalidParameter as error:
            raise InvalidParameter(f"error parsing option max-buffer-size: {error}") from error
    for name in options:
        if name not in _ANY_DRIVER | _OPTIONS[driver]:
            whose = "for log driver local" if driver == "local" else f"for {driver} log driver"
            raise InvalidParameter(f"unknown log opt '{name}' {whose}")


def plan(tree: Tree, record: ContainerRecord) -> Log:
    """What the shim is to write. Raises Internal for an option's value that makes no sense."""
    driver, options = record.host_config.LogConfig.Type, record.host_config.LogConfig.Config or {}
    if driver == "none":
        return Log(driver="none")
    try:
        return _local(tree, record, options) if driver == "local" else _json_file(tree, record, options)
    except InvalidParameter as error:
        raise Internal(f"failed to create task for container: failed to initialize logging driver: {error}") from error


def _json_file(tree: Tree, record: ContainerRecord, asked: Mapping[str, str]) -> Log:
    options = asked if "max-size" in asked else {**_ROTATION, **asked}
    size, files = size_bytes(options["max-size"]), _integer(options.get("max-file", "1"))
    compress = boolean(asked.get("compress", "false"))
    if size <= 0:
        raise InvalidParameter("max-size must be a positive number")
    if files < 1:
        raise InvalidParameter("max-file cannot be less than 1")
    if compress and ("max-size" not in asked or files < 2):
        raise InvalidParameter("compress cannot be true when max-file is less than 2 or max-size is not set")
    path = str(tree.log(record.id))
    attributes = log_attributes(record, asked, path)
    return Log("json-file", path, size, files, compress, _buffer(options), attributes)


def _local(tree: Tree, record: ContainerRecord, asked: Mapping[str, str]) -> Log:
    options = {**_LOCAL, **asked}
    size = _named("invalid value for max-size: {value}: {error}", size_bytes, options["max-size"])
    files = _named("invalid value for max-file: {value}: {error}", _integer, options["max-file"])
    compress = _named("error reading compress log option: {error}", boolean, options["compress"])
    if files < 0:
        raise InvalidParameter("max file count cannot be less than 0")
    if compress and files < 2:
        raise InvalidParameter("compression cannot be enabled when max file count is 1")
    path = tree.log(record.id, "local")
    path.parent.mkdir(mode=0o700, exist_ok=True)
    return Log("local", str(path), size, max(files, 1), compress, _buffer(options))


def _named(form: str, convert: Callable[[str], T], value: str) -> T:
    try:
        return convert(value)
    except InvalidParameter as error:
        raise InvalidParameter(form.format(value=value, error=error)) from error


def _buffer(options: Mapping[str, str]) -> int:
    return size_bytes(options.get("max-buffer-size", _BUFFER), 1024) if options.get("mode") == "non-blocking" else -1


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise InvalidParameter(f'strconv.Atoi: parsing "{text}": invalid syntax')
    return int(text)
