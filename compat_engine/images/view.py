"""How a worker gets into a container's filesystem, in mounts of its own: what it does there cannot reach the host.

A running container's mount namespace is joined and copied; for one that does not run, the overlay and what is mounted on it are
mounted anew. Either way the process ends up with nothing else below `/`, without devices and without a way to import code.
"""

import errno
import importlib.machinery
import os
import sys
from typing import Any

from compat_engine.kernel import mounts as m
from compat_engine.kernel import namespaces as ns
from compat_engine.kernel.paths import make_directories, make_file
from compat_engine.shim import rootfs
from compat_engine.shim.failure import Failure
from compat_engine.shim.spec import Overlay, load_mount

_UMOUNT_NOFOLLOW = 8
_DIRECTORIES = ("/dev/pts", "/dev/shm", "/proc", "/sys", "/etc")  # which every container has, whatever its image
_FILES = ("/.dockerenv", "/dev/console", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
_LINKS = (("/etc", "mtab", "/proc/mounts"),)


def enter(arguments: dict[str, Any], fds: list[int]) -> None:
    """Called in a process with one thread. arguments: a View's `plain`; fds: of a running container its mount
    namespace, else none.

    Raises OSError for what cannot be mounted.
    """
    os.umask(0)
    try:
        if arguments["running"]:
            _join(fds[0], arguments["hide"], arguments["bare"])
        else:
            _mount(arguments)
    except Failure as error:
        raise OSError(error.errno or errno.EIO, str(error)) from error
    m.mount_setattr(root := os.open("/", os.O_PATH | os.O_DIRECTORY), m.MOUNT_ATTR_NODEV | m.MOUNT_ATTR_NOEXEC, recursive=True)
    os.close(root)
    _import_nothing()


def confine(directory: str) -> None:
    """The same for a directory alone."""
    os.chroot(directory)
    os.chdir("/")
    _import_nothing()


def _join(namespace: int, hide: list[str], bare: bool) -> None:
    ns.setns(namespace, ns.CLONE_NEWNS)
    os.close(namespace)
    ns.unshare(ns.CLONE_NEWNS)
    m.mount(None, "/", None, m.MS_REC | m.MS_PRIVATE)
    if bare:
        _leave_the_rest()
    for path in () if bare else hide:
        try:
            m.umount2(path, m.MNT_DETACH | _UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):  # the container itself may have taken it away
                raise


def _leave_the_rest() -> None:
    """Only the mount of the root, without what is mounted on it."""
    tree = m.open_tree("/", recursive=False)
    old = os.open("/", os.O_PATH | os.O_DIRECTORY)
    m.move_mount(tree, old)  # over the old root: the way `pivot_root` needs it
    os.close(old)
    os.fchdir(tree)
    os.chroot(".")
    os.close(tree)


def _mount(arguments: dict[str, Any]) -> None:
    overlay, point = Overlay(**arguments["overlay"]), arguments["point"]
    overlay = Overlay(tuple(overlay.lower), overlay.upper, overlay.work)
    ns.unshare(ns.CLONE_NEWNS)
    m.mount(None, "/", None, m.MS_REC | m.MS_PRIVATE)
    if not arguments["writable"]:
        overlay = _scratch(overlay, point)
    root = rootfs.mount_root(overlay, point, "rprivate")
    _furnish(root)
    for path in arguments["directories"]:
        os.close(make_directories(root, path))
    for mount in arguments["mounts"]:
        rootfs.bind(root, load_mount(mount))
    rootfs.enter(root)
    os.close(root)


def _scratch(overlay: Overlay, point: str) -> Overlay:
    """The same content with an upper directory of our own: reading writes nothing, not even mount points."""
    m.mount("tmpfs", point, "tmpfs", 0, "mode=700")
    upper, work = f"{point}/upper", f"{point}/work"
    os.mkdir(upper)
    os.mkdir(work)
    status = os.stat(overlay.upper)
    os.chown(upper, status.st_uid, status.st_gid)
    os.chmod(upper, status.st_mode & 0o7777)
    os.utime(upper, ns=(status.st_atime_ns, status.st_mtime_ns))
    return Overlay((overlay.upper, *overlay.lower), upper, work)


def _furnish(root: int) -> None:
    for path in _DIRECTORIES:
        os.close(make_directories(root, path))
    for path in _FILES:
        os.close(make_file(root, path))
    for directory, name, target in _LINKS:
        parent = make_directories(root, directory)
        try:
            os.symlink(target, name, dir_fd=parent)
        except FileExistsError:
            pass  # the image's own
        finally:
            os.close(parent)


def _import_nothing() -> None:
    """The container's files are no code of ours: what is not imported by now never is."""
    sys.path.clear()
    sys.meta_path[:] = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter]
