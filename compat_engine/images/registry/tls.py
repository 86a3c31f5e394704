"""TLS to registries: the system's authorities, and per host the files of a certs.d directory."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from compat_engine.errors import Internal


@dataclass(frozen=True, slots=True)
class Trust:
    """What one endpoint's certificate is checked against, and what it is shown. authorities: files beside the system's."""

    authorities: tuple[Path, ...] = ()
    clients: tuple[tuple[Path, Path | None], ...] = ()  # (certificate, its key; None: in the same file)
    verify: bool = True


def read_directory(directory: Path, verify: bool) -> Trust:
    """A directory of Docker's certs.d: *.crt are authorities, *.cert with *.key a client's pair. Raises Internal when half of a
    pair is missing."""
    if not directory.is_dir():
        return Trust(verify=verify)
    names = sorted(directory.iterdir())
    clients = tuple((path, path.with_suffix(".key")) for path in names if path.suffix == ".cert")
    for certificate, key in clients:
        if not key.exists():
            hint = "CA certificates must use the extension .crt"
            raise Internal(f"missing key {key.name} for client certificate {certificate.name}. {hint}")
    for key in (path for path in names if path.suffix == ".key"):
        if not key.with_suffix(".cert").exists():
            raise Internal(f"missing client certificate {key.with_suffix('.cert').name} for key {key.name}")
    return Trust(tuple(path for path in names if path.suffix == ".crt"), clients, verify)


def context(trust: Trust) -> ssl.SSLContext:
    """Blocks on the files. Raises Internal for one that cannot be used."""
    if not trust.authorities and not trust.clients:
        return _common(trust.verify)
    made = _made(trust.verify)
    for path in trust.authorities:
        _load(made.load_verify_locations, path)
    for certificate, key in trust.clients:
        _load(made.load_cert_chain, certificate, key)
    return made


@cache
def _common(verify: bool) -> ssl.SSLContext:
    return _made(verify)


def _made(verify: bool) -> ssl.SSLContext:
    if verify:
        return ssl.create_default_context()
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the system's authorities, whose reading takes its time
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    return unchecked


def _load(function: Callable[..., None], *paths: Path | None) -> None:
    try:
        function(*paths)
    except (OSError, ssl.SSLError) as error:
        raise Internal(f"could not load certificate {paths[0]}: {error}") from error
