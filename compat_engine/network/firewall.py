"""The nftables ruleset of one daemon, as text. Pure: plans and published ports in, nft(8) commands out.

One table for IPv4 and IPv6, named in the configuration. Publishing a port is one element of a map, so a thousand ports cost no
rules. Chain `user` belongs to the administrator: it is consulted before everything forwarded to or from a container and never
emptied by us. Everything else is rewritten whole in one transaction at start and when networks change.
"""

from collections.abc import Iterable, Sequence
from socket import IPPROTO_ICMP, IPPROTO_ICMPV6

from compat_engine.network.model import Binding, Reach
from compat_engine.network.plan import ROUTED, UNPROTECTED, BridgePlan

ANY_HOST_ADDRESS = ("0.0.0.0", "::")
Link = tuple[str, Reach]  # from a container's address
Published = tuple[Binding, str]  # and the container's address, of the same family as the host's
_REWRITTEN = (
    *(f"chain inet {{table}} {chain}" for chain in ("martians", "prerouting", "output", "publish", "postrouting", "forward")),
    *(f"map inet {{table}} {name}" for name in ("published", "published_on", "published6", "published6_on")),
    *(f"set inet {{table}} {name}" for name in ("open", "open6", "linked", "bridges")),
)

_SKELETON = """\
add table inet {table}
add map inet {table} published {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
add map inet {table} published_on {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
add map inet {table} published6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
add map inet {table} published6_on {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }}
add set inet {table} open {{ type ipv4_addr . inet_proto . inet_service; }}
add set inet {table} open6 {{ type ipv6_addr . inet_proto . inet_service; }}
add set inet {table} linked {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; }}
add set inet {table} bridges {{ type ifname; }}
add chain inet {table} user
add chain inet {table} publish
add chain inet {table} martians {{ type filter hook prerouting priority -300; policy accept; }}
add chain inet {table} prerouting {{ type nat hook prerouting priority -100; policy accept; }}
add chain inet {table} output {{ type nat hook output priority -100; policy accept; }}
add chain inet {table} postrouting {{ type nat hook postrouting priority 100; policy accept; }}
add chain inet {table} forward {{ type filter hook forward priority 0; policy accept; }}
"""

# Destination addresses of 127/8 are legal on lo only. A bridge with route_localnet, and the translation of ports published on
# 127.0.0.1, would let neighbours and containers reach the host's own loopback services (CVE-2020-8558). Before conntrack, so that
# answers to translated connections still carry the bridge's address here.
_COMMON_RULES = (
    ("martians", 'iifname != "lo" ip daddr 127.0.0.0/8 drop'),
    ("martians", "iifname @bridges ip saddr 127.0.0.0/8 drop"),
    ("prerouting", "fib daddr type local jump publish"),
    ("output", "fib daddr type local jump publish"),
    ("publish", "dnat ip to ip daddr . meta l4proto . th dport map @published_on"),
    ("publish", "dnat ip to meta l4proto . th dport map @published"),
    # The kernel takes nothing from ::1 beyond this host: what is sent there is the relay's.
    ("publish", "ip6 daddr ::1 return"),
    ("publish", "dnat ip6 to ip6 daddr . meta l4proto . th dport map @published6_on"),
    ("publish", "dnat ip6 to meta l4proto . th dport map @published6"),
    # From the host's loopback: the container must answer to an address it can reach.
    ("postrouting", "oifname @bridges ip saddr 127.0.0.0/8 masquerade"),
)


def ruleset(table: str, bridges: Sequence[BridgePlan], published: Iterable[Published], links: Iterable[Link] = ()) -> str:
    """The whole table but for chain `user`, made new or replaced in one transaction."""
    lines = [_SKELETON.format(table=table)]
    lines += [f"flush {item.format(table=table)}\n" for item in _REWRITTEN]
    lines += [f"add rule inet {table} {chain} {rule}\n" for chain, rule in (*_COMMON_RULES, *_network_rules(bridges))]
    if bridges:
        names = ", ".join(f'"{plan.name}"' for plan in bridges)
        lines.append(f"add element inet {table} bridges {{ {names} }}\n")
    return "".join(lines) + add_ports(table, published) + add_links(table, links)


def add_ports(table: str, published: Iterable[Published]) -> str:
    return _elements("add", table, published)


def remove_ports(table: str, published: Iterable[Published]) -> str:
    return _elements("delete", table, published)


def add_links(table: str, links: Iterable[Link]) -> str:
    return _link_elements("add", table, links)


def remove_links(table: str, links: Iterable[Link]) -> str:
    return _link_elements("delete", table, links)


def remove_table(table: str) -> str:
    return f"add table inet {table}\ndelete table inet {table}\n"


def families(chains: Iterable[dict[str, object]], table: str) -> set[object]:
    """Of `list chains` as objects: those with a table of that name."""
    return {chain["family"] for item in chains if isinstance(chain := item.get("chain"), dict) and chain.get("table") == table}


def dropping_chains(chains: Iterable[dict[str, object]], table: str) -> list[str]:
    """Of `list chains` as objects: other people's base chains that drop what is forwarded, whatever our own table accepts."""
    return [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for item in chains
        if isinstance(chain := item.get("chain"), dict)
        and chain.get("hook") == "forward"
        and chain.get("policy") == "drop"
        and chain.get("table") != table
    ]


def _network_rules(bridges: Sequence[BridgePlan]) -> Iterable[tuple[str, str]]:
    for plan in bridges:
        families = (("ip", plan.subnet, plan.mode, plan.source), ("ip6", plan.subnet6, plan.mode6, plan.source6))
        for family, subnet, mode, source in families:
            if not subnet or mode == ROUTED:
                continue
            if plan.masquerade:
                act = f"snat {family} to {source}" if source else "masquerade"
                yield "postrouting", f'{family} saddr {subnet} oifname != "{plan.name}" {act}'
            # A container that reaches its own network through a published port: the answer must come back through the host.
            yield "postrouting", f'{family} saddr {subnet} oifname "{plan.name}" ct status dnat masquerade'
    yield "forward", "iifname != @bridges oifname != @bridges accept"
    yield "forward", "jump user"
    yield "forward", "ct state established,related accept"
    for plan in bridges:
        if plan.internal:
            yield "forward", f'iifname "{plan.name}" oifname != "{plan.name}" drop'
            yield "forward", f'oifname "{plan.name}" iifname != "{plan.name}" drop'
    yield "forward", "ct status dnat accept"
    for plan in bridges:
        if not plan.icc:
            between = f'iifname "{plan.name}" oifname "{plan.name}"'
            yield "forward", f"{between} ip saddr . ip daddr . meta l4proto . th dport @linked accept"
        yield "forward", f'iifname "{plan.name}" oifname "{plan.name}" {"accept" if plan.icc else "drop"}'
    yield "forward", "ip daddr . meta l4proto . th dport @open accept"
    yield "forward", "ip6 daddr . meta l4proto . th dport @open6 accept"
    for plan in bridges:
        for name in plan.trusted:
            yield "forward", f'iifname "{name}" oifname "{plan.name}" accept'
        for mode, family, echo in ((plan.mode, "ipv4", IPPROTO_ICMP), (plan.mode6, "ipv6", IPPROTO_ICMPV6)):
            if mode == UNPROTECTED:
                yield "forward", f'oifname "{plan.name}" meta nfproto {family} accept'
            elif mode == ROUTED:  # by number: the names are in /etc/protocols, if that is there
                yield "forward", f'oifname "{plan.name}" meta l4proto {echo:d} accept'
    # Not from one network into another, nor past the published ports from outside.
    yield "forward", "oifname @bridges drop"
    yield "forward", "accept"


def _elements(verb: str, table: str, published: Iterable[Published]) -> str:
    elements: dict[str, list[str]] = {}
    for binding, address in published:
        target = f" : {address} . {binding.container_port}"
        key = f"{binding.proto} . {binding.host_port}"
        name = "published6" if ":" in address else "published"
        if not binding.host_port:
            elements.setdefault("open6" if ":" in address else "open", []).append(
                f"{address} . {binding.proto} . {binding.container_port}"
            )
        elif binding.host_ip in ANY_HOST_ADDRESS:
            elements.setdefault(name, []).append(key + target)
        else:
            elements.setdefault(f"{name}_on", []).append(f"{binding.host_ip} . {key}{target}")
    return "".join(
        f"{verb} element inet {table} {name} {{ {', '.join(dict.fromkeys(found))} }}\n" for name, found in elements.items()
    )


def _link_elements(verb: str, table: str, links: Iterable[Link]) -> str:
    elements = dict.fromkeys(f"{source} . {reach.ip} . {reach.proto} . {reach.port}" for source, reach in links)
    return f"{verb} element inet {table} linked {{ {', '.join(elements)} }}\n" if elements else ""
