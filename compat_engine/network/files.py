"""The text of the files a container gets for its network: /etc/hosts and /etc/resolv.conf. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

HOST_GATEWAY = "host-gateway"
FALLBACK_SERVERS, FALLBACK_SERVERS6 = ("8.8.8.8", "8.8.4.4"), ("2001:4860:4860::8888", "2001:4860:4860::8844")
_LOCAL_NAMES = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def hosts(
    hostname: str,
    domainname: str,
    addresses: Sequence[str],
    extra_hosts: Sequence[str],
    host_gateways: Sequence[str],
    links: Iterable[tuple[str, str]] = (),
) -> str:
    """extra_hosts: "name:address" or "name=address", the address maybe the word host-gateway, which stands for all of
    host_gateways. links: (names, address).

    Raises ValueError for a bad one.
    """
    lines = "".join(f"{address}\t{names}\n" for names, address in links)
    return _LOCAL_NAMES + _extra_lines(extra_hosts, host_gateways) + lines + own_names(hostname, domainname, addresses)


def own_names(hostname: str, domainname: str, addresses: Sequence[str]) -> str:
    """The lines by which a container finds itself: full name first, then the bare one."""
    full = f"{hostname}.{domainname}" if domainname else hostname
    bare = full.partition(".")[0]
    names = full if full == bare else f"{full} {bare}"
    return "".join(f"{address}\t{names}\n" for address in addresses)


def moved(text: str, links: Iterable[tuple[str, str]]) -> str:
    """A hosts file in which the lines that start with the first of these names have these addresses; all others stay."""
    wanted = {(names.split()[0], ":" in address): address for names, address in links}
    return "".join(_moved_line(line, wanted) for line in text.splitlines(keepends=True))


def _moved_line(line: str, wanted: Mapping[tuple[str, bool], str]) -> str:
    address, _, names = line.partition("\t")
    now = wanted.get(((names.split() or [""])[0], ":" in address))
    return f"{now}\t{names}" if now else line


def host_copy(host_text: str, extra_hosts: Sequence[str], host_gateways: Sequence[str]) -> str:
    """For a container in the host's network: the host's own file, with extra entries at the end."""
    ended = "" if not host_text or host_text.endswith("\n") else "\n"
    return host_text + ended + _extra_lines(extra_hosts, host_gateways)


def _extra_lines(extra_hosts: Sequence[str], host_gateways: Sequence[str]) -> str:
    found = (split_extra_host(entry, host_gateways) for entry in extra_hosts)
    return "".join(f"{address}\t{name}\n" for name, addresses in found for address in addresses)


def split_extra_host(entry: str, host_gateways: Sequence[str]) -> tuple[str, Sequence[str]]:
    """(name, addresses) of one --add-host. Raises ValueError with Docker's text."""
    name, separator, address = entry.partition("=") if "=" in entry else entry.partition(":")
    if not separator or not name:
        raise ValueError(f'bad format for add-host: "{entry}"')
    if address == HOST_GATEWAY:
        if not host_gateways:
            raise ValueError("unable to derive the IP value for host-gateway")
        return name, host_gateways
    address = address.removeprefix("[").removesuffix("]")
    try:
        ip_address(address)
    except ValueError:
        raise ValueError(f'invalid IP address in add-host: "{address}"') from None
    return name, (address,)


def resolv_conf(
    host_text: str,
    servers: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    loopback: bool = False,
    ipv6: bool = False,
) -> str:
    """The host's resolv.conf, each part replaced by what was asked for.

    loopback: the container shares the host's network, so the host's own resolver on 127/8 stays usable; otherwise such servers
    are left out, as are those the container could reach only if it had `ipv6`, and public ones take their place when none
    remains. search (".",) means no search list.
    """
    found = _parse(host_text)
    usable = [server for server in found["nameserver"] if loopback or (not _local(server) and (ipv6 or ":" not in server))]
    nameservers = list(servers) or usable
    if not nameservers and not loopback:
        nameservers = [*FALLBACK_SERVERS, *(FALLBACK_SERVERS6 if ipv6 else ())]
    domains = [domain for domain in (search or found["search"]) if domain != "."]
    words = list(options) or found["options"]
    lines = [f"nameserver {server}\n" for server in nameservers]
    lines += [f"search {' '.join(domains)}\n"] if domains else []
    lines += [f"options {' '.join(words)}\n"] if words else []
    return "".join(lines)


def embedded_resolv_conf(host_text: str, search: Sequence[str] = (), options: Sequence[str] = ()) -> str:
    """For a container on a network with names: the engine's resolver, which is asked for bare names first (ndots)."""
    found = _parse(host_text)
    words = list(options) or found["options"]
    ndots = [] if any(word.startswith("ndots:") for word in words) else ["ndots:0"]
    return resolv_conf(host_text, ("127.0.0.11",), search, [*words, *ndots])


def name_servers(host_text: str, asked: Sequence[str] = ()) -> list[tuple[str, bool]]:
    """Whom the engine's resolver asks, and whether from the host's own network: the host's servers on 127/8 are not elsewhere."""
    if asked:
        return [(server, False) for server in asked if server != "127.0.0.11" and _is_address(server)]
    found = [server for server in _parse(host_text)["nameserver"] if _is_address(server)] or FALLBACK_SERVERS
    return [(server, _local(server)) for server in found]


def _parse(text: str) -> dict[str, list[str]]:
    """nameserver, search and options of a resolv.conf; the last search line counts, as in resolv.conf(5)."""
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for keyword, words in _lines(text):
        if keyword == "nameserver":
            found["nameserver"] += words[:1]
        elif keyword == "options":
            found["options"] += words
        elif keyword in ("search", "domain"):
            found["search"] = words
    return found


def _lines(text: str) -> Iterable[tuple[str, list[str]]]:
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if words:
            yield words[0], words[1:]


def _local(server: str) -> bool:
    return _is_address(server) and ip_address(server.partition("%")[0]).is_loopback


def _is_address(server: str) -> bool:
    """A name server is never found by name: that would need one."""
    try:
        ip_address(server.partition("%")[0])
    except ValueError:
        return False
    return True
