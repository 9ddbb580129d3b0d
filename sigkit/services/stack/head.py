"""The newest tree that a stack's log signed, read from its files, whether it is served or not."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING

from sigkit.errors import FileUnreadable, LogDamaged, MalformedCheckpoint, Place
from sigkit.services.log.journal import Journal
from sigkit.services.stack.layout import LOG_STATE
from sigkit.services.stack.space import FULL
from sigkit.tlog.checkpoint import parse_checkpoint
from sigkit.tlog.note import parse_note

if TYPE_CHECKING:
    from sigkit.tlog.checkpoint import Checkpoint


def read_head(directory: str) -> Checkpoint:
    """Return the newest tree in a log's journal, out of a copy: opening it is its owner's affair.

    Raises:
        FileUnreadable: (UNAVAIL) the journal, or no space for its copy.
        LogDamaged: (TLOG) it holds no checkpoint.
    """
    path = os.path.join(directory, "log", LOG_STATE, "journal")
    place = Place(path)
    try:
        with tempfile.TemporaryDirectory(prefix="sigkit-") as scratch:
            copy = os.path.join(scratch, "journal")
            shutil.copyfile(path, copy)
            journal, records = Journal.open(copy)
            journal.close()
    except OSError as err:
        where = Place(tempfile.gettempdir()) if err.errno in FULL else place
        raise FileUnreadable(f"cannot read the log's journal: {err.strerror}", place=where) from err
    try:
        return parse_checkpoint(parse_note(records[-1].checkpoint, place).text, place)
    except MalformedCheckpoint as err:
        raise LogDamaged(f"the newest checkpoint is none: {err.problem}", place=place) from err
