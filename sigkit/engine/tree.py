"""Applies the entries of one layer to an empty directory, which becomes a lower directory of overlayfs.

Every name is walked from the root by directory descriptors that never follow a link, so no entry reaches what it did not make: not a
file of the host, not one of a lower layer. Whiteouts become what overlayfs reads: character devices 0:0, and `user.overlay.opaque`
(the snapshots are mounted with `userxattr`, for root too: writing those attributes needs no CAP_SYS_ADMIN).

The order for each file: content, owner (which clears setuid and capabilities), mode, extended attributes, times. Directories get their
times at the end, because their entries change them.

What odd entries do is decided by the table in docs/engine.md.

Source: OCI image-spec 1.1, layer.md; Linux Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import errno
import os
import stat
from enum import Enum
from typing import TYPE_CHECKING

from sigkit import limits
from sigkit.engine import tar
from sigkit.engine.files import OPAQUE_ATTRIBUTE, is_whiteout
from sigkit.errors import BrokenLink, EscapesRoot, ForbiddenEntry, MalformedLayer, Place, TooDeep, TooLarge, UnpackingFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigkit.engine.tar import Entry, TarReader

_WHITEOUT = b".wh."
_AUFS = b".wh..wh."  # aufs's own names; they mean nothing here
_OPAQUE = b".wh..wh..opq"

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# The nodes that debootstrap makes: null zero full random urandom, tty console ptmx. Any other reaches a device of the host.
_HARMLESS_DEVICES = frozenset([(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)])

_NAME_MAX = 255  # of Linux
_NO_NAME = frozenset([b"", b".", b".."])


class Owners(Enum):
    """Whose the files become."""

    AS_GIVEN = "as-given"
    CALLER = "caller"


class Tree:
    """A directory that is filled with the entries of one layer."""

    def __init__(self, root: int, owners: Owners) -> None:
        """Fill the empty directory behind the descriptor `root`."""
        self._root = root
        self._owners = owners
        # The directories from the root to the one where the last entry lay, held open.
        self._names: list[bytes] = []
        self._descriptors = [root]
        self._parent: tuple[bytes, ...] = ()
        self._times: dict[tuple[bytes, ...], int] = {}
        self._notes: dict[str, int] = {}
        self._entry: Entry | None = None

    def apply(self, archive: TarReader) -> int:
        """Apply all entries of `archive` and return how many there were.

        Raises:
            EscapesRoot, MalformedLayer, ForbiddenEntry, BrokenLink: (UNPACK).
            TooLarge, TooMany, TooDeep: (LIMIT).
            UnpackingFailed: (UNAVAIL) the file system refuses: no space, an owner outside of the user's range.
        """
        count = 0
        try:
            for entry in archive:
                count += 1
                self._entry = entry
                self._apply(entry, archive)
            self._set_directory_times()
        except OSError as err:
            raise self._failed(err) from err
        finally:
            self._leave(0)
        return count

    def notes(self) -> tuple[str, ...]:
        """Say what was left out of the layer, with counts."""
        return tuple(f"{text}: {count}" for text, count in self._notes.items())

    def _note(self, text: str) -> None:
        self._notes[text] = self._notes.get(text, 0) + 1

    def _place(self) -> Place:
        return Place("", tar.shown(self._entry.name)) if self._entry else Place("")

    def _failed(self, err: OSError) -> UnpackingFailed:
        remedy = ""
        if err.errno in {errno.ENOSPC, errno.EDQUOT}:
            remedy = "free space on the file system of the store"
        elif err.errno == errno.EINVAL and self._entry and max(self._entry.uid, self._entry.gid) > 0:
            remedy = "give the user more subordinate ids in /etc/subuid and /etc/subgid"
        return UnpackingFailed(f"cannot write an entry: {err.strerror}", place=self._place(), remedy=remedy)

    def _path(self, name: bytes) -> tuple[bytes, ...]:
        """Return the components of `name` below the root: leading `/` and `.` mean nothing, `..` is refused."""
        parts = tuple([part for part in name.split(b"/") if part and part != b"."])
        if b".." in parts:
            raise EscapesRoot("a name with `..`", place=self._place(), got=tar.shown(name))
        if len(parts) > limits.TAR_DEPTH:
            raise TooDeep(f"a name of {len(parts)} components", place=self._place(), expected=f"at most {limits.TAR_DEPTH}")
        if any(len(part) > _NAME_MAX for part in parts):
            raise TooLarge("a component of a name is too long", place=self._place(), expected=f"at most {_NAME_MAX} bytes")
        return parts

    def _leave(self, depth: int) -> None:
        while len(self._names) > depth:
            self._names.pop()
            os.close(self._descriptors.pop())
        self._parent = tuple(self._names)

    def _enter(self, parts: tuple[bytes, ...], missing: Callable[[int, bytes], None]) -> int:
        """Return the descriptor of the directory `parts`, walked from where the last entry lay; `missing` makes one or refuses."""
        if parts == self._parent:
            return self._descriptors[-1]
        common = 0
        for mine, theirs in zip(self._names, parts, strict=False):
            if mine != theirs:
                break
            common += 1
        self._leave(common)
        for name in parts[common:]:
            above = self._descriptors[-1]
            try:
                descriptor = os.open(name, _OPEN_DIRECTORY, dir_fd=above)
            except OSError as err:
                if err.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                    raise
                if err.errno != errno.ENOENT:
                    self._check_is_whiteout(above, name)
                missing(above, name)
                descriptor = os.open(name, _OPEN_DIRECTORY, dir_fd=above)
            self._descriptors.append(descriptor)
            self._names.append(name)
            self._parent = tuple(self._names)
        return self._descriptors[-1]

    def _check_is_whiteout(self, above: int, name: bytes) -> None:
        found = os.lstat(name, dir_fd=above)
        if stat.S_ISLNK(found.st_mode):
            raise EscapesRoot("a path through a symbolic link", place=self._place(), got=tar.shown(name))
        if not is_whiteout(found):
            raise MalformedLayer("a path through something that is no directory", place=self._place(), got=tar.shown(name))

    def _make_parent(self, above: int, name: bytes) -> None:
        """Make a directory that no entry describes: root's, 0755, as every engine does."""
        if self._make(above, name, lambda: os.mkdir(name, 0o755, dir_fd=above)):
            self._hide_lower(above, name)

    def _no_parent(self, above: int, name: bytes) -> None:
        del above
        raise BrokenLink("a hard link to what this layer does not hold", place=self._place(), got=tar.shown(name))

    def _make(self, above: int, name: bytes, make: Callable[[], object]) -> bool:
        """Call `make`, which makes `name`; return whether a whiteout of this layer stood there before."""
        try:
            make()
        except FileExistsError as err:
            if not is_whiteout(os.lstat(name, dir_fd=above)):
                raise ForbiddenEntry("a name that the layer holds twice", place=self._place()) from err
            os.unlink(name, dir_fd=above)
            make()
            return True
        return False

    def _hide_lower(self, above: int, name: bytes) -> None:
        directory = os.open(name, _OPEN_DIRECTORY, dir_fd=above)
        try:
            os.setxattr(directory, OPAQUE_ATTRIBUTE, b"y")
        finally:
            os.close(directory)

    def _apply(self, entry: Entry, archive: TarReader) -> None:
        parts = self._path(entry.name)
        if entry.xattrs:
            self._check_attributes(entry)
        if not parts:
            self._apply_root(entry)
        elif b"/.wh." in entry.name or parts[0].startswith(_WHITEOUT):
            self._apply_whiteout(entry, parts)
        elif entry.kind == tar.HARD_LINK:
            self._make_hard_link(entry, parts)
        else:
            above = self._enter(parts[:-1], self._make_parent)
            match entry.kind:
                case tar.FILE:
                    self._make_file(above, parts[-1], entry, archive)
                case tar.DIRECTORY:
                    self._make_directory(above, parts, entry)
                case tar.SYMLINK:
                    self._make(above, parts[-1], lambda: os.symlink(entry.link, parts[-1], dir_fd=above))
                    self._finish_by_name(above, parts[-1], entry)
                case _:
                    self._make_node(above, parts[-1], entry)

    def _check_attributes(self, entry: Entry) -> None:
        for name, _ in entry.xattrs:
            if name.startswith(("trusted.overlay.", "user.overlay.")):
                raise ForbiddenEntry("an extended attribute that steers overlayfs", place=self._place(), got=name)

    def _apply_root(self, entry: Entry) -> None:
        if entry.kind != tar.DIRECTORY or not entry.name:
            raise EscapesRoot("an entry in the place of the root", place=self._place(), expected="a directory")
        self._finish(self._root, entry)
        self._times[()] = entry.mtime_ns

    def _apply_whiteout(self, entry: Entry, parts: tuple[bytes, ...]) -> None:
        name, above_parts = parts[-1], parts[:-1]
        inside = any(part.startswith(_WHITEOUT) for part in above_parts)
        if name == _OPAQUE and not inside:
            os.setxattr(self._enter(above_parts, self._make_parent), OPAQUE_ATTRIBUTE, b"y")
            return
        if any(part.startswith(_AUFS) for part in parts):
            return
        hidden = name[len(_WHITEOUT) :]
        if inside or hidden in _NO_NAME:
            raise ForbiddenEntry("a whiteout of no name", place=self._place())
        if entry.kind not in (tar.FILE, tar.HARD_LINK):  # aufs wrote them as hard links
            raise ForbiddenEntry("a whiteout that is no file", place=self._place())
        above = self._enter(above_parts, self._make_parent)
        try:
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=above)
        except FileExistsError as err:
            if not is_whiteout(os.lstat(hidden, dir_fd=above)):
                raise ForbiddenEntry("a whiteout of what the same layer holds", place=self._place()) from err

    def _make_file(self, above: int, name: bytes, entry: Entry, archive: TarReader) -> None:
        try:
            descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=above)
        except FileExistsError:
            self._make(above, name, lambda: os.close(os.open(name, _NEW_FILE, 0o600, dir_fd=above)))
            descriptor = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        try:
            if entry.pieces is not None:
                _write_sparse(descriptor, entry, archive)
            elif entry.size:
                for data in archive.content():
                    _write(descriptor, data)
            self._finish(descriptor, entry)
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(descriptor)

    def _make_directory(self, above: int, parts: tuple[bytes, ...], entry: Entry) -> None:
        name = parts[-1]
        hides = False
        try:
            os.mkdir(name, 0o755, dir_fd=above)
        except FileExistsError:
            # A directory may come after its own entries, and twice: nothing is lost by it.
            if not stat.S_ISDIR(os.lstat(name, dir_fd=above).st_mode):
                hides = self._make(above, name, lambda: os.mkdir(name, 0o755, dir_fd=above))
        directory = self._enter(parts, self._make_parent)
        if hides:
            os.setxattr(directory, OPAQUE_ATTRIBUTE, b"y")
        self._finish(directory, entry)
        self._times[parts] = entry.mtime_ns

    def _make_hard_link(self, entry: Entry, parts: tuple[bytes, ...]) -> None:
        target = self._path(entry.link)
        if not target:
            raise BrokenLink("a hard link to the root", place=self._place(), got=tar.shown(entry.link))
        from_directory = os.dup(self._enter(target[:-1], self._no_parent))
        try:
            try:
                found = os.lstat(target[-1], dir_fd=from_directory)
            except FileNotFoundError:
                self._no_parent(from_directory, entry.link)
            if stat.S_ISDIR(found.st_mode) or is_whiteout(found):
                raise BrokenLink("a hard link to what is no file of this layer", place=self._place(), got=tar.shown(entry.link))
            above = self._enter(parts[:-1], self._make_parent)
            # Without AT_SYMLINK_FOLLOW the link itself gets a second name (cpython#151558).
            link = _Link(from_directory, target[-1], above, parts[-1])
            self._make(above, parts[-1], link.make)
        finally:
            os.close(from_directory)

    def _make_node(self, above: int, name: bytes, entry: Entry) -> None:
        kind = stat.S_IFIFO
        if entry.kind != tar.FIFO:
            if entry.kind != tar.CHARACTER or entry.device not in _HARMLESS_DEVICES:
                what = f"{'block' if entry.kind == tar.BLOCK_DEVICE else 'character'} {entry.device[0]}:{entry.device[1]}"
                raise ForbiddenEntry("a device that no image needs", place=self._place(), got=what)
            kind = stat.S_IFCHR
        try:
            self._make(above, name, lambda: os.mknod(name, kind | entry.mode, os.makedev(*entry.device), dir_fd=above))
        except PermissionError:
            self._note("device nodes, which a user namespace may not make, are left out")
            return
        self._finish_by_name(above, name, entry)

    def _finish(self, descriptor: int, entry: Entry) -> None:
        """Set owner, mode and attributes, in this order: chown clears setuid bits and file capabilities."""
        if self._owners is Owners.AS_GIVEN:
            os.fchown(descriptor, entry.uid, entry.gid)
        elif entry.uid or entry.gid:
            self._note("entries of other owners belong to you")
        os.fchmod(descriptor, entry.mode)
        for name, value in entry.xattrs:
            self._set_attribute(descriptor, name, value)

    def _set_attribute(self, descriptor: int, name: str, value: bytes) -> None:
        # Labels of security modules are the host's to give; trusted.* and system.* mean nothing to an image.
        if not name.startswith("user.") and name != "security.capability":
            self._note(f"attributes {name[:60]} are left out")
            return
        try:
            os.setxattr(descriptor, name, value)
        except OSError as err:
            if err.errno not in {errno.EPERM, errno.ENOTSUP}:
                raise
            self._note(f"attributes {name[:60]} cannot be set here")

    def _finish_by_name(self, above: int, name: bytes, entry: Entry) -> None:
        """Do the same for what cannot be opened; its mode was given when it was made."""
        if self._owners is Owners.AS_GIVEN:
            os.chown(name, entry.uid, entry.gid, dir_fd=above, follow_symlinks=False)
        elif entry.uid or entry.gid:
            self._note("entries of other owners belong to you")
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=above, follow_symlinks=False)

    def _set_directory_times(self) -> None:
        for parts, when in sorted(self._times.items()):
            os.utime(self._enter(parts, self._no_parent), ns=(when, when))


class _Link:
    """A hard link to be made."""

    def __init__(self, from_directory: int, target: bytes, above: int, name: bytes) -> None:
        self._arguments = (from_directory, target, above, name)

    def make(self) -> None:
        from_directory, target, above, name = self._arguments
        os.link(target, name, src_dir_fd=from_directory, dst_dir_fd=above, follow_symlinks=False)


def _write(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _write_sparse(descriptor: int, entry: Entry, archive: TarReader) -> None:
    """Put each stored piece where the map says; what lies between stays a hole."""
    pieces = iter(entry.pieces or ())
    offset = length = 0
    for chunk in archive.content():
        data = chunk
        while data:
            while not length:
                offset, length = next(pieces)  # the map was checked to cover the content exactly
            written = os.pwrite(descriptor, data[:length], offset)
            offset, length, data = offset + written, length - written, data[written:]
    os.ftruncate(descriptor, entry.real_size)
