"""SecurityOpt, as `docker run --security-opt` sends it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from compat_engine.errors import InvalidParameter

_TRUE = frozenset(("1", "t", "true"))
_FALSE = frozenset(("0", "f", "false"))


@dataclass(frozen=True, slots=True)
class Security:
    """seccomp: "builtin", "unconfined", or a profile's JSON text."""

    seccomp: str = "builtin"
    no_new_privileges: bool = False
    writable_cgroups: bool = False


def parse_security(options: Iterable[str]) -> Security:
    """Raises InvalidParameter for what Docker does not know, and for LSMs asked for that this host does not have."""
    seccomp, no_new_privileges, writable_cgroups = "builtin", False, False
    for option in options:
        key, separator, value = option.partition("=") if "=" in option else option.partition(":")
        if key == "no-new-privileges":
            no_new_privileges = _flag(option, value) if separator else True
        elif key == "seccomp" and separator:
            seccomp = value
        elif key == "writable-cgroups" and separator:
            writable_cgroups = _flag(option, value)
        elif key == "apparmor" and separator and value in ("unconfined", "docker-default", ""):
            continue  # names the default, or asks for nothing
        elif key == "label" and separator and (value == "disable" or value.startswith(("user:", "role:", "type:", "level:"))):
            continue  # no SELinux: dockerd accepts labels there and applies none
        else:
            raise _refused(option)
    return Security(seccomp, no_new_privileges, writable_cgroups)


def _flag(option: str, value: str) -> bool:
    if value.lower() not in _TRUE | _FALSE:
        raise _refused(option)
    return value.lower() in _TRUE


def _refused(option: str) -> InvalidParameter:
    """Docker's two complaints: no key and value at all, and a key it does not know."""
    return InvalidParameter(f'invalid --security-opt {2 if "=" in option or ":" in option else 1}: "{option}"')
