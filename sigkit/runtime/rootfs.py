"""The container's root directory becomes a mount of its own, and then the root of everything.

pivot_root, never chroot: after it the host's tree is not merely hidden but gone from the mount namespace.
"""

from __future__ import annotations

import os

from sigkit.runtime import syscalls
from sigkit.runtime.trace import Trace, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sigkit.runtime.plan import Plan

_MS_NODEV = 4


def attach(plan: Plan, trace: Trace) -> int:
    """Make the root file system a private mount and return a descriptor of its root.

    Device nodes on it do nothing: those that a container may use lie on the private /dev.
    """
    path = plan["rootfs"]
    overlay = plan["rootfs_mount"]
    if overlay is not None:
        kind, source, options = overlay
        trace.step(
            "root file system",
            "the image's layers and a fresh writable one become one tree, in this mount namespace only",
            f"mount -t {quote(kind)} -o nodev,{quote(options)} {quote(source)} {quote(path)}",
        )
        # The old call: fsconfig takes at most 256 bytes of a value, and lowerdir= needs a page.
        syscalls.mount(source, path, kind, _MS_NODEV, options)
        root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    else:
        trace.step(
            "root file system",
            "pivot_root wants a mount point; nodev, so that device nodes of the image do nothing",
            f"mount --rbind --make-rprivate -o nodev {quote(path)} {quote(path)}",
        )
        below = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        root = syscalls.open_tree(below, b"", syscalls.AT_EMPTY_PATH | syscalls.AT_RECURSIVE)
        syscalls.mount_setattr(root, add=syscalls.MOUNT_ATTR_NODEV, propagation=syscalls.MS_PRIVATE, flags=syscalls.AT_RECURSIVE)
        syscalls.move_mount(root, below)
        os.close(below)
    return root


def pivot(root: int, trace: Trace) -> None:
    """Make `root` the root directory and let go of the host's tree."""
    trace.step(
        "pivot_root",
        "the container's root becomes /; the host's tree is detached, so no path leads there any more",
        "pivot_root . . && umount -l . && cd /",
    )
    os.fchdir(root)
    # The old root ends up stacked on the new one, at the same place: no directory for it is needed in the image.
    syscalls.pivot_root(b".", b".")
    syscalls.umount(b".", syscalls.MNT_DETACH)
    os.chdir(b"/")
