"""The private /dev: the device nodes that every container has, those that config.json adds, and the usual links.

Nodes are made; in a user namespace, where the kernel forbids that, the host's are bound, each checked by descriptor to be the device
that it claims to be.
"""

from __future__ import annotations

import errno
import os
import stat

from sigkit.runtime import inroot, syscalls
from sigkit.runtime.trace import Trace, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sigkit.runtime.plan import DevicePlan, Plan

_LINKS = (
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
    (b"ptmx", b"pts/ptmx"),
)


def open_host_device(path: bytes, kind: int, number: int) -> int:
    """Return an O_PATH descriptor of a device of the host.

    Raises:
        Unsafe: what is there is another kind of file or another device.
    """
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(descriptor)
    if stat.S_IFMT(found.st_mode) != kind or found.st_rdev != number:
        os.close(descriptor)
        raise inroot.Unsafe(b"not the device that it should be", path)
    return descriptor


def populate(root: int, plan: Plan, trace: Trace) -> None:
    """Fill /dev of the container, unless config.json mounts the host's there."""
    devices = plan["devices"]
    if devices is None:
        return
    for device in devices:
        trace.step(
            f"device {quote(device['in_root'])}",
            "one of the few devices that a container gets",
            _shell(device),
        )
        if plan["bind_devices"] or not _make(root, device):
            _bind(root, device)
    trace.step("links in /dev", "programs expect them", "ln -s /proc/self/fd $ROOT/dev/fd  # and stdin, stdout, stderr, ptmx")
    directory = inroot.open_path(root, b"/dev", flags=os.O_DIRECTORY, resolve=syscalls.RESOLVE_NO_SYMLINKS)
    try:
        for name, target in _LINKS:
            try:
                os.symlink(target, name, dir_fd=directory)
            except FileExistsError:
                pass  # a mount of config.json put something of its own there
    finally:
        os.close(directory)


def _make(root: int, device: DevicePlan) -> bool:
    """Make the node and return True, or return False where this process may not."""
    parent, _, name = device["in_root"].rpartition(b"/")
    directory = inroot.make_directory(root, parent or b"/", resolve=syscalls.RESOLVE_NO_SYMLINKS)
    previous = os.umask(0)
    try:
        os.mknod(name, device["type"] | device["mode"], device["number"], dir_fd=directory)
        os.chown(name, device["uid"], device["gid"], dir_fd=directory, follow_symlinks=False)
    except FileExistsError:
        _check_existing(directory, name, device)
    except PermissionError as err:
        if err.errno != errno.EPERM or device["type"] == stat.S_IFIFO:
            raise
        return False
    finally:
        os.umask(previous)
        os.close(directory)
    return True


def _check_existing(directory: int, name: bytes, device: DevicePlan) -> None:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_IFMT(found.st_mode) != device["type"] or found.st_rdev != device["number"]:
        raise inroot.Unsafe(b"another file is already there", device["in_root"])


def _bind(root: int, device: DevicePlan) -> None:
    host = open_host_device(device["in_root"], device["type"], device["number"])
    try:
        target = inroot.make_file(root, device["in_root"], resolve=syscalls.RESOLVE_NO_SYMLINKS)
        try:
            # Read-only holds for the node, its owner and its mode, and not for what is written to the device.
            node = syscalls.copy_mount(host, b"", syscalls.AT_EMPTY_PATH, add=syscalls.MOUNT_ATTR_RDONLY, propagation=syscalls.MS_PRIVATE)
            inroot.cover(target, node)
        finally:
            os.close(target)
    finally:
        os.close(host)


def _shell(device: DevicePlan) -> str:
    if device["type"] == stat.S_IFIFO:
        return f"mkfifo -m {device['mode']:o} $ROOT{quote(device['in_root'])}"
    letter = "b" if device["type"] == stat.S_IFBLK else "c"
    number = f"{os.major(device['number'])} {os.minor(device['number'])}"
    return f"mknod -m {device['mode']:o} $ROOT{quote(device['in_root'])} {letter} {number}"
