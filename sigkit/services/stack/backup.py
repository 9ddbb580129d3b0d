"""A copy of a stack, taken while it runs, from which it can be served again.

Each service's files are copied in the order that its own rules make safe: those that point come before those that are pointed to. Each log
is copied until its journal was not begun anew in between, opened, and every file of it proved to be of the tree that it signed last.

No database is copied: the log's index is made anew from its entries, and logins last for minutes.

The keys in offline/ are not in it, nor are they anywhere that this process reads.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sigkit import durable
from sigkit.data import Data
from sigkit.errors import DatabaseUnusable, FileUnreadable, FileUnwritable, LockTimeout, Place, SigkitError, StackExists
from sigkit.services import issuer_list
from sigkit.services.log.layout import JOURNAL
from sigkit.services.stack import cores, layout
from sigkit.services.stack.beside import beside, names_at, not_empty, put
from sigkit.services.stack.clients import open_repository
from sigkit.services.stack.copying import JOURNAL_BYTES, Folder, absent, copy_bytes, copy_part, copy_tree, make_directory, open_copy
from sigkit.services.stack.images import copy_registry
from sigkit.services.stack.keys import find_bad_keys
from sigkit.services.stack.layout import BACKUP, CLIENTS, CONFIG, LOCK, LOG_STATE
from sigkit.strict import encode_base64, encode_json
from sigkit.text import format_time, human_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sigkit.clock import Clock
    from sigkit.services.log.head import Head
    from sigkit.services.stack.layout import StackConfig
    from sigkit.strict import Json

_SCHEMA: Final = "sigkit.stack.backup/1"
_ROUNDS: Final = 100  # a log that takes 1,500 entries a second files every 0.7 s; a round takes less once the first is over
# Of `services/logins.py`: ten minutes after the backup none of them counts, and none may be answered in two places.
_LOGINS: Final = ("logins.db", "logins.db-wal", "logins.db-shm", "logins.db-journal")


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
        FileUnreadable, FileUnwritable: (UNAVAIL) no space, no permission, a file without which it is not served, a place that is not
            safe; nothing is left.
        NoStackFile: (UNAVAIL) a link stands where a file must be.
        DigestMismatch: (DIGEST) something that the registry keeps is damaged.
        SigkitError: (TLOG) the log is damaged.
    """
    directory, into = os.path.abspath(directory), os.path.abspath(into)
    config = layout.load_config(directory)
    if there := names_at(into):
        raise not_empty(into, there)
    final, original = os.path.realpath(into), os.path.realpath(directory)
    if final == original or final.startswith(original + os.sep):
        raise StackExists("a backup inside the stack's own directory", place=Place.operator(into), remedy="name another directory")
    with Folder.open(directory) as source:
        _check_place(final, source.owner)
        told(f"copying  {human_size(size_of(directory))}")
        with beside(final) as built, _named(built, directory, final):
            try:
                _copy_services(source, built)
                copy_part(source, issuer_list.FILE, os.path.join(built, issuer_list.FILE))
            except OSError as err:
                where = Place(str(err.filename2 or err.filename or built))
                raise FileUnwritable(f"cannot copy: {err.strerror or err}", place=where) from err
            told("checking that the copy of each log is whole")
            head = _check(built, config, clock)
            root = encode_base64(head.root)
            document: Json = {"schema": _SCHEMA, "made": format_time(clock.now()), "logSize": head.size, "logRoot": root}
            durable.write(os.path.join(built, BACKUP), encode_json(document) + b"\n")
            durable.write(os.path.join(built, CONFIG), config.encode())
            size_bytes = size_of(built)
            put(built, final)
    return Backup(into, head.size, root, size_bytes)


def _check_place(final: str, owner: int) -> None:
    """Refuse a place where the account that a stack belongs to could lay a link for a directory that root is filling.

    Where everybody may write, but not rename what is another's (as in /tmp), it cannot. Lists of who else may write are not read: wherever
    they let somebody, the group's bits do.

    Raises:
        FileUnwritable: (UNAVAIL) it could.
    """
    if owner == os.geteuid():
        return
    for above in Path(final).parents:
        try:
            found = above.lstat()
        except FileNotFoundError:
            continue
        if found.st_uid == owner or (found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX):
            raise FileUnwritable(
                "whoever the stack belongs to could lay a link there for what is being written",
                place=Place.operator(str(above)),
                expected="directories that only their owner may write in, and none of this stack's",
                remedy="name another place, or run it as the stack's owner",
            )


@contextlib.contextmanager
def _named(built: str, directory: str, final: str) -> Iterator[None]:
    """Let a refusal that names a file of the unfinished copy, which is gone when it is read, name the one that is to be looked at.

    Raises:
        SigkitError: as the block. What could not be written is the copy's; what is damaged or absent is so in the stack.
    """
    try:
        yield
    except SigkitError as err:
        path = err.place.source
        if path == built or path.startswith(built + os.sep):
            named = final if isinstance(err, (FileUnwritable, DatabaseUnusable)) else directory
            err.place = Place(named + path.removeprefix(built), err.place.inside, err.place.owner)
        raise


def _check(built: str, config: StackConfig, clock: Clock) -> Head:
    """Return the copy's newest tree, after each file of its logs was proved, and what else is read when it is served was found.

    Raises:
        SigkitError: something is damaged or absent.
    """
    with layout.whole():
        open_repository(built).expiries()  # before the keys: it names them
        for bad in find_bad_keys(built, config):
            raise bad
    with cores.opened_log(built) as log, cores.opened_certificate_log(built, clock) as certificates:
        for tiles in (log, certificates.tiles):
            tiles.check()
        return log.head()


def _copy_services(source: Folder, built: str) -> None:
    for name, but in ((CLIENTS, ()), ("ca", ()), ("tsa", ()), ("oidc", _LOGINS)):
        with _part(source, name) as part:
            copy_tree(part, os.path.join(built, name), but)
    with _part(source, "tuf") as part, _unsigned(part):
        copy_tree(part, os.path.join(built, "tuf"), (LOCK,))
    for name in ("ct", "log"):
        target = os.path.join(built, name)
        with _part(source, name) as part, _part(part, LOG_STATE) as state:
            copy_tree(part, target, (LOG_STATE,))
            _copy_log(state, os.path.join(target, LOG_STATE))
    with _part(source, "registry") as part:
        copy_registry(part, os.path.join(built, "registry"))


def _part(source: Folder, name: str) -> Folder:
    found = source.below(name)
    if found is None:
        raise absent(source, name)
    return found


@contextlib.contextmanager
def _unsigned(tuf: Folder) -> Iterator[None]:
    """Let nothing of TUF be signed again until the block ends."""
    lock = os.path.join(tuf.handle, LOCK)
    with contextlib.ExitStack() as stack:
        # Where the lock is absent and cannot be made, nobody else makes it either.
        if os.access(tuf.handle, os.W_OK) or os.path.lexists(lock):
            try:
                tuf.make_file(LOCK)
                stack.enter_context(durable.lock(lock))
            except (FileUnwritable, LockTimeout) as err:
                err.place = Place(os.path.join(tuf.path, LOCK))
                raise
        yield


def _copy_log(source: Folder, target: str) -> None:
    """Copy the tiles and the journal that goes with them.

    A tile is filed after its entries are in the journal, and before the journal begins anew. So the journal is read after the tiles: it has
    the entries of each that was copied. If it is still the file that it was before them, each that it does not have was filed by then. The
    index is not copied: it is made anew from the entries.
    """
    make_directory(target)
    copy_part(source, "version", os.path.join(target, "version"))
    for _ in range(_ROUNDS):
        journal = source.find(JOURNAL, JOURNAL_BYTES)
        if journal is None:
            raise absent(source, JOURNAL)
        with journal:  # held open, so that no other file can have its number
            tiles = source.below("tile")
            if tiles is not None:
                with tiles:
                    copy_tree(tiles, os.path.join(target, "tile"))
            with open_copy(journal, os.path.join(target, JOURNAL)) as copy:
                copy_bytes(journal, copy)
            if source.is_still(JOURNAL, journal):
                return
    raise FileUnreadable(
        "the log is filed faster than it can be copied", place=Place(source.path), remedy="run it again when the log is less busy"
    )


def size_of(directory: str) -> int:
    """Return how many bytes all files below a directory have, however deep; what cannot be looked at counts nothing."""
    total, waiting = 0, [directory]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        total += entry.stat(follow_symlinks=False).st_size
    return total
