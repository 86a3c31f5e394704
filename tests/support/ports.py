"""Ports for tests to publish or to listen on, and what is served there."""

import errno
import http.client
import random
import socket

_PORTS = range(20000, 30000)  # below those that the kernel gives away: nobody else takes one between the look and the use


def free_port(address: str = "", count: int = 1, kind: int = socket.SOCK_STREAM) -> int:
    """The first of `count` ports in a row that nobody has at the moment. Raises OSError for an address that is not this host's."""
    while True:
        first = random.SystemRandom().choice(_PORTS)
        if all(can_bind(first + more, address, kind) for more in range(count)):
            return first


def can_bind(port: int, address: str = "", kind: int = socket.SOCK_STREAM) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        return True


def fetch(host: str, port: int) -> str:
    """The body served there; "" while nothing answers."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
