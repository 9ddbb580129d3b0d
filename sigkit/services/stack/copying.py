"""Files of a stack's directory, read to be copied: regular files in real directories, whatever lies there.

Root makes the backup of a stack that a service account owns, and that account may lay links in its directory, also between two looks: no
link below the name that the operator gave is followed, and what stands in the place of a file is refused by its name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from typing import IO, TYPE_CHECKING, Final

from sigkit import durable, limits
from sigkit.errors import DigestMismatch, FileUnreadable, FileUnwritable, NoStackFile, Place
from sigkit.text import human_size

if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Self

    from sigkit.digest import Digest

_PIECE_BYTES: Final = 1 << 20
# The longest name of a repository has 128 parts (OCI distribution-spec: 255 characters), and some levels of the stack's own are around it.
# Each level is an open descriptor here.
_MOST_LEVELS: Final = 160
_FILE_BYTES: Final = 64 * 2**20  # the largest beside content and journals, 256 entries of a log, has 16 MiB
JOURNAL_BYTES: Final = 2**30  # 16,000 entries of the largest size; a log files them from 1,024 on
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO in the place of a file must not hang us


class StackFile:
    """An open regular file of a stack. A context manager that closes it."""

    def __init__(self, path: str, file: IO[bytes], most_bytes: int = _FILE_BYTES) -> None:
        """Take an open file, the path by which it is spoken of, and how many bytes it can have."""
        self.name = path
        self._file = file
        self._most_bytes = most_bytes
        self._read_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, or all; none at the end.

        Raises:
            FileUnreadable: (UNAVAIL) the disk does not give them, or there are more than such a file has.
        """
        try:
            piece = self._file.read(size)
        except OSError as err:
            raise _unreadable(self.name, err) from err
        self._read_bytes += len(piece)
        if self._read_bytes > self._most_bytes:
            raise _too_large(self.name, self._most_bytes)  # it grows
        return piece

    def status(self) -> os.stat_result:
        """Return what the kernel says of it."""
        return os.fstat(self._file.fileno())


class Folder:
    """A directory that is held open: whatever its name becomes, its files are those below it. A context manager that closes it."""

    def __init__(self, path: str, descriptor: int, levels: int = 0) -> None:
        """Take an open directory, the path by which it is spoken of, and how far it is below the one that the operator named."""
        self.path = path
        self._descriptor = descriptor
        self._levels = levels

    @classmethod
    def open(cls, path: str) -> Folder:
        """Open a directory by the name that the operator gave, which may lead through links.

        Raises:
            FileUnreadable: (UNAVAIL) there is none, no permission.
        """
        try:
            return cls(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as err:
            raise _unreadable(path, err) from err

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def handle(self) -> str:
        """A name under which the directory is found whatever its own name becomes."""
        return f"/proc/self/fd/{self._descriptor}"

    @property
    def owner(self) -> int:
        """The user whose it is."""
        return os.fstat(self._descriptor).st_uid

    def list(self) -> tuple[list[str], list[str]]:
        """Return the names of the directories in it and of the files, but for those that are being written.

        Raises:
            NoStackFile: (UNAVAIL) something else is there.
            FileUnreadable: (UNAVAIL) no permission.
        """
        directories, files = [], []
        try:
            with os.scandir(self._descriptor) as found:
                for entry in found:
                    if durable.is_unfinished(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(entry.name)
                    elif entry.is_file(follow_symlinks=False):
                        files.append(entry.name)
                    else:
                        raise no_file(os.path.join(self.path, entry.name))
        except OSError as err:
            raise _unreadable(self.path, err) from err
        return sorted(directories), sorted(files)

    def below(self, name: str) -> Folder | None:
        """Open a directory in it; none when there is none.

        Raises:
            NoStackFile: (UNAVAIL) something else has that name, or it is nested too deep.
            FileUnreadable: (UNAVAIL) no permission.
        """
        path = os.path.join(self.path, name)
        if self._levels >= _MOST_LEVELS:
            raise NoStackFile(
                f"directories are nested {_MOST_LEVELS} deep, which none of a stack's are",
                place=Place(path),
                remedy="remove what is there",
            )
        try:
            return Folder(path, os.open(name, _FLAGS | os.O_DIRECTORY, dir_fd=self._descriptor), self._levels + 1)
        except FileNotFoundError:
            return None
        except OSError as err:
            raise _unreadable(path, err) from err

    def find(self, path: str, most_bytes: int = _FILE_BYTES) -> StackFile | None:
        """Open a file below it, by a path with slashes; none when there is none.

        Args:
            path: of the file.
            most_bytes: how many it can have. A hole of any size costs whoever lays it nothing, and whoever copies it a disk.

        Raises:
            NoStackFile: (UNAVAIL) something else has that name.
            FileUnreadable: (UNAVAIL) no permission, or it has more bytes.
        """
        first, _, rest = path.partition("/")
        if rest:
            below = self.below(first)
            if below is None:
                return None
            with below:
                return below.find(rest, most_bytes)
        full = os.path.join(self.path, path)
        try:
            file = open(full, "rb", opener=lambda _, flags: os.open(path, flags | _FLAGS, dir_fd=self._descriptor))  # noqa: SIM115
        except FileNotFoundError:
            return None
        except OSError as err:
            raise _unreadable(full, err) from err
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            file.close()
            raise no_file(full)
        if found.st_size > most_bytes:
            file.close()
            raise _too_large(full, most_bytes)
        return StackFile(full, file, most_bytes)

    def make_file(self, name: str) -> None:
        """Make an empty file, if nothing has that name. It is of the directory's owner, who has to use what root leaves there.

        Raises:
            FileUnwritable: (UNAVAIL) no space, no permission.
        """
        try:
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._descriptor)
        except FileExistsError:
            return
        except OSError as err:
            raise FileUnwritable(f"cannot make the file: {err.strerror}", place=Place(os.path.join(self.path, name))) from err
        try:
            with contextlib.suppress(PermissionError):  # of neither root nor the owner
                os.fchown(file, self.owner, -1)
        finally:
            os.close(file)

    def is_still(self, name: str, file: StackFile) -> bool:
        """Tell whether an open file of it has that name."""
        try:
            return os.path.samestat(file.status(), os.stat(name, dir_fd=self._descriptor, follow_symlinks=False))
        except FileNotFoundError:
            return False
        except OSError as err:
            raise _unreadable(os.path.join(self.path, name), err) from err


def copy_file(source: Folder, path: str, target: str, most_bytes: int = _FILE_BYTES) -> bool:
    """Copy a file that has at most so many bytes; tell whether it was there.

    Raises:
        SigkitError: as `Folder.find`.
        OSError: the copy cannot be written.
    """
    file = source.find(path, most_bytes)
    if file is None:
        return False
    with file, open_copy(file, target) as copy:
        copy_bytes(file, copy)
    return True


def copy_part(source: Folder, path: str, target: str) -> None:
    """Copy a file without which the stack is not served.

    Raises:
        FileUnreadable: (UNAVAIL) it is not there.
        SigkitError: as `Folder.find`.
        OSError: the copy cannot be written.
    """
    if not copy_file(source, path, target):
        raise absent(source, path)


def copy_content(source: Folder, path: str, target: str, digest: Digest) -> bool:
    """Copy a file that is named by its digest, and prove that it is; tell whether it was there.

    Raises:
        DigestMismatch: (DIGEST) the original is damaged.
        SigkitError: as `Folder.find`.
        OSError: the copy cannot be written.
    """
    file = source.find(path, limits.ServedLimits().blob_bytes)
    if file is None:
        return False
    found = hashlib.new(digest.algorithm, usedforsecurity=True)
    with file, open_copy(file, target) as copy:
        while piece := file.read(_PIECE_BYTES):
            found.update(piece)
            copy.write(piece)
    if found.digest() != digest.value:
        raise DigestMismatch(
            "what the registry keeps is damaged",
            place=Place(os.path.join(source.path, path)),
            expected=str(digest),
            got=f"{digest.algorithm}:{found.hexdigest()}",
            remedy="put the file of an older backup in its place; without one remove it, and push the image again",
        )
    return True


def copy_tree(source: Folder, target: str, but: Collection[str] = ()) -> None:
    """Copy all files below a directory that are not in the copy yet; what goes away meanwhile is passed over.

    Args:
        source: of the stack.
        target: made if it is absent.
        but: names in `source` itself that are not copied.

    Raises:
        SigkitError: as `Folder.list` and `Folder.find`.
        OSError: the copy cannot be written.
    """
    make_directory(target)
    directories, files = source.list()
    for name in files:
        if name not in but and not os.path.exists(os.path.join(target, name)):
            copy_file(source, name, os.path.join(target, name))
    for name in directories:
        with contextlib.ExitStack() as stack:
            if name not in but and (below := source.below(name)) is not None:
                copy_tree(stack.enter_context(below), os.path.join(target, name))


def make_directory(path: str) -> None:
    """Make a directory of a copy and those above it, each for its owner alone.

    Raises:
        OSError: it cannot be made, or a file is there.
    """
    if not os.path.isdir(path):
        make_directory(os.path.dirname(path))
        os.mkdir(path, 0o700)  # `os.makedirs` gives its mode to the last one only


def copy_bytes(file: StackFile, copy: IO[bytes]) -> None:
    """Copy what is left of a file.

    Raises:
        FileUnreadable: (UNAVAIL) the disk does not give it.
        OSError: the copy cannot be written.
    """
    shutil.copyfileobj(file, copy, _PIECE_BYTES)


def open_copy(file: StackFile, target: str) -> IO[bytes]:
    """Open the copy of a file, which only those may read who may read the file."""
    mode = file.status().st_mode & 0o777
    return open(target, "wb", opener=lambda path, flags: os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode))


def _unreadable(path: str, err: OSError) -> FileUnreadable | NoStackFile:
    # Of a link, O_NOFOLLOW says ELOOP, and with O_DIRECTORY ENOTDIR; of a socket, opening says ENXIO.
    if err.errno in {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO}:
        return no_file(path)
    return FileUnreadable(f"cannot read: {err.strerror or err}", place=Place(path))


def _too_large(path: str, most_bytes: int) -> FileUnreadable:
    problem = f"it has more than the {human_size(most_bytes)} that such a file of a stack can have"
    return FileUnreadable(problem, place=Place(path), remedy="look what it is; if it is none of the stack's, put it elsewhere")


def absent(source: Folder, path: str) -> FileUnreadable:
    """Return the refusal of a stack that has lost a file or a directory."""
    return FileUnreadable(
        "a part of the stack is not there", place=Place(os.path.join(source.path, path)), remedy="restore it from a backup: docs/stack.md"
    )


def no_file(path: str) -> NoStackFile:
    """Return the refusal of what stands where a file or a directory must be."""
    return NoStackFile(
        "a link, or nothing that can be copied, stands where a file or a directory of the stack must be",
        place=Place(path),
        remedy="put the file or the directory itself there, or remove what is there",
    )
