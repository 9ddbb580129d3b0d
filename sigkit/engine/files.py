"""Directory trees, by descriptor: emptied, and copied layer by layer where there is no overlayfs.

Links are never followed. Depth and number of directories may be anything: a container can make any tree in its writable layer.
"""

from __future__ import annotations

import os
import stat

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_BYTES = 1 << 30

OPAQUE_ATTRIBUTE = "user.overlay.opaque"
OVERLAY_ATTRIBUTES = "user.overlay."


def empty(top: int) -> None:
    """Remove everything in the directory behind the descriptor `top`.

    A directory is moved to the top before it is emptied: neither depth nor open descriptors grow with the tree.
    """
    token = os.urandom(8).hex()
    pending = _unlink_files(top)
    count = 0
    while pending:
        name = pending.pop()
        directory = os.open(name, _OPEN_DIRECTORY, dir_fd=top)
        try:
            for inner in _unlink_files(directory):
                count += 1
                moved = f".{token}.{count}"
                os.rename(inner, moved, src_dir_fd=directory, dst_dir_fd=top)
                pending.append(moved)
        finally:
            os.close(directory)
        os.rmdir(name, dir_fd=top)


def _unlink_files(directory: int) -> list[str]:
    """Unlink all that is no directory, and return the names of the directories."""
    found: list[str] = []
    with os.scandir(directory) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                found.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=directory)
    return found


def is_whiteout(found: os.stat_result) -> bool:
    """Tell whether overlayfs takes this for "not there, and nothing below it"."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


class LayerCopy:
    """Copies the lower directories of an overlay into one tree, the lowest first, as overlayfs would show them."""

    def __init__(self, target: int) -> None:
        """Copy into the directory behind the descriptor `target`."""
        self._target = target
        self._links: dict[int, str] = {}

    def add(self, layer: int) -> None:
        """Copy one layer over what is there."""
        self._links.clear()
        self._directory(layer, self._target, "")

    def _directory(self, source: int, target: int, path: str) -> None:
        if _is_opaque(source):
            empty(target)
        with os.scandir(source) as entries:
            for entry in list(entries):
                self._entry(source, target, entry.name, f"{path}{entry.name}")
        _copy_status(source, target, os.fstat(source))

    def _entry(self, source: int, target: int, name: str, path: str) -> None:
        found = os.lstat(name, dir_fd=source)
        if not stat.S_ISDIR(found.st_mode) or not _is_directory(target, name):
            _remove(target, name)
        if is_whiteout(found):
            return
        if stat.S_ISDIR(found.st_mode):
            self._subdirectory(source, target, name, path)
            return
        if found.st_nlink > 1:
            if found.st_ino in self._links:
                os.link(self._links[found.st_ino], name, src_dir_fd=self._target, dst_dir_fd=target, follow_symlinks=False)
                return
            self._links[found.st_ino] = path
        if stat.S_ISREG(found.st_mode):
            _copy_file(source, target, name, found)
            return
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
        os.utime(name, ns=(found.st_mtime_ns, found.st_mtime_ns), dir_fd=target, follow_symlinks=False)

    def _subdirectory(self, source: int, target: int, name: str, path: str) -> None:
        if not _is_directory(target, name):
            os.mkdir(name, 0o700, dir_fd=target)
        below = os.open(name, _OPEN_DIRECTORY, dir_fd=source)
        try:
            new = os.open(name, _OPEN_DIRECTORY, dir_fd=target)
            try:
                self._directory(below, new, f"{path}/")
            finally:
                os.close(new)
        finally:
            os.close(below)


def _is_opaque(directory: int) -> bool:
    return OPAQUE_ATTRIBUTE in os.listxattr(directory)


def _is_directory(directory: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode)
    except FileNotFoundError:
        return False


def _remove(directory: int, name: str) -> None:
    if _is_directory(directory, name):
        below = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
        try:
            empty(below)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=directory)
        return
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass


def _copy_file(source: int, target: int, name: str, found: os.stat_result) -> None:
    old = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        new = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            while os.copy_file_range(old, new, _COPY_BYTES):
                pass
            _copy_status(old, new, found)
        finally:
            os.close(new)
    finally:
        os.close(old)


def _copy_status(old: int, new: int, found: os.stat_result) -> None:
    """Copy owner, mode, attributes and times, in this order."""
    os.fchown(new, found.st_uid, found.st_gid)
    os.fchmod(new, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(old):
        if not name.startswith(OVERLAY_ATTRIBUTES):
            os.setxattr(new, name, os.getxattr(old, name))
    os.utime(new, ns=(found.st_mtime_ns, found.st_mtime_ns))
