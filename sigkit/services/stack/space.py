"""Space on a stack's disk: how much is left, and which failures are for want of it.

A stack whose disk is full answers nothing that it cannot keep. Nothing of it is damaged then, so there is nothing to restore.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
from typing import TYPE_CHECKING, Final

from sigkit.errors import DatabaseUnusable, FileUnreadable, Place, SigkitError
from sigkit.text import escape, human_size

if TYPE_CHECKING:
    from collections.abc import Iterator

LOW_BYTES: Final = 256 * 2**20  # a log that takes 1,500 entries a second fills as much in some minutes, and one push may
FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_SQLITE_FULL: Final = 13  # sqlite.org/rescode.html
_NOTHING_BYTES: Final = 64 * 2**10  # SQLite's files beside a database begin with 32 KiB


def free_bytes(directory: str) -> int:
    """Return how much any user may still write on the disk that a directory is on.

    Raises:
        FileUnreadable: (UNAVAIL) it has gone, or the disk does not answer.
    """
    try:
        return shutil.disk_usage(directory).free
    except OSError as err:
        raise FileUnreadable(f"cannot look at the disk: {err.strerror or err}", place=Place.operator(directory)) from err


def low_space(directory: str) -> str | None:
    """Return what its operator should know of the disk that a directory is on, where it has little space left.

    Raises:
        FileUnreadable: (UNAVAIL) as `free_bytes`.
    """
    free = free_bytes(directory)
    if free >= LOW_BYTES:
        return None
    return f"only {human_size(free)} are free on the disk of {escape(directory)}: without space the stack takes no entry and no image"


@contextlib.contextmanager
def full_disk_told() -> Iterator[None]:
    """Let a refusal whose cause is a full disk, or a quota that is used up, advise to free space and nothing else.

    Raises:
        SigkitError: as the block.
    """
    try:
        yield
    except SigkitError as err:
        if is_full(err):
            err.remedy = f"free some space on that disk, and run it again (df -h {shlex.quote(_directory_of(err))}); nothing is damaged"
        raise


def causes(err: BaseException) -> Iterator[BaseException]:
    """Give an error, what it was raised from, and so on. What is raised from itself, for its place was added to, is its own cause."""
    seen: list[BaseException] = []
    cause: BaseException | None = err
    while cause is not None and cause not in seen:
        seen.append(cause)
        yield cause
        cause = cause.__cause__


def is_full(err: SigkitError) -> bool:
    """Tell whether what failed did so for want of space."""
    for cause in causes(err):
        if (isinstance(cause, OSError) and cause.errno in FULL) or getattr(cause, "sqlite_errorcode", 0) == _SQLITE_FULL:
            return True
    # SQLite has other words for it too where a file beside the database cannot be made.
    return isinstance(err, DatabaseUnusable) and shutil.disk_usage(_directory_of(err)).free < _NOTHING_BYTES


def _directory_of(err: SigkitError) -> str:
    """Return the nearest directory that is there of where something could not be written."""
    path = os.path.abspath(err.place.source)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path
