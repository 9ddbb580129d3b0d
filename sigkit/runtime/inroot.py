"""Paths inside a container's root, by descriptor, resolved by the kernel as if that root were `/`.

No path of an image is ever joined to a path of the host: a link in the image leads somewhere in the image (CVE-2021-30465,
CVE-2024-45310). Magic links (/proc/self/fd/…) are never followed (CVE-2024-21626).
"""

from __future__ import annotations

import errno
import os

from sigkit.runtime import syscalls

_ATTEMPTS = 16  # openat2 answers EAGAIN when a rename races with `..`; an attacker who renames without end gets a refusal


class Unsafe(Exception):
    """The image holds something at a path where it must not. Arguments: the problem, the path (both bytes)."""


def open_path(root: int, path: bytes, *, flags: int = 0, resolve: int = 0) -> int:
    """Return an O_PATH descriptor of what is at `path` in the root.

    Args:
        root: a descriptor of the container's root.
        path: absolute or relative, both from the root.
        flags: O_DIRECTORY, O_NOFOLLOW.
        resolve: RESOLVE_NO_SYMLINKS where not even a link inside the root is accepted.
    """
    for attempt in range(_ATTEMPTS):
        try:
            rules = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS | resolve
            return syscalls.openat2(root, path, os.O_PATH | flags, rules)
        except OSError as err:
            if err.errno == errno.ELOOP:
                raise Unsafe(b"a symbolic link that is not followed", path) from err
            if err.errno != errno.EAGAIN or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def make_directory(root: int, path: bytes, *, resolve: int = 0) -> int:
    """Return an O_PATH descriptor of the directory `path`, made with its parents where missing."""
    try:
        return open_path(root, path, flags=os.O_DIRECTORY, resolve=resolve)
    except FileNotFoundError:
        pass
    except NotADirectoryError as err:
        raise Unsafe(b"not a directory", path) from err
    parent, name = _split(path)
    above = make_directory(root, parent, resolve=resolve)
    try:
        try:
            os.mkdir(name, 0o755, dir_fd=above)
        except FileExistsError as err:  # openat2 found nothing, mkdir does: a dangling link
            raise Unsafe(b"a symbolic link that leads nowhere", path) from err
        return open_path(above, name, flags=os.O_DIRECTORY | os.O_NOFOLLOW, resolve=syscalls.RESOLVE_NO_SYMLINKS)
    finally:
        os.close(above)


def make_file(root: int, path: bytes, *, resolve: int = 0) -> int:
    """Return an O_PATH descriptor of the file `path`, made empty where missing: something to mount a file on."""
    try:
        return open_path(root, path, resolve=resolve)
    except FileNotFoundError:
        pass
    parent, name = _split(path)
    above = make_directory(root, parent, resolve=resolve)
    try:
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=above))
        except FileExistsError as err:
            raise Unsafe(b"a symbolic link that leads nowhere", path) from err
        return open_path(above, name, flags=os.O_NOFOLLOW, resolve=syscalls.RESOLVE_NO_SYMLINKS)
    finally:
        os.close(above)


def cover(target: int, tree: int) -> None:
    """Attach the detached mount `tree`, whose descriptor is closed, over the object behind `target`."""
    try:
        syscalls.move_mount(tree, target)
    finally:
        os.close(tree)


def _split(path: bytes) -> tuple[bytes, bytes]:
    parent, _, name = path.rstrip(b"/").rpartition(b"/")
    return parent or b"/", name
