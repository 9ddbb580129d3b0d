"""The newest tree that a stack's log signed, read from its files, whether it is served or not."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Final

from sigkit.errors import FileUnreadable, LogDamaged, MalformedCheckpoint, Place
from sigkit.services.log.journal import Journal
from sigkit.services.log.layout import JOURNAL
from sigkit.services.stack.copying import Folder
from sigkit.services.stack.layout import LOG_STATE
from sigkit.tlog.checkpoint import parse_checkpoint
from sigkit.tlog.note import parse_note

if TYPE_CHECKING:
    from sigkit.tlog.checkpoint import Checkpoint


_MOST_BYTES: Final = 2**30  # 16,000 entries of the largest size; a log files them from 1,024 on
_PIECE_BYTES: Final = 1 << 20


def read_head(directory: str) -> Checkpoint:
    """Return the newest tree in a log's journal, out of a copy: opening it is its owner's affair. No link is followed.

    Raises:
        FileUnreadable: (UNAVAIL) the journal, or no space for its copy.
        NoStackFile: (UNAVAIL) a link stands in its place.
        LogDamaged: (TLOG) it holds no checkpoint.
    """
    place = Place(os.path.join(directory, "log", LOG_STATE, JOURNAL))
    try:
        with tempfile.TemporaryDirectory(prefix="sigkit-") as scratch:
            copy = os.path.join(scratch, JOURNAL)
            with Folder.open(directory) as folder:
                _copy_journal(folder, copy, place)
            journal, records = Journal.open(copy)
            journal.close()
    except OSError as err:
        where = Place(tempfile.gettempdir())
        raise FileUnreadable(f"cannot copy the log's journal to read it: {err.strerror or err}", place=where) from err
    try:
        return parse_checkpoint(parse_note(records[-1].checkpoint, place).text, place)
    except MalformedCheckpoint as err:
        raise LogDamaged(f"the newest checkpoint is none: {err.problem}", place=place) from err


def _copy_journal(folder: Folder, copy: str, place: Place) -> None:
    journal = folder.find(f"log/{LOG_STATE}/{JOURNAL}")
    if journal is None:
        raise FileUnreadable("the log's journal is not there", place=place)
    left = _MOST_BYTES
    with journal, open(copy, "wb") as file:
        while piece := journal.read(_PIECE_BYTES):
            left -= len(piece)
            if left < 0:
                raise FileUnreadable(f"the log's journal has more than {_MOST_BYTES} bytes", place=place)
            file.write(piece)
