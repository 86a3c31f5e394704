"""Driver options of a container's place in a network: the name of its interface, and sysctls of that interface.

docs.docker.com, "docker network connect" and "docker container run" of Docker 28.
"""

from collections.abc import Iterator, Mapping

IFNAME, SYSCTLS = "com.docker.network.endpoint.ifname", "com.docker.network.endpoint.sysctls"
_PLACEHOLDERS = ("IFNAME", "ifname")  # the CLI writes options in lower case


def complaints(options: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the sysctls, in Docker's words."""
    for word in _words(options):
        parts = word.split(".", 4)
        if len(parts) != 5 or parts[0] != "net" or parts[1] not in ("ipv4", "ipv6", "mpls") or parts[3] not in _PLACEHOLDERS:
            yield (
                f"unrecognised network interface sysctl '{word}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', "
                "'X' must be 'ipv4', 'ipv6' or 'mpls'"
            )


def interface_sysctls(options: Mapping[str, str], interface: str) -> tuple[str, ...]:
    """Each as "ipv4/conf/eth0/NAME=VALUE", a path below /proc/sys/net. The options have no complaints."""
    return tuple(_path(word, interface) for word in _words(options))


def _words(options: Mapping[str, str]) -> list[str]:
    return [word for word in options.get(SYSCTLS, "").split(",") if word]


def _path(word: str, interface: str) -> str:
    _, family, kind, _, rest = word.split(".", 4)
    name, _, value = rest.partition("=")
    return f"{family}/{kind}/{interface}/{name.replace('.', '/')}={value}"
