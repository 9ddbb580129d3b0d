"""The last checkpoint of each log that was seen on this machine, so that a log that forks or shrinks is noticed.

A log is known by the first line of its checkpoints and its key; one of the first generation has several trees, each with a number behind
the log's name, and each is followed for itself. Whoever shows a numbered tree under a name that had none, or the other way, shows a fork: a
number alone must not make a log a new one. What was seen is replaced only by what continues it, under a lock, durably,
before anybody is answered; what contradicts it is kept beside it, because the two checkpoints together prove the log's fault.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from sigkit import durable, limits, strict
from sigkit.data import Data
from sigkit.errors import BadConsistencyProof, FileUnreadable, FileUnwritable, LogForked, LogRolledBack, Place, SigkitError, UnavailError
from sigkit.tlog.known import verify_head
from sigkit.tlog.proof import verify_consistency

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sigkit.tlog.checkpoint import Checkpoint
    from sigkit.tlog.known import KnownLog

VARIABLE: Final = "SIGKIT_CHECKPOINTS"
_TREE: Final = re.compile("[0-9a-f]{64}(?:-[0-9a-f]{16})?", re.ASCII)


class Seen(Enum):
    """How a checkpoint stands to the one before."""

    FIRST = "first"
    SAME = "same"
    GROWN = "grown"


class Observed(Data):
    """What was found: how the checkpoint stands to the one seen before, how many leaves that had, and how many other trees the log has."""

    seen: Seen
    before: int
    other_trees: int = 0


def default_directory() -> str | None:
    """Return where checkpoints are kept; None without a home."""
    return durable.state_directory("checkpoints", VARIABLE)


class Remembered(Data):
    """A checkpoint that was seen: its file, and its first two lines; "" if it cannot be read."""

    path: str
    origin: str
    size: str


class GrowthReader(Protocol):
    """What of a log is asked while its checkpoint is compared."""

    def fetch_checkpoint(self) -> str:
        """Return the newest checkpoint, a signed note."""
        ...

    def fetch_growth(self, old: int, new: Checkpoint) -> Sequence[bytes]:
        """Return the proof that a tree continues that of `old` leaves."""
        ...


class Monitor:
    """Remembers checkpoints in a directory, which is made when the first is seen."""

    def __init__(self, directory: str) -> None:
        """Keep checkpoints in `directory`."""
        self._directory = directory

    def observe(self, note: str, log: KnownLog, reader: GrowthReader, place: Place) -> Observed:
        """Compare a checkpoint with the last one seen of its log, and remember it if it continues that.

        Args:
            note: the checkpoint, signed.
            log: whose it is; its key is asked of both.
            reader: of the log: for the proof that it grew, and for its newest checkpoint where another process has seen more meanwhile.
            place: where the checkpoint came from.

        Raises:
            LogForked: (TLOG) it contradicts what was seen.
            LogRolledBack: (TLOG) its tree is smaller.
            CheckpointNotSigned, MalformedCheckpoint: (TLOG) it is not the log's.
            FileUnreadable: (UNAVAIL) what was seen before cannot be read, or is damaged.
            FileUnwritable, LockTimeout: (UNAVAIL) what was seen cannot be kept, so it was not compared.
        """
        new = verify_head(note, log, place)
        durable.make_directory(self._directory, 0o700)
        family, number = _names(new, log)
        path = os.path.join(self._directory, family + number)
        with durable.lock(os.path.join(self._directory, f"{family}.lock")):
            old = self._load(path, log)
            if old is not None and new.size < old.size:
                note, new = self._ask_again(path, old, new, note, log, reader, place)
            if old is not None:
                observed = self._compare(path, old, new, note, reader, place)
            else:
                observed = Observed(Seen.FIRST, 0, self._count_others(family, number, note, new, place))
            if observed.seen is not Seen.SAME:
                durable.write(path, note.encode("utf-8"), mode=0o600, point="monitor.checkpoint")
            return observed

    def remembered(self) -> tuple[Remembered, ...]:
        """Return what was seen last of each log. A file that cannot be read is among them: it can be forgotten, too.

        Raises:
            FileUnreadable: (UNAVAIL) the directory.
        """
        try:
            names = sorted(name for name in os.listdir(self._directory) if _TREE.fullmatch(name))
        except FileNotFoundError:
            return ()
        except OSError as err:
            raise FileUnreadable(f"cannot list the checkpoints: {err.strerror}", place=Place(self._directory)) from err
        return tuple(_remembered(os.path.join(self._directory, name)) for name in names)

    def forget(self, path: str) -> str:
        """Let the next checkpoint of a log be the first again, and return where what was seen is kept: it may still prove a fault.

        Raises:
            FileUnwritable, LockTimeout: (UNAVAIL) it is not there, or cannot be put away.
        """
        family = os.path.basename(path)[:64]
        with durable.lock(os.path.join(self._directory, f"{family}.lock")):
            try:
                kept = f"{path}.forgotten-{os.lstat(path).st_mtime_ns:x}"
                os.rename(path, kept)
                durable.sync_directory(self._directory)
            except OSError as err:
                raise FileUnwritable(f"cannot put the checkpoint away: {err.strerror}", place=Place(path)) from err
        return kept

    def _load(self, path: str, log: KnownLog) -> Checkpoint | None:
        if not os.path.lexists(path):
            return None
        place = Place(path)
        try:
            return verify_head(strict.decode_utf8(durable.read(path, most_bytes=limits.NOTE_BYTES, place=place), place), log, place)
        except UnavailError:
            raise
        except SigkitError as err:  # the log signed what was kept: whatever is wrong with it now was done on this machine
            raise FileUnreadable(
                "the checkpoint that is remembered here is damaged",
                place=place,
                expected="what the log signed",
                got=err.problem,
                remedy=f"let the log's next checkpoint count as the first: sigkit log forget {shlex.quote(path)}",
            ) from err

    def _count_others(self, family: str, number: str, note: str, new: Checkpoint, place: Place) -> int:
        """Return how many other trees of a log were seen; a log has either one without a number, or any that have one."""
        others = [name for name in os.listdir(self._directory) if _TREE.fullmatch(name) and name.startswith(family)]
        if others and (not number or family in others):
            kept = self._keep(os.path.join(self._directory, others[0]), note)
            raise LogForked(
                f"the log shows another tree under the same name and key; what it shows is kept, in {kept}",
                place=place,
                expected="the tree that was seen before",
                got=new.origin[:200],
                remedy=_forget(os.path.join(self._directory, others[0])),
            )
        return len(others)

    def _ask_again(
        self, path: str, old: Checkpoint, late: Checkpoint, note: str, log: KnownLog, reader: GrowthReader, place: Place
    ) -> tuple[str, Checkpoint]:
        """Return what the log shows now, under the lock: a checkpoint fetched before it may be late, which is no rollback.

        What is late must be the beginning of what is shown now, or a log could show one tree first and another when asked again.
        """
        newest = reader.fetch_checkpoint()
        new = verify_head(newest, log, place)
        if _names(new, log) != _names(late, log) or new.size < old.size:
            return note, late
        try:
            hashes = reader.fetch_growth(late.size, new) if late.size else ()
            verify_consistency(late.size, late.root, new.size, new.root, hashes, place)
        except BadConsistencyProof as err:
            message = f"the log's tree does not continue the one that it showed before; it is kept, in {self._keep(path, note)}"
            got = f"{new.size} leaves, {new.root.hex()}"
            raise LogForked(message, place=place, expected=f"{late.size} leaves, {late.root.hex()}", got=got, remedy=_forget(path)) from err
        return newest, new

    def _compare(self, path: str, old: Checkpoint, new: Checkpoint, note: str, reader: GrowthReader, place: Place) -> Observed:
        expected, got = f"{old.size} leaves, {old.root.hex()}", f"{new.size} leaves, {new.root.hex()}"
        if new.size < old.size:
            kept = self._keep(path, note)
            raise LogRolledBack(
                f"the log shows a smaller tree than before; both are kept, in {kept}",
                place=place,
                expected=f"{expected} or more",
                got=got,
                remedy=_forget(path),
            )
        if new.size == old.size:
            if new.root == old.root:
                return Observed(Seen.SAME, old.size)
            kept = self._keep(path, note)
            raise LogForked(
                f"the log shows another tree of the same size; both are kept, in {kept}",
                place=place,
                expected=expected,
                got=got,
                remedy=_forget(path),
            )
        try:
            hashes = reader.fetch_growth(old.size, new) if old.size else ()
            verify_consistency(old.size, old.root, new.size, new.root, hashes, place)
        except BadConsistencyProof as err:
            kept = self._keep(path, note)
            message = f"the log's tree does not continue the one seen before; both are kept, in {kept}"
            raise LogForked(message, place=place, expected=expected, got=got, remedy=_forget(path)) from err
        return Observed(Seen.GROWN, old.size)

    def _keep(self, path: str, note: str) -> str:
        raw = note.encode("utf-8")
        kept = f"{path}.alarm-{hashlib.sha256(raw).hexdigest()[:16]}"
        durable.write(kept, raw, mode=0o600, point="monitor.alarm")
        return kept


def _forget(path: str) -> str:
    # By its file: several logs may have one name, as those of stacks on one host have.
    return f"only if whoever runs it has explained it, as after a restored backup: sigkit log forget {shlex.quote(path)}"


def _remembered(path: str) -> Remembered:
    try:
        raw = durable.read(path, most_bytes=limits.NOTE_BYTES, place=Place(path))
    except SigkitError:
        raw = b""
    origin, size, *_ = (*raw.decode("utf-8", "replace").split("\n"), "", "")
    return Remembered(path, origin, size)


def _names(checkpoint: Checkpoint, log: KnownLog) -> tuple[str, str]:
    """Return a file's name for a log, and what is put behind it for its tree: an origin is anybody's text and no name of a file."""
    name, _, number = checkpoint.origin.partition(" - ") if log.origin is None else (checkpoint.origin, "", "")
    family = hashlib.sha256(name.encode("utf-8") + b"\n" + log.key.spki).hexdigest()
    return family, f"-{hashlib.sha256(number.encode('utf-8')).hexdigest()[:16]}" if number else ""
