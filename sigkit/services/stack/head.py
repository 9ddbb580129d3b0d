"""The newest tree that a stack's log signed, read from its files, whether it is served or not."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from sigkit.errors import FileUnreadable, LogDamaged, MalformedCheckpoint, Place
from sigkit.services.log.journal import Journal
from sigkit.services.log.layout import JOURNAL
from sigkit.services.stack.copying import JOURNAL_BYTES, Folder, copy_file
from sigkit.services.stack.layout import LOG_STATE
from sigkit.tlog.checkpoint import parse_checkpoint
from sigkit.tlog.note import parse_note

if TYPE_CHECKING:
    from sigkit.services.log.journal import Record
    from sigkit.tlog.checkpoint import Checkpoint


def read_head(directory: str) -> Checkpoint:
    """Return the newest tree in a log's journal, out of a copy: opening it is its owner's affair. No link is followed.

    Raises:
        FileUnreadable: (UNAVAIL) the journal, or no space for its copy.
        NoStackFile: (UNAVAIL) a link stands in its place.
        LogDamaged: (TLOG) it holds no checkpoint.
    """
    place = Place(os.path.join(directory, "log", LOG_STATE, JOURNAL))
    try:
        with tempfile.TemporaryDirectory(prefix="sigkit-") as scratch, Folder.open(directory) as folder:
            copy = os.path.join(scratch, JOURNAL)
            if not copy_file(folder, f"log/{LOG_STATE}/{JOURNAL}", copy, JOURNAL_BYTES):
                raise FileUnreadable("the log's journal is not there", place=place)
            records = _read(copy, place)
    except OSError as err:
        where = Place(tempfile.gettempdir())
        raise FileUnreadable(f"cannot copy the log's journal to read it: {err.strerror or err}", place=where) from err
    try:
        return parse_checkpoint(parse_note(records[-1].checkpoint, place).text, place)
    except MalformedCheckpoint as err:
        raise LogDamaged(f"the newest checkpoint is none: {err.problem}", place=place) from err


def _read(copy: str, place: Place) -> tuple[Record, ...]:
    try:
        journal, records = Journal.open(copy)
    except LogDamaged as err:
        err.place = Place(place.source, err.place.inside)  # so is what was copied
        raise
    journal.close()
    return records
