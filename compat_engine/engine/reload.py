"""SIGHUP: what daemon.json says of the settings that may change while the daemon runs."""

import json
import logging
import os
from collections.abc import Sequence

from compat_engine.config import Config, reloaded
from compat_engine.engine.parts import Engine
from compat_engine.engine.system import daemon_id
from compat_engine.errors import InvalidParameter

log = logging.getLogger(__name__)
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}


def set_level(config: Config) -> None:
    logging.getLogger().setLevel(logging.DEBUG if config.debug else _LEVELS[config.log_level])


async def reload(engine: Engine, arguments: Sequence[str]) -> None:
    """All of the file or, when something in it is wrong, nothing and a line in the log."""
    try:
        engine.settings.now = config = reloaded(engine.config, arguments)
    except InvalidParameter as error:
        log.error("the configuration stays as it was: %s", error)
        return
    set_level(config)
    log.info("the configuration has been loaded anew")
    engine.events.publish("daemon", "reload", await daemon_id(engine), {"name": os.uname().nodename, **_attributes(config)})


def _attributes(config: Config) -> dict[str, str]:
    """As in dockerd's event: lists as JSON."""
    lists = {
        "insecure-registries": config.insecure_registries,
        "labels": config.labels,
        "registry-mirrors": config.registry_mirrors,
    }
    return {
        "debug": _boolean(config.debug),
        "default-shm-size": str(config.default_shm_size),
        "live-restore": _boolean(config.live_restore),
        "max-concurrent-downloads": str(config.max_concurrent_downloads),
        "max-concurrent-uploads": str(config.max_concurrent_uploads),
        "max-download-attempts": str(config.max_download_attempts),
        "shutdown-timeout": str(config.shutdown_timeout),
        **{name: json.dumps(list(value), separators=(",", ":")) for name, value in lists.items()},
    }


def _boolean(value: bool) -> str:
    return "true" if value else "false"
