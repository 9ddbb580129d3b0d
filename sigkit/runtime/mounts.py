"""The mounts of config.json, made detached and attached by descriptor.

A mount is complete (file system, read-only, nosuid …) before it is attached, and it is attached to an object, not to a name. So there is
no moment at which it is writable by mistake, and no name that could be swapped in between (CVE-2021-30465).
"""

from __future__ import annotations

import errno
import os
import stat

from sigkit.runtime import devices, inroot, syscalls
from sigkit.runtime.trace import Trace, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sigkit.runtime.plan import MountPlan

_HARDENED = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_NOEXEC
_READ_ONLY = syscalls.MOUNT_ATTR_RDONLY
# The kernel and every program trust what lies here, so not even a link inside the image may stand in for it
# (CVE-2019-19921, CVE-2023-27561, CVE-2026-41579).
_SYSTEM = (b"/proc", b"/sys", b"/dev")


class Changed(Exception):
    """A source that somebody judged by its path is a symbolic link now, or lies behind one. The argument is the path, in bytes."""


def _resolve(path: bytes) -> int:
    top = b"/" + path.split(b"/")[1]
    return syscalls.RESOLVE_NO_SYMLINKS if top in _SYSTEM else 0


def private(trace: Trace) -> None:
    """Cut this mount namespace off: nothing mounted here appears on the host."""
    trace.step(
        "private propagation",
        "no mount made here reaches the host, and none of the host's arrives here",
        "mount --make-rprivate /",
    )
    syscalls.mount(None, b"/", None, syscalls.MS_REC | syscalls.MS_PRIVATE, None)


def attach(root: int, mount: MountPlan, cgroups: tuple[tuple[bytes, bytes], ...], trace: Trace) -> None:
    """Make one mount of config.json; `cgroups` are the container's own, for the mount that shows them."""
    trace.step(
        f"{mount['where'].decode('ascii', 'backslashreplace')}: {quote(mount['kind'])} on {quote(mount['in_root'])}",
        _why(mount),
        _shell(mount),
    )
    if mount["kind"] == b"bind":
        tree = _bind(mount)
    elif mount["kind"] == b"cgroup":
        _attach_cgroups(root, mount, cgroups)
        return
    else:
        tree = _new(mount)
    try:
        _put(root, tree, mount["in_root"])
        if mount["propagation"]:
            syscalls.mount_setattr(tree, propagation=mount["propagation"] & ~syscalls.MS_REC, flags=_recursion(mount["propagation"]))
    finally:
        os.close(tree)


def _recursion(propagation: int) -> int:
    return syscalls.AT_RECURSIVE if propagation & syscalls.MS_REC else 0


def _put(root: int, tree: int, path: bytes) -> None:
    """Attach `tree` at `path`, which is made if missing."""
    make = inroot.make_directory if stat.S_ISDIR(os.fstat(tree).st_mode) else inroot.make_file
    resolve = _resolve(path)
    target = make(root, path, resolve=resolve)
    try:
        if not resolve:
            _check_led(root, target, path)
        syscalls.move_mount(tree, target)
    finally:
        os.close(target)


def _check_led(root: int, target: int, path: bytes) -> None:
    """Refuse a mount point that a link of the image led over the root, or to where the kernel and this runtime keep what is theirs.

    The device nodes, for one, would be made in the directory of the host that lies over /dev then.
    """
    top, found = (os.readlink(b"/proc/self/fd/%d" % descriptor) for descriptor in (root, target))
    below = top.rstrip(b"/") + b"/"
    if not found.startswith(below) or _resolve(b"/" + found[len(below) :]):
        raise inroot.Unsafe(b"a symbolic link that leads over the container's own mounts", path)


def _bind(mount: MountPlan) -> int:
    tree = _open_source(mount)
    # A copy is in the peer group of its source: what the container mounts below would appear on the host.
    syscalls.mount_setattr(tree, propagation=syscalls.MS_PRIVATE, flags=mount["recursive"])
    _set_attributes(tree, mount)
    return tree


def _open_source(mount: MountPlan) -> int:
    path, recursive = mount["source"], mount["recursive"]
    if not mount["judged"]:
        return syscalls.open_tree(syscalls.AT_FDCWD, path, recursive)
    try:
        source = syscalls.openat2(syscalls.AT_FDCWD, path, os.O_PATH, syscalls.RESOLVE_NO_SYMLINKS)
    except OSError as err:
        if err.errno == errno.ELOOP:
            raise Changed(path) from err
        raise
    try:
        return syscalls.open_tree(source, b"", syscalls.AT_EMPTY_PATH | recursive)
    finally:
        os.close(source)


def _new(mount: MountPlan) -> int:
    try:
        return syscalls.fsmount(mount["kind"], mount["source"], mount["options"], mount["add"])
    except PermissionError as err:
        if mount["kind"] != b"sysfs" or err.errno != errno.EPERM:
            raise
    # A user namespace may mount sysfs only with a network namespace of its own: show the host's, read-only.
    return syscalls.copy_mount(
        syscalls.AT_FDCWD, b"/sys", syscalls.AT_RECURSIVE, add=_READ_ONLY | _HARDENED, propagation=syscalls.MS_PRIVATE
    )


def _set_attributes(tree: int, mount: MountPlan) -> None:
    if mount["add"] or mount["remove"]:
        syscalls.mount_setattr(tree, add=mount["add"], remove=mount["remove"])
    if mount["below"]:
        syscalls.mount_setattr(tree, add=mount["below"], flags=syscalls.AT_RECURSIVE)


def _attach_cgroups(root: int, mount: MountPlan, own: tuple[tuple[bytes, bytes], ...]) -> None:
    """Show the container its own cgroups and no others, read-only (CVE-2023-25809).

    On v2 that is one directory; on v1 one below a tmpfs for each controller that the container was put into.
    """
    if own and not own[0][0]:
        _show_cgroup(root, own[0][1], mount["in_root"])
        return
    top = syscalls.fsmount(b"tmpfs", b"tmpfs", ((b"mode", b"755"), (b"size", b"64k")), _HARDENED)
    try:
        _put(root, top, mount["in_root"])
        for name, directory in own:
            _show_cgroup(top, directory, b"/" + name)
        syscalls.mount_setattr(top, add=_READ_ONLY)
    finally:
        os.close(top)


def _show_cgroup(root: int, directory: bytes, path: bytes) -> None:
    tree = syscalls.copy_mount(syscalls.AT_FDCWD, directory, 0, add=_READ_ONLY | _HARDENED, propagation=syscalls.MS_PRIVATE)
    try:
        _put(root, tree, path)
    finally:
        os.close(tree)


def mask(root: int, paths: tuple[bytes, ...], trace: Trace) -> None:
    """Hide each of `paths`: a file under /dev/null, a directory under an empty read-only tmpfs; an absent one is skipped.

    The null device is the host's, checked by descriptor, never the one at the image's /dev/null (CVE-2025-31133).
    """
    null = -1
    try:
        for path in paths:
            target = _existing(root, path)
            if target < 0:
                continue
            try:
                if stat.S_ISDIR(os.fstat(target).st_mode):
                    trace.step(f"mask {quote(path)}", "it tells about the host", f"mount -t tmpfs -o ro tmpfs {quote(path)}")
                    tree = syscalls.fsmount(b"tmpfs", b"tmpfs", (), _READ_ONLY | _HARDENED)
                else:
                    trace.step(f"mask {quote(path)}", "it tells about the host", f"mount --bind /dev/null {quote(path)}")
                    if null < 0:
                        null = devices.open_host_device(b"/dev/null", stat.S_IFCHR, os.makedev(1, 3))
                    # Read-only, for its owner and mode are the host's: root inside could take /dev/null from everybody.
                    tree = syscalls.copy_mount(null, b"", syscalls.AT_EMPTY_PATH, add=_READ_ONLY, propagation=syscalls.MS_PRIVATE)
                inroot.cover(target, tree)
            finally:
                os.close(target)
    finally:
        if null >= 0:
            os.close(null)


def protect(root: int, paths: tuple[bytes, ...], trace: Trace) -> None:
    """Make each of `paths` read-only; an absent one is skipped."""
    for path in paths:
        target = _existing(root, path)
        if target < 0:
            continue
        trace.step(f"read-only {quote(path)}", "a write there would change the host", f"mount --rbind -o ro {quote(path)} {quote(path)}")
        try:
            inroot.cover(target, syscalls.copy_mount(target, b"", syscalls.AT_EMPTY_PATH | syscalls.AT_RECURSIVE, add=_READ_ONLY))
        finally:
            os.close(target)


def _existing(root: int, path: bytes) -> int:
    try:
        return inroot.open_path(root, path, resolve=_resolve(path))
    except (FileNotFoundError, NotADirectoryError):
        return -1


def check_proc(root: int, mounts: tuple[MountPlan, ...]) -> None:
    """Refuse a /proc that config.json asked for and that is not procfs (CVE-2025-52881)."""
    if not any(m["in_root"] == b"/proc" and m["kind"] == b"proc" for m in mounts):
        return
    found = inroot.open_path(root, b"/proc", resolve=syscalls.RESOLVE_NO_SYMLINKS)
    try:
        if syscalls.filesystem_magic(found) != syscalls.PROC_MAGIC:
            raise inroot.Unsafe(b"not the process file system", b"/proc")
    finally:
        os.close(found)


_WHY = {
    b"proc": "processes of the container's own pid namespace, and nothing of the host's",
    b"sysfs": "devices as the container's network namespace has them",
    b"tmpfs": "a private file system in memory",
    b"devpts": "private pseudo-terminals",
    b"mqueue": "message queues of the container's own ipc namespace",
    b"cgroup": "the container's own cgroup, read-only: it can read its limits and change none",
    b"bind": "config.json gives the container this file or directory of the host",
}


def _why(mount: MountPlan) -> str:
    return _WHY.get(mount["kind"], "config.json asks for it")


_ATTRIBUTE_NAMES = (
    (syscalls.MOUNT_ATTR_RDONLY, "ro"),
    (syscalls.MOUNT_ATTR_NOSUID, "nosuid"),
    (syscalls.MOUNT_ATTR_NODEV, "nodev"),
    (syscalls.MOUNT_ATTR_NOEXEC, "noexec"),
)


def _shell(mount: MountPlan) -> str:
    words = [name for bit, name in _ATTRIBUTE_NAMES if mount["add"] & bit]
    words += [quote(key if value is None else key + b"=" + value) for key, value in mount["options"]]
    options = f" -o {','.join(words)}" if words else ""
    if mount["kind"] == b"bind":
        how = "--rbind" if mount["recursive"] else "--bind"
        return f"mount {how}{options} {quote(mount['source'])} $ROOT{quote(mount['in_root'])}"
    return f"mount -t {quote(mount['kind'])}{options} {quote(mount['source'])} $ROOT{quote(mount['in_root'])}"
