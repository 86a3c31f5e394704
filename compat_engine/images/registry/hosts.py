"""Where a registry is found: its own host, its mirrors, and what certs.d and hosts.toml say of them.

For a reference's domain the places to ask, in order, each with its trust. hosts.toml (containerd's format, any registry) wins
over `registry-mirrors`; the files are read at every pull, so a change needs no restart.
"""

import asyncio
import ipaddress
import socket
import ssl
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from compat_engine.config import Config
from compat_engine.errors import Internal
from compat_engine.images.reference import DEFAULT_DOMAIN
from compat_engine.images.registry.tls import Trust, context, read_directory

HUB = "registry-1.docker.io"
_LOOPBACK = ("127.0.0.0/8", "::1/128")
_ALL = ("pull", "resolve", "push")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place to ask. base: URL up to and with /v2, no slash at its end; namespace: the registry a mirror is to stand for."""

    base: str
    tls: ssl.SSLContext
    mirror: bool = False  # asked without the client's credentials, and passed over when it fails
    headers: tuple[tuple[str, str], ...] = ()
    namespace: str = ""

    @property
    def host(self) -> str:
        return urlsplit(self.base).netloc


class Hosts:
    """The daemon's registry settings, applied."""

    def __init__(self, config: Config) -> None:
        self._directories = config.certs_dirs
        self._mirrors = tuple(mirror.rpartition("=")[::2] for mirror in config.registry_mirrors)
        self._insecure = config.insecure_registries

    async def endpoints(self, domain: str, push: bool = False) -> list[Endpoint]:
        """Never empty; mirrors first, and none of them for a push that may not go there. Raises Internal for unusable files."""
        table = await asyncio.to_thread(self._table, domain)
        if table is not None:
            return await self._by_table(domain, table, push)
        mirrors = [] if push else [url for of, url in self._mirrors if (of or DEFAULT_DOMAIN) == domain]
        found = [endpoint for url in mirrors for endpoint in await self._mirror(url, domain)]
        return [*found, *await self._default(domain)]

    async def insecure(self, host: str) -> bool:
        """Whether `host` (host[:port]) is in insecure-registries, by name or by one of its addresses."""
        if host in self._insecure or host == HUB:
            return host != HUB
        networks = [ipaddress.ip_network(entry, strict=False) for entry in (*_LOOPBACK, *self._insecure) if is_network(entry)]
        return any(address in network for address in await _addresses(host) for network in networks)

    async def _default(self, domain: str) -> list[Endpoint]:
        host = HUB if domain == DEFAULT_DOMAIN else domain
        return await self._of_host(host, domain if domain == DEFAULT_DOMAIN else host)

    async def _of_host(self, host: str, certificates: str, mirror: bool = False, path: str = "") -> list[Endpoint]:
        """https, and http after it where that is allowed."""
        insecure = await self.insecure(host)
        trust = await asyncio.to_thread(self._trust, certificates, not insecure)
        tls = await asyncio.to_thread(context, trust)
        schemes = ("https", "http") if insecure else ("https",)
        return [Endpoint(f"{scheme}://{host}{path}/v2", tls, mirror) for scheme in schemes]

    async def _mirror(self, url: str, domain: str) -> list[Endpoint]:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        path = parts.path.rstrip("/")
        found = await self._of_host(parts.netloc, parts.netloc, True, path)
        namespace = "" if domain == DEFAULT_DOMAIN else domain
        base = f"{parts.scheme}://{parts.netloc}{path}/v2"
        return [Endpoint(base, found[0].tls, True, (), namespace)]

    async def _by_table(self, domain: str, table: dict[str, Any], push: bool) -> list[Endpoint]:
        found = []
        for url, entry in (table.get("host") or {}).items():
            capabilities = entry.get("capabilities") or _ALL
            if ("push" if push else "pull") in capabilities:
                found.append(await self._table_entry(url, entry, domain))
        server = str(table.get("server") or "")
        if not server or urlsplit(server).netloc in (domain, HUB):
            return [*found, *await self._default(domain)]
        return [*found, await self._table_entry(server, table, "")]

    async def _table_entry(self, url: str, entry: dict[str, Any], namespace: str) -> Endpoint:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        path = parts.path.rstrip("/")
        base = f"{parts.scheme}://{parts.netloc}{path if entry.get('override_path') else f'{path}/v2'}"
        trust = Trust(
            tuple(map(Path, _words(entry.get("ca")))),
            tuple(_pairs(entry.get("client"))),
            not (entry.get("skip_verify") or await self.insecure(parts.netloc)),
        )
        headers = tuple((name, value) for name, values in (entry.get("header") or {}).items() for value in _words(values))
        return Endpoint(base, await asyncio.to_thread(context, trust), bool(namespace), headers, namespace)

    def _trust(self, host: str, verify: bool) -> Trust:
        for directory in self._directories:
            if (directory / host).is_dir():
                return read_directory(directory / host, verify)
        return Trust(verify=verify)

    def _table(self, domain: str) -> dict[str, Any] | None:
        """hosts.toml for a domain: under its name, containerd's spelling of its port, or _default."""
        name, _, port = domain.partition(":")
        for directory in self._directories:
            for place in (domain, f"{name}_{port}_", "_default"):
                path = directory / place / "hosts.toml"
                try:
                    return _checked(tomllib.loads(path.read_text()))
                except FileNotFoundError:
                    continue
                except (OSError, ValueError, AttributeError, TypeError) as error:
                    raise Internal(f"cannot use {path}: {error}") from error
        return None


def _checked(table: dict[str, Any]) -> dict[str, Any]:
    for entry in (table, *(table.get("host") or {}).values()):
        entry.get("capabilities")  # every entry is a table
        _words(entry.get("ca"))
        list(_pairs(entry.get("client")))
        (entry.get("header") or {}).items()
    return table


def _words(value: Any) -> list[str]:
    words = [value] if isinstance(value, str) else list(value or [])
    if not all(isinstance(word, str) for word in words):
        raise TypeError("a string or a list of strings is wanted")
    return words


def _pairs(value: Any) -> Iterator[tuple[Path, Path | None]]:
    """`client` of hosts.toml: one file, files, or pairs of certificate and key."""
    items: Iterable[Any] = [value] if isinstance(value, str) else value or []
    for item in items:
        certificate, *key = _words(item)
        yield Path(certificate), Path(key[0]) if key and key[0] else None


def is_network(entry: str) -> bool:
    try:
        ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return True


async def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Of host[:port]; none when the name is not known, which connecting will tell better."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return [ipaddress.ip_address(name)]
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
