"""A copy of a stack, taken while it runs, from which it can be served again.

Each service's files are copied in the order that its own rules make safe: those that point come before those that are pointed to, so the
copy holds whatever it names. Each log is copied until its journal was not begun anew in between, opened, and every file of it proved to be
of the tree that it signed last.

The keys in offline/ are not in it, nor are they anywhere that this process reads.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from sigkit import durable
from sigkit.data import Data
from sigkit.errors import FileUnreadable, FileUnwritable, Place, StackExists
from sigkit.services import issuer_list
from sigkit.services.stack import cores, layout
from sigkit.services.stack.beside import beside, put
from sigkit.services.stack.layout import BACKUP, CLIENTS, CONFIG, LOCK, LOG_STATE
from sigkit.strict import encode_base64, encode_json
from sigkit.text import format_time, human_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigkit.clock import Clock
    from sigkit.strict import Json

_SCHEMA: Final = "sigkit.stack.backup/1"
_ROUNDS: Final = 100  # a log that takes 1,500 entries a second files every 0.7 s; a round takes less once the first is over
_SQLITE: Final = b"SQLite format 3\0"
_PASSING: Final = (LOCK, "uploads")  # of no meaning in a copy


class Backup(Data):
    """A backup that was made."""

    directory: str
    log_size: int  # entries in the copy
    log_root: str  # their root hash, base64
    size_bytes: int


def _untold(step: str) -> None:
    """Tell nobody what is done next."""


def make_backup(directory: str, into: str, clock: Clock, told: Callable[[str], None] = _untold) -> Backup:
    """Copy the stack in `directory` to `into`, which is absent or empty; the stack may run.

    Args:
        directory: of the stack.
        into: where the copy goes.
        clock: this machine's.
        told: what is done next, in words, for it can take long.

    Raises:
        StackExists: (UNAVAIL) something is there.
        NoStack, OtherStackVersion: (UNAVAIL) see `layout.load_config`.
        FileUnreadable, FileUnwritable: (UNAVAIL) no space, no permission; nothing is left.
        SigkitError: (TLOG) the log is damaged.
    """
    directory, into = os.path.abspath(directory), os.path.abspath(into)
    config = layout.load_config(directory)
    if os.path.isdir(into) and os.listdir(into):
        raise StackExists("the directory is not empty", place=Place.operator(into), remedy="name a new directory")
    if into == directory or into.startswith(directory + os.sep):
        raise StackExists("a backup inside the stack's own directory", place=Place.operator(into), remedy="name another directory")
    told(f"copying  {human_size(size_of(directory))}")
    with beside(into) as built:
        try:
            _copy_services(directory, built)
        except OSError as err:
            raise FileUnwritable(f"cannot copy: {err.strerror or err}", place=Place(str(err.filename2 or err.filename or into))) from err
        told("checking that the copy of each log is whole")
        with cores.opened_log(built) as log, cores.opened_certificate_log(built, clock) as certificates:
            for tiles in (log, certificates.tiles):
                tiles.check()
            head = log.head()
        root = encode_base64(head.root)
        document: Json = {"schema": _SCHEMA, "made": format_time(clock.now()), "logSize": head.size, "logRoot": root}
        durable.write(os.path.join(built, BACKUP), encode_json(document) + b"\n")
        _copy_file(os.path.join(directory, issuer_list.FILE), os.path.join(built, issuer_list.FILE))
        durable.write(os.path.join(built, CONFIG), config.encode())
        size_bytes = size_of(built)
        put(built, into)
    return Backup(into, head.size, root, size_bytes)


def _copy_services(directory: str, built: str) -> None:
    for name in ("ca", "tsa", "oidc", CLIENTS):
        _copy_tree(os.path.join(directory, name), os.path.join(built, name))
    tuf = os.path.join(directory, "tuf")
    with contextlib.ExitStack() as stack:
        # While this lock is held nothing is signed again. Where it is absent and cannot be made, nobody else makes it either.
        if os.access(tuf, os.W_OK) or os.path.lexists(os.path.join(tuf, LOCK)):
            stack.enter_context(durable.lock(os.path.join(tuf, LOCK)))
        _copy_tree(tuf, os.path.join(built, "tuf"))
    for name in ("ct", "log"):
        source, target = os.path.join(directory, name), os.path.join(built, name)
        os.makedirs(target, mode=0o700)
        for file in sorted(os.listdir(source)):
            if file != LOG_STATE:
                _copy_file(os.path.join(source, file), os.path.join(target, file))
        _copy_log(os.path.join(source, LOG_STATE), os.path.join(target, LOG_STATE))
    _copy_registry(os.path.join(directory, "registry"), os.path.join(built, "registry"))


def _copy_log(source: str, target: str) -> None:
    """Copy the tiles and the journal that goes with them.

    A tile is filed after its entries are in the journal, and before the journal begins anew. So the journal is read after the tiles: it has
    the entries of each that was copied. If it is still the file that it was before them, each that it does not have was filed by then. The
    index is not copied: it is made anew from the entries.
    """
    os.makedirs(target, mode=0o700, exist_ok=True)
    _copy_file(os.path.join(source, "version"), os.path.join(target, "version"))
    journal = os.path.join(source, "journal")
    for _ in range(_ROUNDS):
        with open(journal, "rb") as held:  # held open, so that no other file can have its number
            _copy_tree(os.path.join(source, "tile"), os.path.join(target, "tile"))
            with open(os.path.join(target, "journal"), "wb", opener=_private) as copy:
                shutil.copyfileobj(held, copy, 1 << 20)
            if os.path.samestat(os.fstat(held.fileno()), os.stat(journal)):
                return
    raise FileUnreadable(
        "the log is filed faster than it can be copied", place=Place(source), remedy="run it again when the log is less busy"
    )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _copy_registry(source: str, target: str) -> None:
    """Copy names before what they name: whatever was put in between is in the copy without a name, and nothing that is named is missing."""
    repositories = os.path.join(source, "repositories")
    for part in ("_tags", "_referrers", "_manifests", "_blobs"):
        for directory, below, _ in os.walk(repositories):
            if part in below:
                _copy_tree(os.path.join(directory, part), os.path.join(target, os.path.relpath(os.path.join(directory, part), source)))
            below[:] = [name for name in below if not name.startswith("_")]
    _copy_tree(source, target)


def _copy_tree(source: str, target: str) -> None:
    """Copy files that are not there yet, databases whole; what is being written, and what went away meanwhile, is passed over."""
    os.makedirs(target, mode=0o700, exist_ok=True)
    for directory, below, files in os.walk(source):
        there = os.path.normpath(os.path.join(target, os.path.relpath(directory, source)))
        below[:] = [name for name in below if name not in _PASSING]
        for name in below:
            os.makedirs(os.path.join(there, name), mode=0o700, exist_ok=True)
        for name in files:
            passing = name.startswith(".") or name in _PASSING or name.endswith(("-wal", "-shm"))
            if not passing and not os.path.exists(os.path.join(there, name)):
                _copy_file(os.path.join(directory, name), os.path.join(there, name))


def _copy_file(source: str, target: str) -> None:
    try:
        with open(source, "rb") as file:
            if file.read(len(_SQLITE)) == _SQLITE:
                _copy_database(source, target)
                return
            file.seek(0)
            mode = os.fstat(file.fileno()).st_mode & 0o777
            with open(target, "wb", opener=lambda path, flags: os.open(path, flags | os.O_CLOEXEC, mode)) as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
    except FileNotFoundError:
        if os.path.lexists(source):
            raise


def _copy_database(source: str, target: str) -> None:
    import sqlite3

    try:
        # A database in WAL mode wants to write beside itself; where nothing can be written, nobody else writes it either.
        still = not os.access(os.path.dirname(source), os.W_OK) and not os.path.exists(f"{source}-wal")
        address = f"file:{quote(source)}" + ("?immutable=1" if still else "")
        opened = sqlite3.connect(address, timeout=30, uri=True)
        with contextlib.closing(opened) as there, contextlib.closing(sqlite3.connect(target)) as here:
            there.backup(here)
        os.chmod(target, 0o600)
    except sqlite3.Error as err:
        raise FileUnreadable(f"cannot copy the database: {err}", place=Place(source)) from err


def size_of(directory: str) -> int:
    """Return how many bytes all files below a directory have."""
    total = 0
    for path, _, files in os.walk(directory):
        for name in files:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except FileNotFoundError:
                pass
    return total
