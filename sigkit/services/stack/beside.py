"""Whole directories: built beside their names, and renamed when they are whole and durable.

A process that is killed leaves a directory `.NAME.new-…` beside, which nobody has ever used: the next one that makes the same removes it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
from typing import TYPE_CHECKING

from sigkit import durable
from sigkit.errors import FileUnwritable, LockTimeout, Place, StackExists
from sigkit.services.stack import layout
from sigkit.services.stack.layout import LOCK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def names_at(final: str) -> list[str]:
    """Return what is in the directory whose place a new one is to take; nothing where there is none.

    Raises:
        StackExists: (UNAVAIL) it is no directory, or cannot be looked into.
    """
    try:
        return os.listdir(final)
    except FileNotFoundError:
        return []
    except OSError as err:
        place = Place.operator(final)
        raise StackExists(f"something else is there: {err.strerror}", place=place, remedy="name a new directory") from err


def not_empty(final: str, found: Iterable[str]) -> StackExists:
    """Return the refusal of a directory that has something in it."""
    got = ", ".join(sorted(found))[:200]
    return StackExists("the directory is not empty", place=Place.operator(final), got=got, remedy="name a new directory")


@contextlib.contextmanager
def beside(final: str) -> Iterator[str]:
    """Give a new directory beside `final`, which is removed at the end if it still has its own name."""
    parent, name = os.path.split(final)
    prefix = f".{name[:100]}.new-"
    try:
        durable.make_directory(parent, 0o777)
        _remove_left(parent, prefix)
    except FileUnwritable as err:
        err.place = Place.operator(err.place.source)
        raise
    except OSError as err:
        raise FileUnwritable(f"cannot write there: {err.strerror}", place=Place.operator(parent)) from err
    built = os.path.join(parent, prefix + secrets.token_hex(6))
    layout.make_directory(built)
    try:
        # The stack's own lock: it is renamed with the directory, so nobody can serve what is not yet whole.
        with durable.lock(os.path.join(built, LOCK), timeout_s=0):
            yield built
    finally:
        shutil.rmtree(built, ignore_errors=True)


def _remove_left(parent: str, prefix: str) -> None:
    """Remove what a process that was killed left; one that still works on it holds its lock."""
    for name in os.listdir(parent):
        path = os.path.join(parent, name)
        if name.startswith(prefix):
            with contextlib.suppress(LockTimeout, FileUnwritable), _own(path) as found, durable.lock(f"{found}/{LOCK}", timeout_s=0):
                shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _own(path: str) -> Iterator[str]:
    """Open a directory of this user's own, and give a name under which it is found whatever its own name becomes.

    Where everybody may write, another user's link or directory can have such a name: nothing is made nor removed there.

    Raises:
        FileUnwritable: (UNAVAIL) it is none.
    """
    place = Place(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as err:
        raise FileUnwritable(f"no directory: {err.strerror}", place=place) from err
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise FileUnwritable("another user's directory", place=place)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def put(built: str, final: str) -> None:
    """Give a finished directory its name, durably.

    Raises:
        FileUnwritable: (UNAVAIL) no space, no permission. Where only the last sync failed it has its name: to take that away again would be
            no more durable, and the message says so.
    """
    place = Place.operator(final)
    try:
        for directory, _, files in os.walk(built):
            for file in files:
                _sync(os.path.join(directory, file))
            durable.sync_directory(directory)
        durable.failpoint("stack.rename")
        os.rename(built, final)  # over an empty directory too, and over nothing else
    except OSError as err:
        raise FileUnwritable(f"cannot put the stack in place: {err.strerror}", place=place) from err
    try:
        durable.failpoint("stack.directory")
        durable.sync_directory(os.path.dirname(final))
    except OSError as err:
        problem = f"the directory is in its place and whole, but the next power cut may take it: {err.strerror}"
        remedy = f"look at the disk; if it is still there, rm -r {shlex.quote(final)}, for nobody has used it, and do the same again"
        raise FileUnwritable(problem, place=place, remedy=remedy) from err


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
