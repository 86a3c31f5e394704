"""Networks and endpoints as the Engine API spells them (API 1.51)."""

from compat_engine.wire.base import Int64, Omit, Wire


class EndpointIPAMConfig(Wire):
    IPv4Address: Omit[str] = ""
    IPv6Address: Omit[str] = ""
    LinkLocalIPs: Omit[list[str] | None] = None


class EndpointSettings(Wire):
    """One container's place in one network. Up to DriverOpts a client asks; the rest only the engine fills."""

    IPAMConfig: EndpointIPAMConfig | None = None
    Links: list[str] | None = None
    Aliases: list[str] | None = None
    MacAddress: str = ""
    DriverOpts: dict[str, str] | None = None
    GwPriority: Int64 = 0
    NetworkID: str = ""
    EndpointID: str = ""
    Gateway: str = ""
    IPAddress: str = ""
    IPPrefixLen: Int64 = 0
    IPv6Gateway: str = ""
    GlobalIPv6Address: str = ""
    GlobalIPv6PrefixLen: Int64 = 0
    DNSNames: list[str] | None = None


class NetworkingConfig(Wire):
    """The third part of a container's create request: network name or id -> what is asked for there."""

    EndpointsConfig: dict[str, EndpointSettings | None] | None = None


class IPAMPool(Wire):
    """One element of IPAM.Config: a subnet in CIDR form and what is special in it."""

    Subnet: Omit[str] = ""
    IPRange: Omit[str] = ""
    Gateway: Omit[str] = ""
    AuxiliaryAddresses: Omit[dict[str, str] | None] = None


class IPAMSettings(Wire):
    Driver: str = "default"
    Options: dict[str, str] | None = None
    Config: list[IPAMPool] | None = None


class ConfigReference(Wire):
    Network: str = ""


class NetworkCreate(Wire):
    """POST /networks/create."""

    Name: str = ""
    CheckDuplicate: bool = False  # obsolete since 1.44: a duplicate is always refused
    Driver: str = ""
    Scope: str = ""
    EnableIPv4: bool | None = None
    EnableIPv6: bool | None = None
    IPAM: IPAMSettings | None = None
    Internal: bool = False
    Attachable: bool = False
    Ingress: bool = False
    ConfigOnly: bool = False
    ConfigFrom: ConfigReference | None = None
    Options: dict[str, str] | None = None
    Labels: dict[str, str] | None = None


class NetworkConnect(Wire):
    """POST /networks/{id}/connect."""

    Container: str = ""
    EndpointConfig: EndpointSettings | None = None


class NetworkDisconnect(Wire):
    """POST /networks/{id}/disconnect."""

    Container: str = ""
    Force: bool = False
