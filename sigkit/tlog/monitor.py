"""The last checkpoint of each log that was seen on this machine, so that a log that forks or shrinks is noticed.

A log of the second generation is known by its key and the first line of its checkpoints, which the caller knows. One of the first has
several trees, each with a number behind a name that is the log's own choice; so each is known by the key and its number, and followed for
itself, whatever name stands there. Whoever shows a numbered tree of a log that had one without, or the other way, shows a fork: neither a
name nor a number must make a log a new one. What was seen is replaced only by what continues it, under a lock, durably, before anybody is
answered; what contradicts it is kept beside it, because the two checkpoints together prove the log's fault.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from sigkit import durable, limits, strict
from sigkit.data import Data
from sigkit.errors import (
    NOWHERE,
    BadConsistencyProof,
    CheckpointNotSigned,
    FileUnreadable,
    FileUnwritable,
    LogForked,
    LogRolledBack,
    Place,
    SigkitError,
    UnavailError,
)
from sigkit.tlog.checkpoint import parse_numbered
from sigkit.tlog.known import KnownLog, verify_head
from sigkit.tlog.proof import verify_consistency

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from sigkit.tlog.checkpoint import Checkpoint

VARIABLE: Final = "SIGKIT_CHECKPOINTS"
_TREE: Final = re.compile("[0-9a-f]{64}(?:-[0-9a-f]{16})?", re.ASCII)
_FAMILY_CHARACTERS: Final = 64


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


class _Kept(Data):
    """A checkpoint that is remembered: its file, and the number of its tree; "" where its log has but one."""

    path: str
    number: str
    checkpoint: Checkpoint


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
        # By the key, because under another name the log is the same; and by the file's name, which is all that `forget` knows.
        with contextlib.ExitStack() as locks:
            locks.enter_context(self._lock(hashlib.sha256(log.key.spki).hexdigest()))
            path, others = self._find(note, new, log, place)
            locks.enter_context(self._lock(_family(path)))
            old = self._load(path, log)
            if old is not None and new.size < old.size:
                note, new = self._ask_again(path, old, new, note, log, reader, place)
            observed = self._compare(path, old, new, note, reader, place) if old is not None else Observed(Seen.FIRST, 0, others)
            if observed.seen is not Seen.SAME:
                durable.write(path, note.encode("utf-8"), mode=0o600, point="monitor.checkpoint")
            return observed

    def remembered(self) -> tuple[Remembered, ...]:
        """Return what was seen last of each log. A file that cannot be read is among them: it can be forgotten, too.

        Raises:
            FileUnreadable: (UNAVAIL) the directory.
        """
        return tuple(_remembered(path) for path in self._files())

    def forget(self, path: str) -> str:
        """Let the next checkpoint of a log be the first again, and return where what was seen is kept: it may still prove a fault.

        Raises:
            FileUnwritable, LockTimeout: (UNAVAIL) it is not there, or cannot be put away.
        """
        with self._lock(_family(path)):
            try:
                kept = f"{path}.forgotten-{os.lstat(path).st_mtime_ns:x}"
                os.rename(path, kept)
                durable.sync_directory(self._directory)
            except OSError as err:
                raise FileUnwritable(f"cannot put the checkpoint away: {err.strerror}", place=Place(path)) from err
        return kept

    def _files(self) -> list[str]:
        """Return the files of all that is remembered.

        Raises:
            FileUnreadable: (UNAVAIL) the directory.
        """
        try:
            names = sorted(name for name in os.listdir(self._directory) if _TREE.fullmatch(name))
        except FileNotFoundError:
            return []
        except OSError as err:
            raise FileUnreadable(f"cannot list the checkpoints: {err.strerror}", place=Place(self._directory)) from err
        return [os.path.join(self._directory, name) for name in names]

    def _lock(self, name: str) -> AbstractContextManager[None]:
        return durable.lock(os.path.join(self._directory, f"{name}.lock"))

    def _load(self, path: str, log: KnownLog) -> Checkpoint | None:
        try:
            return _read(path, log) if os.path.lexists(path) else None
        except CheckpointNotSigned as err:  # it was, when it was kept
            raise _damaged(path, err) from err

    def _find(self, note: str, new: Checkpoint, log: KnownLog, place: Place) -> tuple[str, int]:
        """Return the file of a tree, and of one that was not seen before how many others of its log were.

        Raises:
            LogForked: (TLOG) a log has either one tree without a number, or any that have one; of this one the other kind was seen.
            FileUnreadable: (UNAVAIL) a file that could be of this log is damaged.
        """
        name, number = _parse_origin(new, log)
        own = os.path.join(self._directory, _file_name(name, number, log))
        if not number and os.path.lexists(own):
            return own, 0
        files = self._files()
        seen, damaged = _signed_by(log, files if number else [path for path in files if _is_numbered(path)])
        # Several where earlier versions followed a tree under each of its names; of those the newest counts.
        same = [kept for kept in seen if number and kept.number == number]
        if same:
            return max(same, key=lambda kept: kept.checkpoint.size).path, 0
        if os.path.lexists(own):
            return own, 0
        if damaged:
            raise damaged[0]
        for kept in seen:
            if _contradict(kept, name, number, log):
                raise LogForked(
                    f"the log shows another tree under the same key; what it shows is kept, in {self._keep(kept.path, note)}",
                    place=place,
                    expected=f"{kept.checkpoint.origin[:200]}, which was seen before",
                    got=new.origin[:200],
                    remedy=_forget(kept.path),
                )
        return own, len({kept.number for kept in seen if number and kept.number})

    def _ask_again(
        self, path: str, old: Checkpoint, late: Checkpoint, note: str, log: KnownLog, reader: GrowthReader, place: Place
    ) -> tuple[str, Checkpoint]:
        """Return what the log shows now, under the lock: a checkpoint fetched before it may be late, which is no rollback.

        What is late must be the beginning of what is shown now, or a log could show one tree first and another when asked again.
        """
        newest = reader.fetch_checkpoint()
        new = verify_head(newest, log, place)
        if _parse_origin(new, log)[1] != _parse_origin(late, log)[1] or new.size < old.size:
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


def _read(path: str, log: KnownLog) -> Checkpoint:
    """Return what was kept.

    Raises:
        CheckpointNotSigned: (TLOG) this log did not sign it.
        FileUnreadable: (UNAVAIL) it cannot be read, or is no checkpoint any more.
    """
    place = Place(path)
    try:
        return verify_head(strict.decode_utf8(durable.read(path, most_bytes=limits.NOTE_BYTES, place=place), place), log, place)
    except (UnavailError, CheckpointNotSigned):
        raise
    except SigkitError as err:
        raise _damaged(path, err) from err


def _signed_by(log: KnownLog, files: Sequence[str]) -> tuple[list[_Kept], list[FileUnreadable]]:
    """Return what of these files this log's key signed, under whatever name; and what is wrong with those that cannot be read."""
    seen: list[_Kept] = []
    damaged: list[FileUnreadable] = []
    for path in files:
        named = KnownLog(log.key, log.log_id, None if _is_numbered(path) else _remembered(path).origin)
        try:
            checkpoint = _read(path, named)
        except CheckpointNotSigned:  # another log's
            continue
        except FileUnreadable as err:
            if os.path.lexists(path):  # else it was forgotten meanwhile
                damaged.append(err)
            continue
        seen.append(_Kept(path, _parse_origin(checkpoint, named)[1], checkpoint))
    return seen, damaged


def _damaged(path: str, err: SigkitError) -> FileUnreadable:
    """Return the refusal of a file that was whole when it was written: what is wrong with it was done on this machine."""
    return FileUnreadable(
        "the checkpoint that is remembered here is damaged",
        place=Place(path),
        expected="what the log signed",
        got=err.problem,
        remedy=f"let the log's next checkpoint count as the first: sigkit log forget {shlex.quote(path)}",
    )


def _contradict(kept: _Kept, name: str, number: str, log: KnownLog) -> bool:
    """Tell whether a log cannot have both trees, though one key signed them.

    One key may sign for two logs of the second generation, or for one of each, which the caller tells apart by their names.
    """
    if not number:
        return bool(kept.number)
    return not kept.number and (not log.name or kept.checkpoint.origin in {name, log.name})


def _parse_origin(checkpoint: Checkpoint, log: KnownLog) -> tuple[str, str]:
    """Return the name in the first line of a checkpoint that was verified, and the number of its tree; "" where a log has but one."""
    return parse_numbered(checkpoint.origin, NOWHERE) if log.origin is None else (checkpoint.origin, "")


def _file_name(name: str, number: str, log: KnownLog) -> str:
    """Return the name of a tree's file: an origin is anybody's text and no name of a file."""
    family = hashlib.sha256(name.encode("utf-8") + b"\n" + log.key.spki).hexdigest()
    return f"{family}-{hashlib.sha256(number.encode('utf-8')).hexdigest()[:16]}" if number else family


def _is_numbered(path: str) -> bool:
    return len(os.path.basename(path)) > _FAMILY_CHARACTERS


def _family(path: str) -> str:
    return os.path.basename(path)[:_FAMILY_CHARACTERS]
