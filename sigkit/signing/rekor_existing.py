"""The entry that a log has already: read, and proved from what the log publishes, when its first answer was lost.

Nothing is believed for being there: a log of the first generation is asked for the entry, of one of the second the proof is made from its
tiles, under its newest checkpoint. The caller then proves the entry like any other, over its own bytes.

Source: sigstore/rekor openapi.yaml (409 with Location); sigstore/rekor-tiles internal/server (409 with x-log-index); C2SP tlog-tiles.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import limits, strict
from sigkit.errors import AnswerUnusable, Place, ServiceNotTrusted, TimedOut
from sigkit.signing.client import Ask, under
from sigkit.tlog.checkpoint import parse_checkpoint
from sigkit.tlog.client import TILE_BYTES, fetch_tile, is_uuid
from sigkit.tlog.entry import InclusionProof, LogEntry
from sigkit.tlog.entry_v2 import KIND
from sigkit.tlog.note import parse_note
from sigkit.tlog.proof import prove_inclusion
from sigkit.tlog.tile import TileNodes

if TYPE_CHECKING:
    from sigkit.signing.client import Answer, Client, Patience
    from sigkit.tlog.checkpoint import Checkpoint
    from sigkit.tlog.note import Note
    from sigkit.tlog.tile import Tile
    from sigkit.trust.root import TrustedRoot

CHECKPOINT_WAIT_S: Final = 1.0  # logs of the second generation publish one each second or so
_READS_V2: Final = "/api/v2/"
_GONE: Final = (404, 410)


def existing_uuid(conflict: Answer) -> str:
    """Return which entry a log of the first generation says there is. Only its name is taken: where the log is, is known.

    Raises:
        AnswerUnusable: (UNAVAIL) it does not say.
    """
    location = conflict.headers.find("location") or ""
    uuid = location.rpartition("/")[2]
    if not is_uuid(uuid):
        raise AnswerUnusable(
            "the log has the entry and does not say which", place=conflict.place(), expected="Location: …/UUID", got=location[:200]
        )
    return uuid


def existing_index(conflict: Answer) -> int:
    """Return where a log of the second generation says that the entry is.

    Raises:
        AnswerUnusable: (UNAVAIL) it does not say.
    """
    text = conflict.headers.find("x-log-index") or ""
    if not (text.isascii() and text.isdecimal() and len(text) < limits.INTEGER_DIGITS):
        raise AnswerUnusable(
            "the log has the entry and does not say where", place=conflict.place(), expected="x-log-index: a number", got=text[:200]
        )
    return int(text)


def read_existing(client: Client, base: str, index: int, leaf: bytes, root: TrustedRoot, until: Patience) -> LogEntry:
    """Return the claim that a log of the second generation holds `leaf` at `index`, with the proof that its tiles make.

    Raises:
        TimedOut: (UNAVAIL) no checkpoint covers the entry in time.
        ServiceNotTrusted: (ROOT) the checkpoint is of a log that the root does not hold.
        MalformedTile, MalformedCheckpoint: (TLOG).
        AnswerUnusable: (UNAVAIL) a tile of its tree is not there, in no form.
        SigkitError: as `Client.ask`.
    """

    def find(path: str) -> bytes | None:
        answer = client.ask(Ask("GET", under(base, _READS_V2 + path), TILE_BYTES, accept="*/*", absent=_GONE), until)
        return None if answer.status in _GONE else answer.body

    while True:
        answer = client.ask(Ask("GET", under(base, f"{_READS_V2}checkpoint"), limits.NOTE_BYTES, accept="*/*"), until)
        text = strict.decode_utf8(answer.body, answer.place())
        note = parse_note(text, answer.place())
        checkpoint = parse_checkpoint(note.text, answer.place())
        if checkpoint.size > index:
            break
        if until.left() <= CHECKPOINT_WAIT_S:
            raise TimedOut("the log has the entry and publishes no checkpoint of it", place=answer.place(), got=f"size {checkpoint.size}")
        client.watcher.waiting(base, f"the entry {index} is under no checkpoint yet", CHECKPOINT_WAIT_S)
        client.timer.sleep(CHECKPOINT_WAIT_S)
    log_id = _log_id(checkpoint, note, root, answer.place())
    nodes = TileNodes(checkpoint.size, lambda tile: _published(fetch_tile(find, tile), tile, base), answer.place())
    hashes = prove_inclusion(index, checkpoint.size, nodes)
    proof = InclusionProof(index, checkpoint.size, checkpoint.root, hashes, text)
    return LogEntry(index, log_id, *KIND, 0, None, proof, leaf)


def _published(raw: bytes | None, tile: Tile, base: str) -> bytes:
    if raw is None:
        raise AnswerUnusable("the log does not publish a file of its tree", place=Place(under(base, _READS_V2 + tile.path)))
    return raw


def _log_id(checkpoint: Checkpoint, note: Note, root: TrustedRoot, place: Place) -> bytes:
    """Return the id of the log whose checkpoint it says to be: which of the root's keys is to prove it."""
    lines = {line.key_id for line in note.signatures}
    for log in root.logs:
        if log.origin == checkpoint.origin and (log.checkpoint_key_id or log.log_id)[:4] in lines:
            return log.log_id
    raise ServiceNotTrusted("the checkpoint is of a log that is not trusted", place=place, got=checkpoint.origin[:200])
