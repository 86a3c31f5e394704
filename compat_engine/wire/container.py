"""Containers as the Engine API spells them: what `create` takes and `inspect` echoes (API 1.51, field order of dockerd)."""

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator

from compat_engine.wire.base import Int64, Omit, OmitNone, UInt16, UInt32, UInt64, Wire
from compat_engine.wire.network import NetworkingConfig as Networking


def _words(raw: object) -> object:
    return [raw] if isinstance(raw, str) else raw


def _pair(raw: object) -> object:
    """Go's [2]uint: what is missing is 0, what is too much is dropped."""
    return [*raw, 0, 0][:2] if isinstance(raw, list) else raw


Command = Annotated[list[str], BeforeValidator(_words)]
"""A command line; a bare string counts as a list of one."""
Empty = dict[str, Any]
"""Go's struct{}: the value of a map used as a set."""


class HealthConfig(Wire):
    """Times in nanoseconds; 0 inherits. Test: [] inherits, ["NONE"] disables, ["CMD", ...], ["CMD-SHELL", line]."""

    Test: Omit[list[str] | None] = None
    Interval: Omit[Int64] = 0
    Timeout: Omit[Int64] = 0
    StartPeriod: Omit[Int64] = 0
    StartInterval: Omit[Int64] = 0
    Retries: Omit[Int64] = 0


class Config(Wire):
    """What is portable of a container: the image's own configuration has the same shape."""

    Hostname: str = ""
    Domainname: str = ""
    User: str = ""
    AttachStdin: bool = False
    AttachStdout: bool = False
    AttachStderr: bool = False
    ExposedPorts: Omit[dict[str, Empty] | None] = None
    Tty: bool = False
    OpenStdin: bool = False
    StdinOnce: bool = False
    Env: list[str] | None = None
    Cmd: Command | None = None
    Healthcheck: OmitNone[HealthConfig | None] = None
    ArgsEscaped: Omit[bool] = False
    Image: str = ""
    Volumes: dict[str, Empty] | None = None
    WorkingDir: str = ""
    Entrypoint: Command | None = None
    NetworkDisabled: Omit[bool] = False
    MacAddress: Omit[str] = ""
    OnBuild: list[str] | None = None
    Labels: dict[str, str] | None = None
    StopSignal: Omit[str] = ""
    StopTimeout: OmitNone[Int64 | None] = None  # seconds; -1 waits for ever
    Shell: Omit[Command | None] = None


class LogConfig(Wire):
    Type: str = ""
    Config: dict[str, str] | None = None


class PortBinding(Wire):
    """HostPort "" is an ephemeral port, "8000-8010" a range to choose from."""

    HostIp: str = ""
    HostPort: str = ""


class RestartPolicy(Wire):
    Name: str = ""
    MaximumRetryCount: Int64 = 0


class DeviceMapping(Wire):
    PathOnHost: str = ""
    PathInContainer: str = ""
    CgroupPermissions: str = ""


class DeviceRequest(Wire):
    Driver: str = ""
    Count: Int64 = 0
    DeviceIDs: list[str] | None = None
    Capabilities: list[list[str]] | None = None
    Options: dict[str, str] | None = None


class Ulimit(Wire):
    Name: str = ""
    Hard: Int64 = 0
    Soft: Int64 = 0


class WeightDevice(Wire):
    Path: str = ""
    Weight: UInt16 = 0


class ThrottleDevice(Wire):
    Path: str = ""
    Rate: UInt64 = 0


class BindOptions(Wire):
    Propagation: Omit[str] = ""
    NonRecursive: Omit[bool] = False
    CreateMountpoint: Omit[bool] = False
    ReadOnlyNonRecursive: Omit[bool] = False
    ReadOnlyForceRecursive: Omit[bool] = False


class DriverConfig(Wire):
    Name: Omit[str] = ""
    Options: Omit[dict[str, str] | None] = None


_Driver: TypeAlias = DriverConfig


class VolumeOptions(Wire):
    NoCopy: Omit[bool] = False
    Labels: Omit[dict[str, str] | None] = None
    Subpath: Omit[str] = ""
    DriverConfig: OmitNone[_Driver | None] = None


class ImageOptions(Wire):
    Subpath: Omit[str] = ""


class TmpfsOptions(Wire):
    """Mode is the plain number: 0o755 travels as 493. Options: [["noexec"], ["uid", "1000"]]."""

    SizeBytes: Omit[Int64] = 0
    Mode: Omit[UInt32] = 0
    Options: Omit[list[list[str]] | None] = None


# Where a field is called as its type, the class body would hide the type: hence the second names.
_Bind: TypeAlias = BindOptions
_Volume: TypeAlias = VolumeOptions
_Image: TypeAlias = ImageOptions
_Tmpfs: TypeAlias = TmpfsOptions
_Log: TypeAlias = LogConfig
_Restart: TypeAlias = RestartPolicy


class Mount(Wire):
    """One of HostConfig.Mounts. Type: bind, volume, tmpfs, image, cluster, npipe; only its own *Options may be set."""

    Type: Omit[str] = ""
    Source: Omit[str] = ""
    Target: Omit[str] = ""
    ReadOnly: Omit[bool] = False
    Consistency: Omit[str] = ""
    BindOptions: OmitNone[_Bind | None] = None
    VolumeOptions: OmitNone[_Volume | None] = None
    ImageOptions: OmitNone[_Image | None] = None
    TmpfsOptions: OmitNone[_Tmpfs | None] = None
    ClusterOptions: OmitNone[Empty | None] = None


class Resources(Wire):
    """Limits: what `update` may change. 0 or "" is unlimited at create, unchanged at update; bytes, microseconds, 1e-9 CPUs."""

    CpuShares: Int64 = 0
    Memory: Int64 = 0
    NanoCpus: Int64 = 0
    CgroupParent: str = ""
    BlkioWeight: UInt16 = 0
    BlkioWeightDevice: list[WeightDevice] | None = None
    BlkioDeviceReadBps: list[ThrottleDevice] | None = None
    BlkioDeviceWriteBps: list[ThrottleDevice] | None = None
    BlkioDeviceReadIOps: list[ThrottleDevice] | None = None
    BlkioDeviceWriteIOps: list[ThrottleDevice] | None = None
    CpuPeriod: Int64 = 0
    CpuQuota: Int64 = 0
    CpuRealtimePeriod: Int64 = 0
    CpuRealtimeRuntime: Int64 = 0
    CpusetCpus: str = ""
    CpusetMems: str = ""
    Devices: list[DeviceMapping] | None = None
    DeviceCgroupRules: list[str] | None = None
    DeviceRequests: list[DeviceRequest] | None = None
    MemoryReservation: Int64 = 0
    MemorySwap: Int64 = 0  # memory and swap together; -1 unlimited
    MemorySwappiness: Int64 | None = None
    OomKillDisable: bool | None = None
    PidsLimit: Int64 | None = None
    Ulimits: list[Ulimit] | None = None
    CpuCount: Int64 = 0
    CpuPercent: Int64 = 0
    IOMaximumIOps: UInt64 = 0
    IOMaximumBandwidth: UInt64 = 0


class _Host(Wire):
    """HostConfig up to where dockerd's answer puts the resources."""

    Binds: list[str] | None = None
    ContainerIDFile: str = ""
    LogConfig: _Log = _Log()
    NetworkMode: str = ""
    PortBindings: dict[str, list[PortBinding] | None] | None = None
    RestartPolicy: _Restart = _Restart()
    AutoRemove: bool = False
    VolumeDriver: str = ""
    VolumesFrom: list[str] | None = None
    ConsoleSize: Annotated[list[UInt32], BeforeValidator(_pair)] = [0, 0]  # height, width
    Annotations: Omit[dict[str, str] | None] = None
    CapAdd: Command | None = None
    CapDrop: Command | None = None
    CgroupnsMode: str = ""
    Dns: list[str] | None = None
    DnsOptions: list[str] | None = None
    DnsSearch: list[str] | None = None
    ExtraHosts: list[str] | None = None
    GroupAdd: list[str] | None = None
    IpcMode: str = ""
    Cgroup: str = ""
    Links: list[str] | None = None
    OomScoreAdj: Int64 = 0
    PidMode: str = ""
    Privileged: bool = False
    PublishAllPorts: bool = False
    ReadonlyRootfs: bool = False
    SecurityOpt: list[str] | None = None
    StorageOpt: Omit[dict[str, str] | None] = None
    Tmpfs: Omit[dict[str, str] | None] = None
    UTSMode: str = ""
    UsernsMode: str = ""
    ShmSize: Int64 = 0
    Sysctls: Omit[dict[str, str] | None] = None
    Runtime: Omit[str] = ""
    Isolation: str = ""


class HostConfig(Resources, _Host):
    """What belongs to this host only. Resources are flat in it. MaskedPaths, ReadonlyPaths: None the defaults, [] none at all."""

    Mounts: Omit[list[Mount] | None] = None
    MaskedPaths: list[str] | None = None
    ReadonlyPaths: list[str] | None = None
    Init: OmitNone[bool | None] = None


_Config: TypeAlias = Config
_HostConfig: TypeAlias = HostConfig


class CreateRequest(Config):
    """Body of POST /containers/create: Config with the other two beside its fields."""

    HostConfig: _HostConfig = _HostConfig()
    NetworkingConfig: OmitNone[Networking | None] = None

    @property
    def config(self) -> _Config:
        """The Config part alone."""
        return _Config.model_construct(**{name: getattr(self, name) for name in _Config.model_fields})


class UpdateRequest(Resources):
    """Body of POST /containers/{id}/update."""

    RestartPolicy: _Restart = _Restart()
