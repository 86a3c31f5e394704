"""The container's filesystem: init mounts it in its own mount namespace, the steps in the order `Rootfs` is driven."""

import errno
import os
import stat
from contextlib import suppress

from compat_engine.kernel import mounts as m
from compat_engine.kernel.mountinfo import mount_of
from compat_engine.kernel.paths import make_directories, make_file, open_in_root
from compat_engine.shim import cgroupfs, mountflags
from compat_engine.shim.failure import IN_INIT, Failure, reason, step
from compat_engine.shim.spec import Device, Mount, Overlay, Spec

_OPTIONS_LIMIT = 4000  # bytes; mount(2) copies one page
_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)


def rehearse() -> None:
    """What of the steps below leaves no trace on the host. Raises OSError, Failure."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mountflags.parse(("nosuid", "noexec", "nodev", "ro"))
    os.close(make_directories(root, "/proc"))
    os.close(_target(root, "/dev/null", directory=False))
    tree = _open_source(Mount("bind", "/dev/null", ""), recursive=False)
    m.mount_setattr(tree, m.MOUNT_ATTR_RDONLY)
    os.close(tree)
    _make_devices(root, ())
    os.close(root)
    _quote("/")
    with suppress(FileNotFoundError):  # as nothing is there
        m.umount2("/proc/self/fd/none", m.MNT_DETACH)


def mount_root(overlay: Overlay, point: str, propagation: str) -> int:
    """Take our mounts out of the host's propagation, mount the rootfs on the directory `point`; an O_PATH descriptor of it."""
    with step("rootfs", f"{IN_INIT}error preparing rootfs"):
        m.mount(None, "/", None, m.MS_REC | mountflags.PROPAGATION[propagation])
        if "shared" in propagation:
            m.mount(None, mount_of(point).point, None, m.MS_PRIVATE)  # pivot_root refuses a rootfs below a shared mount
    with step("rootfs", f"{IN_INIT}error mounting the rootfs at {point}"):
        _mount_overlay(overlay, point)
        return os.open(point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _mount_overlay(overlay: Overlay, point: str) -> None:
    if not overlay.upper and len(overlay.lower) == 1:  # overlayfs wants two layers; a read-only view of one is a bind
        m.mount(overlay.lower[0], point, None, m.MS_BIND)
        return m.mount(None, point, None, m.MS_BIND | m.MS_REMOUNT | m.MS_RDONLY)
    upper = ""
    if overlay.upper:
        _forget_volatile(overlay.work)
        upper = f",upperdir={_quote(overlay.upper)},workdir={_quote(overlay.work)}{',volatile' if overlay.volatile else ''}"
    options = f"lowerdir={':'.join(_quote(path, ':') for path in overlay.lower)}{upper}"
    if len(os.fsencode(options)) <= _OPTIONS_LIMIT:
        return m.mount("overlay", point, "overlay", 0, options)
    # too many layers for the page: name them by descriptor, relative to the directory of descriptors
    fds = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in overlay.lower]
    os.chdir("/proc/self/fd")
    try:
        m.mount("overlay", point, "overlay", 0, f"lowerdir={':'.join(map(str, fds))}{upper}")
    finally:
        os.chdir("/")
        for fd in fds:
            os.close(fd)


def _forget_volatile(work: str) -> None:
    """Overlayfs marks the work directory of a volatile mount and refuses it the next time: the upper directory may have lost
    what was written before a crash of the host. Only the daemon's data survives such a one here, never a container."""
    mark = os.path.join(work, "work", "incompat", "volatile")
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(mark, "dirty"))
        os.rmdir(mark)


def _quote(path: str, also: str = "") -> str:
    return "".join("\\" + letter if letter in "\\," + also else letter for letter in path)


def mount_all(root: int, spec: Spec, before_cgroup: "CgroupNamespace") -> None:
    """spec.mounts in order, then the devices and the links of /dev. Cgroup mounts come last where nothing sits on them:
    they wait for the cgroup, and joining one is the slowest step of a start."""
    late = [item for item in spec.mounts if item.type == "cgroup" and not _covered(item, spec.mounts)]
    for item in spec.mounts:
        if item not in late:
            _mount_one(root, item, spec, before_cgroup)
    if not any(item.target.rstrip("/") == "/dev" and item.type == "bind" for item in spec.mounts):
        _make_devices(root, spec.devices)
        _make_links(root)
    for item in late:
        _mount_one(root, item, spec, before_cgroup)


class CgroupNamespace:
    """Called before the first cgroup mount, and at the end: returns when the process has its cgroup namespace."""

    def ready(self) -> None:
        raise NotImplementedError


def _covered(item: Mount, mounts: tuple[Mount, ...]) -> bool:
    return any(f"{other.target}/".startswith(f"{item.target.rstrip('/')}/") for other in mounts if other is not item)


def _mount_one(root: int, item: Mount, spec: Spec, cgroup: CgroupNamespace) -> None:
    try:
        if item.type in ("bind", "overlay"):
            bind(root, item)
        elif item.type == "cgroup":
            cgroup.ready()
            cgroupfs.mount(root, item, spec)
        else:
            _mount_filesystem(root, item)
    except OSError as error:
        text = f'error mounting "{item.source}" to rootfs at "{item.target}": {_detail(error, item)}'
        raise Failure(error.errno or 0, "mount", IN_INIT + text) from error


def _detail(error: OSError, item: Mount) -> str:
    if error.errno == errno.ENOTDIR:
        return f"mount {item.source}:{item.target}: {reason(error)}"
    return f"{error.filename}: {reason(error)}" if error.filename else reason(error)


def bind(root: int, item: Mount) -> None:
    """A mount of type "bind" or "overlay" in `root`, where it goes made when missing. Raises OSError, Failure for its flags."""
    options = mountflags.parse(item.flags)
    tree = _open_overlay(item) if item.lower else _open_source(item, options.recursive)
    try:
        target = _target(root, item.target, stat.S_ISDIR(os.stat(tree).st_mode))
        if options.attributes or options.cleared:
            m.mount_setattr(tree, options.attributes, options.cleared)
        if options.recursive_attributes:
            m.mount_setattr(tree, options.recursive_attributes, recursive=True)
        m.mount_setattr(tree, 0, propagation=options.propagation, recursive=options.recursive_propagation)
        m.move_mount(tree, target)
        os.close(target)
    finally:
        os.close(tree)


def _open_source(item: Mount, recursive: bool) -> int:
    """A detached copy of what is to be shown. Whoever else writes to a volume may make links of its subpath at any time."""
    if not item.subpath:
        return m.open_tree(item.source, recursive=recursive)
    source = os.open(item.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        inside = open_in_root(source, item.subpath)
    finally:
        os.close(source)
    try:
        return m.open_tree(f"/proc/self/fd/{inside}", recursive=recursive)
    finally:
        os.close(inside)


def _open_overlay(item: Mount) -> int:
    """Mounted on the directory `source` for the moment it takes to detach it, or what is asked for of it."""
    _mount_overlay(Overlay(item.lower, "", ""), item.source)
    try:
        return _open_source(item, False)
    finally:
        m.umount2(item.source, m.MNT_DETACH)


def _target(root: int, path: str, directory: bool) -> int:
    """Where to mount: made when missing; ENOTDIR when what is there is of the other kind."""
    fd = make_directories(root, path) if directory else make_file(root, path)
    if not directory and stat.S_ISDIR(os.stat(fd).st_mode):
        os.close(fd)
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return fd


def _mount_filesystem(root: int, item: Mount) -> None:
    options = mountflags.parse(item.flags)
    target = make_directories(root, item.target)
    try:
        mode = stat.S_IMODE(os.stat(target).st_mode)
        m.mount_on(target, item.source, item.type, options.flags, item.data)
    finally:
        os.close(target)
    if item.type == "tmpfs" and "mode=" not in item.data:
        os.chmod(f"/proc/self/fd/{(mounted := open_in_root(root, item.target))}", mode)  # as the directory it covers
        os.close(mounted)
    if options.propagation != m.MS_PRIVATE:
        mounted = open_in_root(root, item.target)
        m.mount_setattr(mounted, 0, propagation=options.propagation, recursive=options.recursive_propagation)
        os.close(mounted)


def _make_devices(root: int, devices: tuple[Device, ...]) -> None:
    """Most are in one directory, /dev."""
    umask = os.umask(0)
    parents: dict[str, int] = {}
    try:
        for device in devices:
            with step("device", f"{IN_INIT}error creating device nodes: mknod {device.path}"):
                head, name = os.path.split(device.path)
                if head not in parents:
                    parents[head] = make_directories(root, head)
                _make_device(parents[head], name, device)
    finally:
        os.umask(umask)
        for parent in parents.values():
            os.close(parent)


def _make_device(parent: int, name: str, device: Device) -> None:
    with suppress(FileExistsError):  # as runc: what the image or a mount put there stays
        os.mknod(name, device.mode | _KINDS[device.kind], os.makedev(device.major, device.minor), dir_fd=parent)
        os.chown(name, device.uid, device.gid, dir_fd=parent, follow_symlinks=False)


def _make_links(root: int) -> None:
    links = _LINKS + ((("/dev/core", "/proc/kcore"),) if os.path.exists("/proc/kcore") else ())
    with step("device", f"{IN_INIT}error creating /dev symlinks"):
        parent = make_directories(root, "/dev")
        for path, target in links:
            with suppress(FileExistsError):
                os.symlink(target, os.path.basename(path), dir_fd=parent)
        os.close(parent)


def make_cwd(root: int, cwd: str) -> None:
    """Docker makes a missing working directory, owned by root."""
    try:
        os.close(make_directories(root, cwd))
    except NotADirectoryError as error:
        raise Failure(errno.ENOTDIR, "cwd", f"Cannot mkdir: {cwd} is not a directory") from error
    except OSError as error:
        if error.errno != errno.EROFS:  # then changing to it fails in its own words
            raise Failure(error.errno or 0, "cwd", f"mkdir {cwd}: {reason(error)}") from error


def protect(root: int, spec: Spec) -> None:
    """Read-only and masked paths, then the rootfs itself read-only."""
    for path in spec.readonly_paths:
        with step("protect", f"{IN_INIT}can't make {path} read-only"):
            _make_readonly(root, path)
    for path in spec.masked_paths:
        with step("protect", f"{IN_INIT}can't mask path {path}"):
            _mask(root, path)
    if spec.readonly_rootfs:
        with step("protect", f"{IN_INIT}can't make the rootfs read-only"):
            m.mount_setattr(root, m.MOUNT_ATTR_RDONLY)


def _make_readonly(root: int, path: str) -> None:
    target = _existing(root, path)
    if target >= 0:
        tree = m.open_tree("", recursive=True, directory=target)
        m.mount_setattr(tree, m.MOUNT_ATTR_RDONLY, recursive=True)
        m.move_mount(tree, target)
        os.close(tree)
        os.close(target)


def _mask(root: int, path: str) -> None:
    target = _existing(root, path)
    if target < 0:
        return
    if stat.S_ISDIR(os.stat(target).st_mode):
        m.mount_on(target, "tmpfs", "tmpfs", m.MS_RDONLY)
    else:
        null = open_in_root(root, "/dev/null")
        tree = m.open_tree("", recursive=False, directory=null)
        m.move_mount(tree, target)
        os.close(tree)
        os.close(null)
    os.close(target)


def _existing(root: int, path: str) -> int:
    try:
        return open_in_root(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return -1


def enter(root: int) -> None:
    """Make `root` the process's / and let go of the old one."""
    with step("rootfs", f"{IN_INIT}error jailing process inside rootfs: pivot_root"):
        old = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fchdir(root)
        m.pivot_root(".", ".")  # the old root now lies over the new one
        os.fchdir(old)
        m.mount(None, ".", None, m.MS_SLAVE | m.MS_REC)  # the detach below must not reach the host's mounts
        m.umount2(".", m.MNT_DETACH)
        os.close(old)
        os.chdir("/")
