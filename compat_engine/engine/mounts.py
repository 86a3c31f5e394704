"""From what a client asked (Binds, Mounts, Volumes, VolumesFrom) to the mount points of a container. Pure, but for an lstat."""

import os
import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from compat_engine.engine.records import MountPoint
from compat_engine.errors import InvalidParameter
from compat_engine.ids import new_id
from compat_engine.wire.container import Config, HostConfig, Mount

PROPAGATIONS = frozenset(("private", "rprivate", "shared", "rshared", "slave", "rslave"))
_IGNORED_MODES = frozenset(("rw", "z", "Z", "consistent", "cached", "delegated", "default"))
_MODES = _IGNORED_MODES | PROPAGATIONS | {"ro", "nocopy"}
TMPFS_FLAGS = frozenset(
    ("ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "sync", "async", "dirsync", "remount", "mand", "nomand",
     "atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime", "bind", "rbind",
     "unbindable", "runbindable", "private", "rprivate", "shared", "rshared", "slave", "rslave")
)  # fmt: skip
TMPFS_DATA = frozenset(("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"))


@dataclass(frozen=True, slots=True)
class VolumeRequest:
    """A volume to make, unless it is there, before the container is."""

    name: str
    driver: str
    options: dict[str, str]
    labels: dict[str, str]


def mount_points(
    config: Config, host: HostConfig, others: Callable[[str], Iterable[MountPoint]]
) -> tuple[tuple[MountPoint, ...], tuple[VolumeRequest, ...]]:
    """Every mount of the container, by destination, and the volumes they need. `others` gives the mounts of a container named in
    VolumesFrom (and raises NotFound). Raises InvalidParameter with Docker's texts. Volume sources are filled in by the caller."""
    points: dict[str, MountPoint] = {}
    requests: list[VolumeRequest] = []
    for word in host.VolumesFrom or ():
        points.update((point.destination, point) for point in _from(word, others))
    explicit: set[str] = set()
    for spec in host.Binds or ():
        _add(points, explicit, *_bind(spec, host.VolumeDriver or "local"), requests)
    for mount in host.Mounts or ():
        _add(points, explicit, *_mount(mount), requests)
    for path in config.Volumes or ():
        destination = _destination(path)
        if destination not in points and destination not in (host.Tmpfs or {}):
            point, request = _anonymous(destination, host.VolumeDriver or "local")
            points[destination] = point
            requests.append(request)
    for path, options in (host.Tmpfs or {}).items():
        destination = _destination(path)
        tmpfs_options(options)
        if destination in explicit:
            raise InvalidParameter(f"Duplicate mount point: {destination}")
        points.pop(destination, None)
    return tuple(points.values()), tuple(requests)


def tmpfs_options(text: str) -> tuple[tuple[str, ...], str]:
    """Docker's defaults and the client's words as (flags, data). Raises InvalidParameter on an unknown word."""
    flags = {"exec": "noexec", "suid": "nosuid", "dev": "nodev"}
    data: dict[str, str] = {}
    for word in filter(None, text.split(",")):
        key, has_value, value = word.partition("=")
        if has_value and key in TMPFS_DATA:
            data[key] = value
        elif not has_value and key in TMPFS_FLAGS:
            flags[key.removeprefix("no")] = key
        else:
            raise InvalidParameter(f'invalid tmpfs option "{key}"')
    return tuple(flags.values()), ",".join(f"{key}={value}" for key, value in data.items())


def _add(
    points: dict[str, MountPoint],
    explicit: set[str],
    point: MountPoint,
    request: VolumeRequest | None,
    requests: list[VolumeRequest],
) -> None:
    if point.destination in explicit:
        raise InvalidParameter(f"Duplicate mount point: {point.destination}")
    explicit.add(point.destination)
    points[point.destination] = point
    if request:
        requests.append(request)


def _from(word: str, others: Callable[[str], Iterable[MountPoint]]) -> list[MountPoint]:
    container, _, mode = word.partition(":")
    if not container:
        raise InvalidParameter("malformed volumes-from specification: ")
    if mode and mode not in ("ro", "rw", "z", "Z"):
        raise InvalidParameter(f"invalid mode for volumes-from: {mode}")
    found = [replace(point, anonymous=False, copy_up=False) for point in others(container)]
    return [replace(point, rw=False, mode="ro") for point in found] if mode == "ro" else found


def _bind(spec: str, driver: str) -> tuple[MountPoint, VolumeRequest | None]:
    parts = spec.split(":")
    if len(parts) > 3 or not all(parts[:2]) or (len(parts) == 2 and parts[1] in _MODES):
        raise InvalidParameter(f"invalid volume specification: '{spec}'")
    if len(parts) == 1:
        return _anonymous(_absolute(parts[0], "volume", spec), driver)
    source, target, mode = parts[0], parts[1], parts[2] if len(parts) == 3 else ""
    kind = "bind" if source.startswith("/") else "volume"
    words = _mode(mode)
    destination = _absolute(target, kind, spec)
    rw = "ro" not in words
    if kind == "bind":
        propagation = next((word for word in words if word in PROPAGATIONS), "rprivate")
        flags = ("rbind",) if rw else ("rbind", "rro")
        point = MountPoint("bind", posixpath.normpath(source), destination, "", "", mode, rw, propagation, flags=flags)
        return point, None
    if not PROPAGATIONS.isdisjoint(words):
        raise InvalidParameter(
            f"invalid volume specification: '{spec}': "
            'invalid mount config for type "volume": field BindOptions must not be specified'
        )
    point = MountPoint("volume", "", destination, source, driver, mode or "z", rw, copy_up="nocopy" not in words)
    return point, VolumeRequest(source, driver, {}, {})


def _mode(mode: str) -> list[str]:
    words = mode.split(",") if mode else []
    if any(word not in _MODES for word in words) or len(set(words) & {"ro", "rw"}) > 1:
        raise InvalidParameter(f"invalid mode: {mode}")
    return words


def _mount(mount: Mount) -> tuple[MountPoint, VolumeRequest | None]:
    kind = mount.Type or ""
    makers = {"bind": _bind_mount, "volume": _volume_mount, "tmpfs": _tmpfs_mount, "image": _image_mount}
    if kind not in makers:
        raise InvalidParameter(f'invalid mount config for type "{kind}": mount type unknown')
    if not mount.Target:
        raise InvalidParameter(f'invalid mount config for type "{kind}": field Target must not be empty')
    foreign = {
        "bind": mount.BindOptions,
        "volume": mount.VolumeOptions,
        "tmpfs": mount.TmpfsOptions,
        "image": mount.ImageOptions,
    }
    for name, options in foreign.items():
        if name != kind and options is not None:
            raise InvalidParameter(
                f'invalid mount config for type "{kind}": field {name.capitalize()}Options must not be specified'
            )
    return makers[kind](mount, _absolute(mount.Target, kind))


def _bind_mount(mount: Mount, destination: str) -> tuple[MountPoint, VolumeRequest | None]:
    source, options = mount.Source or "", mount.BindOptions
    if not source:
        raise InvalidParameter('invalid mount config for type "bind": field Source must not be empty')
    if not source.startswith("/"):
        raise InvalidParameter(
            f"invalid mount config for type \"bind\": invalid mount path: '{source}' mount path must be absolute"
        )
    _check_source(mount)
    propagation = (options.Propagation if options else "") or "rprivate"
    if propagation not in PROPAGATIONS:
        raise InvalidParameter(f'invalid mount config for type "bind": invalid propagation mode: {propagation}')
    bind = "bind" if options and options.NonRecursive else "rbind"
    readonly = "ro" if options and options.ReadOnlyNonRecursive else "rro"
    flags = (bind, readonly) if mount.ReadOnly else (bind,)
    return MountPoint(
        "bind", posixpath.normpath(source), destination, rw=not mount.ReadOnly, propagation=propagation, flags=flags
    ), None


def check_sources(host: HostConfig) -> None:
    """What Mounts bind must be there at each start, unlike the sources of Binds, which are made. Raises InvalidParameter."""
    for mount in host.Mounts or ():
        if mount.Type == "bind":
            _check_source(mount)


def _check_source(mount: Mount) -> None:
    made = mount.BindOptions and mount.BindOptions.CreateMountpoint
    if not made and not os.path.lexists(mount.Source):
        raise InvalidParameter(f'invalid mount config for type "bind": bind source path does not exist: {mount.Source}')


def _volume_mount(mount: Mount, destination: str) -> tuple[MountPoint, VolumeRequest | None]:
    options = mount.VolumeOptions
    driver = (options.DriverConfig.Name if options and options.DriverConfig else "") or "local"
    driver_options = dict(options.DriverConfig.Options or {}) if options and options.DriverConfig else {}
    labels = dict(options.Labels or {}) if options else {}
    subpath = (options.Subpath if options else "") or ""
    _check_subpath("volume", subpath)
    if not mount.Source:
        if subpath:
            raise InvalidParameter('invalid mount config for type "volume": must not set Subpath when using anonymous volumes')
        point, request = _anonymous(destination, driver)
        point = replace(point, rw=not mount.ReadOnly, mode="z")
        return point, replace(request, options=driver_options, labels={**labels, **request.labels})
    copy_up = not (options and options.NoCopy)
    point = MountPoint("volume", "", destination, mount.Source, driver, "z", not mount.ReadOnly, copy_up=copy_up, subpath=subpath)
    return point, VolumeRequest(mount.Source, driver, driver_options, labels)


def _image_mount(mount: Mount, destination: str) -> tuple[MountPoint, VolumeRequest | None]:
    """The image's id is filled in as the source by the caller."""
    if not mount.Source:
        raise InvalidParameter('invalid mount config for type "image": field Source must not be empty')
    subpath = (mount.ImageOptions.Subpath if mount.ImageOptions else "") or ""
    _check_subpath("image", subpath)
    return MountPoint("image", "", destination, mount.Source, rw=False, subpath=subpath), None


def _check_subpath(kind: str, subpath: str) -> None:
    if posixpath.isabs(subpath) or ".." in subpath.split("/") or "\0" in subpath:
        raise InvalidParameter(
            f"invalid mount config for type \"{kind}\": subpath must be a relative path within the {kind}: '{subpath}'"
        )


def _tmpfs_mount(mount: Mount, destination: str) -> tuple[MountPoint, VolumeRequest | None]:
    if mount.Source:
        raise InvalidParameter('invalid mount config for type "tmpfs": field Source must not be specified')
    options = mount.TmpfsOptions
    data = []
    if options and options.SizeBytes:
        data.append(f"size={options.SizeBytes}")
    if options and options.Mode:
        data.append(f"mode={options.Mode:o}")
    flags, extra = tmpfs_options(",".join("=".join(pair) for pair in (options.Options or ()) if pair) if options else "")
    if mount.ReadOnly:
        flags = (*flags, "ro")
    text = ",".join(filter(None, (*data, extra)))
    return MountPoint("tmpfs", "", destination, rw=not mount.ReadOnly, flags=flags, data=text), None


def _anonymous(destination: str, driver: str) -> tuple[MountPoint, VolumeRequest]:
    name = new_id()
    point = MountPoint("volume", "", destination, name, driver, anonymous=True, copy_up=True)
    return point, VolumeRequest(name, driver, {}, {"com.docker.volume.anonymous": ""})


def _absolute(path: str, kind: str, spec: str = "") -> str:
    prefix = f"invalid volume specification: '{spec}': " if spec else ""
    if not path.startswith("/"):
        raise InvalidParameter(
            f"{prefix}invalid mount config for type \"{kind}\": invalid mount path: '{path}' mount path must be absolute"
        )
    if posixpath.normpath(path) in ("/", "//"):
        raise InvalidParameter(
            f"{prefix}invalid mount config for type \"{kind}\": invalid specification: destination can't be '/'"
        )
    return posixpath.normpath(path)


def _destination(path: str) -> str:
    if not path.startswith("/"):
        raise InvalidParameter(f"invalid mount path: '{path}' mount path must be absolute")
    if posixpath.normpath(path) in ("/", "//"):
        raise InvalidParameter("invalid specification: destination can't be '/'")
    return posixpath.normpath(path)
