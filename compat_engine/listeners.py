"""Sockets to serve on, from dockerd's host words: unix://PATH, tcp://ADDRESS:PORT, fd://."""

import grp
import logging
import os
import socket
from pathlib import Path

from compat_engine.errors import InvalidParameter

log = logging.getLogger(__name__)
SD_LISTEN_FDS_START = 3  # sd_listen_fds(3)


def listen(host: str, group: str) -> list[socket.socket]:
    """Bound and listening sockets. Raises InvalidParameter for a word it cannot read, OSError when binding fails."""
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = "tcp", host
    if scheme == "unix" and rest.startswith("/"):
        return [_unix(Path(rest), group)]
    if scheme == "tcp":
        return [_tcp(rest)]
    if scheme == "fd":
        return _inherited()
    raise InvalidParameter(f"invalid bind address ({host}): should be unix:///path, tcp://address:port or fd://")


def _unix(path: Path, group: str) -> socket.socket:
    """0660 and owned by the group, when the host has it. A stale socket file is replaced, a served one refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_socket() and _served(path):
        raise InvalidParameter(f"can't listen on unix://{path}: another daemon serves it")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o117)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    try:
        os.chown(path, 0, grp.getgrnam(group).gr_gid)
    except KeyError:
        log.debug("no group %s: %s stays with root", group, path)
    listener.listen(1024)
    return listener


def _served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) == 0


def _tcp(rest: str) -> socket.socket:
    address, _, port = rest.rpartition(":")
    if not port.isdecimal():
        raise InvalidParameter(f"invalid bind address (tcp://{rest}): a port is wanted")
    address = address.strip("[]") or "127.0.0.1"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if address not in ("127.0.0.1", "::1", "localhost"):
        log.warning("binding to %s without TLS gives root on this host to everyone who can reach it", address)
    return socket.create_server((address, int(port)), family=family, backlog=1024)


def _inherited() -> list[socket.socket]:
    """What systemd passed (LISTEN_FDS)."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        raise InvalidParameter("no sockets found via socket activation: make sure the service was started by systemd")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return [socket.socket(fileno=number) for number in range(SD_LISTEN_FDS_START, SD_LISTEN_FDS_START + count)]
