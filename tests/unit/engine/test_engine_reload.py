"""What of daemon.json a running daemon follows."""

import json
import os
from pathlib import Path

import pytest

from compat_engine.config import Config, from_arguments, reloaded
from compat_engine.errors import InvalidParameter


def told(file: Path, **settings: object) -> None:
    file.write_text(json.dumps({key.replace("_", "-"): value for key, value in settings.items()}))


def test_what_is_reloaded_kept_and_reset(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    arguments = ["--config-file", str(file), "--max-concurrent-uploads", "2"]
    told(file, labels=["a=1"], max_concurrent_downloads=9, live_restore=True, bridge="br9")
    began = from_arguments(arguments)
    told(file, debug=True, labels=["b=2"], registry_mirrors=["https://m.example"], bridge="br10", shutdown_timeout=40)
    now = reloaded(began, arguments)
    assert (now.debug, now.labels, now.registry_mirrors) == (True, ("b=2",), ("https://m.example",))
    assert (now.max_concurrent_downloads, now.max_concurrent_uploads, now.shutdown_timeout) == (3, 2, 40)
    assert (now.live_restore, now.bridge) == (True, "br9")
    told(file)
    later = reloaded(now, arguments)
    assert (later.debug, later.registry_mirrors, later.shutdown_timeout, later.labels) == (True, now.registry_mirrors, 40, ())


def test_a_size_is_written_as_for_dockerd_or_in_bytes(tmp_path: Path) -> None:
    file = tmp_path / "daemon.json"
    for size in ("64M", "64mib", 64 << 20):
        told(file, default_shm_size=size)
        assert from_arguments(["--config-file", str(file)]).default_shm_size == 64 << 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{bad", "invalid JSON"),
        ('{"nosuch": 1}', "the following directives don't match any configuration option: nosuch"),
        ('{"default-shm-size": "64X"}', "invalid size: '64X'"),
        ('{"max-concurrent-downloads": -1}', "invalid max concurrent value: -1"),
        ('{"debug": true, "labels": 5}', "invalid value for labels"),
        ('{"registry-mirrors": ["foo"]}', "is not a valid URI"),
        ('{"data-root": "/x"}', "specified both as a flag and in the configuration file: data-root"),
        ('{"shutdown-timeout": 1e999}', "invalid value for shutdown-timeout"),
        ('{"default-network-opts": [null]}', "invalid value for default-network-opts"),
        ("[" * 100_000, "invalid JSON"),
        ("\udcff{}", "invalid JSON"),  # no UTF-8
        (None, "no such file or directory"),
    ],
)
def test_a_bad_file_changes_nothing(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "daemon.json"
    if text is not None:
        file.write_bytes(os.fsencode(text))
    with pytest.raises(InvalidParameter) as refused:
        reloaded(Config(), ["--config-file", str(file), "--data-root", str(tmp_path)])
    assert message in str(refused.value)


def test_what_is_no_file_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match="is a directory"):
        reloaded(Config(), ["--config-file", str(tmp_path)])
