"""The daemon's configuration: one frozen value, made once from defaults, daemon.json and flags."""

import argparse
import errno
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from compat_engine import __version__
from compat_engine.errors import InvalidParameter
from compat_engine.units import size_bytes

CONFIG_FILE = Path("/etc/compat-engine/daemon.json")


@dataclass(frozen=True, slots=True)
class Config:
    """What the daemon was told. Paths are absolute; names follow dockerd's flags and daemon.json keys."""

    hosts: tuple[str, ...] = ("unix:///run/compat-engine/docker.sock",)
    data_root: Path = Path("/var/lib/compat-engine")
    exec_root: Path = Path("/run/compat-engine")
    pidfile: Path = Path("/run/compat-engine/compat-engine.pid")
    group: str = "docker"
    log_level: str = "info"
    debug: bool = False  # as log_level "debug"
    bridge: str = "docker0"  # name of the default bridge; "none" turns the default network off
    bip: str = "172.17.0.1/16"  # address and prefix of the default bridge
    fixed_cidr: str = ""  # part of it that containers' addresses are taken from; "" for all of it
    ipv6: bool = False  # whether the default bridge has IPv6
    fixed_cidr_v6: str = ""  # its IPv6 subnet, or with bip6 a part of that as above; "" takes one of the pools
    bip6: str = ""  # its IPv6 address and prefix; "" for the first of the subnet
    default_address_pools: tuple[tuple[str, int], ...] = ()  # (base, prefix length of one network); () means Docker's
    default_network_opts: dict[str, dict[str, str]] = field(default_factory=dict)  # driver -> options of networks yet to be made
    ip: str = "0.0.0.0"  # host address of ports published on the default bridge without one
    icc: bool = True  # whether containers on the default bridge reach each other
    ip_masq: bool = True  # whether the default bridge masquerades
    mtu: int = 1500  # of the default bridge
    iptables: bool = True  # whether the host's packet filter is touched; without it published ports are relayed by the daemon
    publish_via: str = "nat"  # how published ports reach containers of networks that do not say: "nat", or "input" by a relay
    ip_forward: bool = True  # whether the daemon turns on the host's IP forwarding
    nft_table: str = ""  # nftables table (family inet and ip); "" derives compat-<bridge> from the bridge's name
    log_driver: str = "json-file"
    log_opts: dict[str, str] = field(default_factory=dict)  # of containers with the log driver above
    default_shm_size: int = 64 << 20  # bytes
    shutdown_timeout: int = 15  # seconds
    live_restore: bool = False  # whether containers survive an orderly stop of the daemon; a crash they always do
    labels: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    cgroup_parent: str = "compat"  # parent of container cgroups, below the hierarchy's root
    registry_mirrors: tuple[str, ...] = ()  # URLs for docker.io, or HOST=URL for another registry
    insecure_registries: tuple[str, ...] = ()  # host[:port] or CIDR, besides loopback
    certs_dirs: tuple[Path, ...] = (CONFIG_FILE.parent / "certs.d", Path("/etc/docker/certs.d"))  # the first with a host's wins
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    api_version: str = "1.51"  # advertised; 1.24 to 1.56 are accepted in the path

    @property
    def table(self) -> str:
        return self.nft_table or f"compat-{self.bridge}"


class Settings:
    """The configuration in force, the one place that changes when daemon.json is loaded anew: who must follow keeps this."""

    def __init__(self, config: Config) -> None:
        self.now = config


@dataclass(frozen=True, slots=True)
class _Option:
    """One setting: its flag and daemon.json key (dockerd's names), its field, and how a JSON value or word becomes the value."""

    key: str
    field: str
    convert: Callable[[Any], Any]
    many: bool = False
    gathered: bool = False  # repeatable as a flag, but converted as a whole
    short: str = ""
    help: str = ""


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no string")
    return value


def _path(value: Any) -> Path:
    return Path(_word(value)).absolute()


def _number(value: Any) -> int:
    return int(value)


def _memory(value: Any) -> int:
    """As dockerd, and a plain number of bytes besides."""
    return size_bytes(str(value), 1024)


def _positive(value: Any) -> int:
    if int(value) < 1:
        raise ValueError(f"invalid max concurrent value: {value}")
    return int(value)


def _mirror(value: Any) -> str:
    """A mirror's URL, "HOST=" before it for another registry than docker.io."""
    url = _word(value).rpartition("=")[2]
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment or parts.username:
        raise ValueError(f"invalid mirror: {url!r} is not a valid URI")
    return str(value)


def _address(value: Any) -> str:
    return str(ip_address(_word(value)))


def _pool(value: Any) -> tuple[str, int]:
    """An object of daemon.json, or a flag's base=CIDR,size=N, as (base, prefix length of one network)."""
    if isinstance(value, str):
        value = dict(field.strip().partition("=")[::2] for field in value.split(","))
    if not isinstance(value, dict) or set(value) != {"base", "size"}:
        raise ValueError("base=CIDR,size=N is wanted")
    base, size = ip_network(value["base"]), int(value["size"])
    if not base.prefixlen <= size <= base.max_prefixlen:
        raise ValueError(f"the size of a network in {base} is from {base.prefixlen} to {base.max_prefixlen}, not {size}")
    return str(base), size


def _network_options(value: Any) -> dict[str, dict[str, str]]:
    """daemon.json's {driver: {option: value}}, or a list of a flag's DRIVER=OPTION=VALUE."""
    if isinstance(value, dict):
        return {str(driver): _mapping(options) for driver, options in value.items()}
    found: dict[str, dict[str, str]] = {}
    for word in value:
        driver, option, setting = [*word.split("=", 2), "", ""][:3]
        if not (driver and option):
            raise ValueError(f"{word!r}: DRIVER=OPTION=VALUE is wanted")
        found.setdefault(driver, {})[option] = setting
    return found


def _flag(value: Any) -> bool:
    if isinstance(value, str):
        value = {"true": True, "1": True, "false": False, "0": False}.get(value.lower())
    if not isinstance(value, bool):
        raise ValueError("true or false is wanted")
    return value


def _way(value: Any) -> str:
    if value not in ("nat", "input"):
        raise ValueError(f"nat or input is wanted, not {value!r}")
    return str(value)


def _level(value: Any) -> str:
    if value not in ("debug", "info", "warn", "error", "fatal"):
        raise ValueError(f"not a valid logging level: {value!r}")
    return str(value)


def _mapping(value: Any) -> dict[str, str]:
    """daemon.json's {name: value}, or a list of a flag's NAME=VALUE."""
    if isinstance(value, list):
        words = [_word(item).partition("=") for item in value]
        if not all(equals for _, equals, _ in words):
            raise ValueError("NAME=VALUE is wanted")
        return {name: item for name, _, item in words}
    if not isinstance(value, dict):
        raise ValueError("an object is wanted")
    return {str(name): str(item) for name, item in value.items()}


OPTIONS = (
    _Option("hosts", "hosts", _word, many=True, short="-H", help="where to serve: unix:///path, tcp://address:port, fd://"),
    _Option("data-root", "data_root", _path, help="what survives a reboot: images, layers, volumes, records"),
    _Option("exec-root", "exec_root", _path, help="what ends with the boot: bundles and sockets"),
    _Option("pidfile", "pidfile", _path, short="-p", help="file for the daemon's pid"),
    _Option("group", "group", _word, short="-G", help="group that may use the unix socket"),
    _Option("debug", "debug", _flag, short="-D", help="log all there is to log"),
    _Option("log-level", "log_level", _level, short="-l", help="debug, info, warn, error or fatal"),
    _Option("bridge", "bridge", _word, short="-b", help="name of the default bridge; none turns its network off"),
    _Option("bip", "bip", _word, help="address and prefix of the default bridge"),
    _Option("ipv6", "ipv6", _flag, help="IPv6 on the default bridge"),
    _Option(
        "fixed-cidr", "fixed_cidr", _word, help="part of the default bridge's subnet that containers' addresses are taken from"
    ),
    _Option("fixed-cidr-v6", "fixed_cidr_v6", _word, help="IPv6 subnet of the default bridge; with --bip6 a part of that one"),
    _Option("bip6", "bip6", _word, help="IPv6 address and prefix of the default bridge"),
    _Option("ip", "ip", _address, help="host address of ports published on the default bridge without one (0.0.0.0)"),
    _Option("icc", "icc", _flag, help="containers on the default bridge reach each other (true)"),
    _Option("ip-masq", "ip_masq", _flag, help="the default bridge masquerades (true)"),
    _Option("mtu", "mtu", _number, help="MTU of the default bridge"),
    _Option(
        "default-address-pools",
        "default_address_pools",
        _pool,
        many=True,
        help="base=CIDR,size=N: where networks without a subnet of their own get theirs",
    ),
    _Option("iptables", "iptables", _flag, help="keep rules in the host's packet filter (true)"),
    _Option("publish-via", "publish_via", _way, help="published ports: nat, or input, which heeds the host's own input rules"),
    _Option("ip-forward", "ip_forward", _flag, help="turn on the host's IP forwarding (true)"),
    _Option("nft-table", "nft_table", _word, help="nftables table (compat-BRIDGE)"),
    _Option("log-driver", "log_driver", _word, help="log driver of new containers: json-file, local or none"),
    _Option("log-opts", "log_opts", _mapping, gathered=True, help="NAME=VALUE, option of the log driver"),
    _Option(
        "default-network-opts",
        "default_network_opts",
        _network_options,
        gathered=True,
        help="DRIVER=NAME=VALUE, option of networks yet to be made",
    ),
    _Option("default-shm-size", "default_shm_size", _memory, help="of /dev/shm in new containers: 64M"),
    _Option("shutdown-timeout", "shutdown_timeout", _number, help="seconds containers get when the daemon stops"),
    _Option("live-restore", "live_restore", _flag, help="leave containers running when the daemon stops"),
    _Option("labels", "labels", _word, many=True, help="key=value shown by info"),
    _Option("dns", "dns", _word, many=True, help="name server of new containers"),
    _Option("dns-search", "dns_search", _word, many=True, help="search domain of new containers"),
    _Option("dns-opts", "dns_options", _word, many=True, help="resolver option of new containers"),
    _Option("cgroup-parent", "cgroup_parent", _word, help="parent cgroup of containers"),
    _Option("api-version", "api_version", _word, help="API version to advertise"),
    _Option(
        "registry-mirrors",
        "registry_mirrors",
        _mirror,
        many=True,
        help="mirror URL of docker.io, or HOST=URL of another registry",
    ),
    _Option(
        "insecure-registries",
        "insecure_registries",
        _word,
        many=True,
        help="registry or CIDR that may be reached by plain HTTP or an unknown certificate",
    ),
    _Option("certs-dirs", "certs_dirs", _path, many=True, help="directory of HOST/{ca.crt,client.cert,client.key,hosts.toml}"),
    _Option("max-concurrent-downloads", "max_concurrent_downloads", _positive, help="layers at once in a pull"),
    _Option("max-concurrent-uploads", "max_concurrent_uploads", _positive, help="layers at once in a push"),
    _Option("max-download-attempts", "max_download_attempts", _positive, help="tries of each layer"),
)
_FLAG_NAMES = {
    "hosts": "host",
    "labels": "label",
    "log-opts": "log-opt",
    "default-network-opts": "default-network-opt",
    "dns-opts": "dns-opt",
    "default-address-pools": "default-address-pool",
    "registry-mirrors": "registry-mirror",
    "insecure-registries": "insecure-registry",
    "certs-dirs": "certs-dir",
}


def from_arguments(arguments: Sequence[str]) -> Config:
    """Flags over daemon.json over defaults. Raises InvalidParameter with a sentence for the one who started the daemon; exits for
    --help and --version."""
    given = vars(_parser().parse_args(arguments))
    explicit = given.pop("config_file")
    flags = {key: value for key, value in given.items() if value is not None}
    file = _read_file(Path(explicit or CONFIG_FILE), required=explicit is not None)
    both = sorted(set(flags) & set(file))
    if both:
        raise InvalidParameter(
            f"the following directives are specified both as a flag and in the configuration file: {', '.join(both)}"
        )
    changes = {}
    for option in OPTIONS:
        value = flags.get(option.key, file.get(option.key))
        if value is not None:
            changes[option.field] = _convert(option, value)
    config = replace(Config(), **changes)
    return config if "pidfile" in changes else replace(config, pidfile=config.exec_root / "compat-engine.pid")


# What daemon.json may change while the daemon runs. Where it says nothing some keep their value, the others lose it.
_RELOADED_OR_KEPT = ("debug", "live-restore", "shutdown-timeout", "registry-mirrors", "insecure-registries", "default-shm-size")
_RELOADED = ("log-level", "labels", "max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts")


def reloaded(current: Config, arguments: Sequence[str]) -> Config:
    """`current` with what the file says now, for a daemon that was started with `arguments`. Raises InvalidParameter for a file
    the daemon would not start with."""
    given = vars(_parser().parse_args(arguments))
    file = _read_file(Path(given["config_file"] or CONFIG_FILE), required=True)
    told = from_arguments(arguments)
    fields = {option.key: option.field for option in OPTIONS}
    keys = [*_RELOADED, *(key for key in _RELOADED_OR_KEPT if key in file)]
    return replace(current, **{fields[key]: getattr(told, fields[key]) for key in keys})


def _convert(option: _Option, value: Any) -> Any:
    try:
        if option.many:
            return tuple(option.convert(item) for item in ([value] if isinstance(value, str) else value))
        return option.convert(value)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InvalidParameter(f"invalid value for {option.key}: {error}") from error


def _read_file(path: Path, required: bool) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except OSError as error:
        if required or not isinstance(error, FileNotFoundError):
            reason = os.strerror(error.errno or errno.EIO).lower()
            raise InvalidParameter(f"unable to configure the Docker daemon with file {path}: {reason}") from error
        return {}
    try:
        content = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InvalidParameter(f"unable to configure the Docker daemon with file {path}: invalid JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidParameter(f"unable to configure the Docker daemon with file {path}: an object is wanted")
    unknown = sorted(set(content) - {option.key for option in OPTIONS})
    if unknown:
        raise InvalidParameter(
            f"unable to configure the Docker daemon with file {path}: "
            f"the following directives don't match any configuration option: {', '.join(unknown)}"
        )
    return content


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="compat-engine", description="A Docker Engine in Python.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"compat-engine {__version__}")
    parser.add_argument("--config-file", help=f"daemon configuration file (default {CONFIG_FILE})")
    for option in OPTIONS:
        names = [name for name in (option.short, f"--{_FLAG_NAMES.get(option.key, option.key)}") if name]
        if option.convert is _flag:
            parser.add_argument(*names, dest=option.key, nargs="?", const="true", default=None, help=option.help)
        else:
            action = "append" if option.many or option.gathered else "store"
            parser.add_argument(*names, dest=option.key, action=action, default=None, metavar="VALUE", help=option.help)
    return parser
