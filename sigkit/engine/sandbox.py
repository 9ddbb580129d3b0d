"""Takes everything from a process but one directory: no network, no other file, few capabilities.

Runs in the process that reads a layer. After `enter` its root is an empty, read-only tmpfs with that directory mounted at /layer:
an exploited decoder finds no file of the host, and an import finds nothing that an image could have put there (host.md, trap 1).

Not handled here: system call filters; the process may still call anything that its few capabilities allow.
"""

from __future__ import annotations

import os
import sys

from sigkit import limits
from sigkit.runtime import syscalls

_CAP_CHOWN, _CAP_DAC_OVERRIDE, _CAP_FOWNER, _CAP_FSETID, _CAP_MKNOD, _CAP_SETFCAP = 0, 1, 3, 4, 27, 31
_KEPT = sum(1 << cap for cap in (_CAP_CHOWN, _CAP_DAC_OVERRIDE, _CAP_FOWNER, _CAP_FSETID, _CAP_MKNOD, _CAP_SETFCAP))
_RLIMIT_CPU, _RLIMIT_DATA, _RLIMIT_CORE = 0, 2, 4
_DATA_BYTES = 512 * 2**20  # the largest zstd window (128 MiB) several times over

_NAMESPACES = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS


def make_user_namespace() -> None:
    """Become root of a user namespace that has no ids yet. The process must have a single thread."""
    syscalls.unshare(syscalls.CLONE_NEWUSER)


def enter() -> int:
    """Leave everything but the working directory behind, and return a descriptor of it.

    Raises:
        OSError: the kernel refuses a namespace or a mount.
    """
    forbid_imports()
    syscalls.unshare(_NAMESPACES)
    syscalls.mount(None, b"/", None, syscalls.MS_REC | syscalls.MS_PRIVATE, None)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    layer = syscalls.open_tree(here, b"", syscalls.AT_EMPTY_PATH)
    inert = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_NOEXEC
    syscalls.mount_setattr(layer, add=inert)
    root = syscalls.fsmount(b"tmpfs", b"tmpfs", ((b"size", b"64k"), (b"mode", b"755")), inert)
    # The new root needs a place to be attached; it is this namespace's own view, so nobody else sees it there.
    syscalls.move_mount(root, here)
    os.fchdir(root)
    os.mkdir("layer", 0o755)
    target = os.open("layer", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    syscalls.move_mount(layer, target)
    syscalls.mount_setattr(root, add=syscalls.MOUNT_ATTR_RDONLY)
    syscalls.pivot_root(b".", b".")
    syscalls.umount(b".", syscalls.MNT_DETACH)
    os.chdir("/")
    for descriptor in (here, layer, root, target):
        os.close(descriptor)
    directory = os.open("/layer", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    _drop_privileges()
    return directory


def can_mount_overlay(options: str) -> bool:
    """Try to mount an overlay with `options` on the directory `rootfs` here, in a mount namespace that ends with this process."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, b"/", None, syscalls.MS_REC | syscalls.MS_PRIVATE, None)
    try:
        syscalls.mount(b"overlay", b"rootfs", b"overlay", 0, os.fsencode(options))
    except OSError:
        return False
    return True


def _drop_privileges() -> None:
    os.umask(0)
    for resource, most in ((_RLIMIT_CPU, limits.UNPACK_CPU_S), (_RLIMIT_DATA, _DATA_BYTES), (_RLIMIT_CORE, 0)):
        _, hard = syscalls.getrlimit(resource)
        syscalls.setrlimit(resource, min(most, hard), min(most, hard))
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    _, permitted, _ = syscalls.capget()
    syscalls.capset(permitted & _KEPT, permitted & _KEPT, 0)


def forbid_imports() -> None:
    """Make every later import fail: all that is needed is loaded, and what a file system offers later is not trusted."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()


def report(err: BaseException) -> None:
    """Write one line to standard error, without the machinery that formats tracebacks: it imports and reads source files."""
    os.write(2, f"{type(err).__name__}: {err}\n".encode("utf-8", "backslashreplace")[:2000])
