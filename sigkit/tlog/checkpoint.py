"""Checkpoints: what a log signed about its tree.

Source: C2SP tlog-checkpoint.md; for logs of the first generation sigstore/rekor pkg/util/signed_note.go.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NoReturn

from sigkit import strict
from sigkit.data import Data
from sigkit.errors import BadSignature, CheckpointNotSigned, MalformedBase64, MalformedCheckpoint
from sigkit.keys.public import ED25519
from sigkit.tlog.merkle import HASH_BYTES
from sigkit.tlog.note import ED25519_TYPE, key_id_of, parse_note

if TYPE_CHECKING:
    from sigkit.errors import Place
    from sigkit.keys.public import PublicKey
    from sigkit.tlog.note import NoteSignature

# The name, and the number of the tree in the one way that it is written: 07 would be another tree than 7 to some, and the same to others.
_NUMBERED: Final = re.compile(r"\S+ - (?:0|[1-9][0-9]{0,18})", re.ASCII)
_HEAD_LINES: Final = 3
_ED25519_RAW_BYTES: Final = 32


class Checkpoint(Data):
    """A log's tree at one moment: which log, how many leaves, the root hash. Lines after these are signed and mean nothing here."""

    origin: str
    size: int
    root: bytes


class SignedCheckpoint(Data):
    """A checkpoint that the log signed; `others` are the lines that its key did not make."""

    checkpoint: Checkpoint
    others: tuple[NoteSignature, ...]


def parse_checkpoint(text: str, place: Place) -> Checkpoint:
    """Read the text of a note as a checkpoint.

    Raises:
        MalformedCheckpoint: (TLOG) a line is missing, empty, or not as it is written canonically.
    """
    lines = text.removesuffix("\n").split("\n")
    if len(lines) < _HEAD_LINES or not all(lines):
        _fail("a line is missing", place, expected="origin, size and root hash")
    origin, size, root, *_ = lines
    if not (size.isascii() and size.isdecimal()) or str(int(size[:20])) != size or int(size) > strict.INT64_MAX:
        _fail("the size is not a number as it is written canonically", place, got=size)
    try:
        value = strict.decode_base64(root, place)
    except MalformedBase64 as err:
        raise MalformedCheckpoint("the root hash is not base64", place=place, got=root[:80]) from err
    if len(value) != HASH_BYTES:
        _fail("the root hash has another length", place, expected=f"{HASH_BYTES} bytes", got=str(len(value)))
    return Checkpoint(origin, int(size), value)


def verify_checkpoint(raw: str, key: PublicKey, log_id: bytes, origin: str | None, place: Place) -> SignedCheckpoint:
    """Prove that the log's key signed a checkpoint.

    Args:
        raw: the signed note.
        key: the log's.
        log_id: its id, or the one that the root states for checkpoints; the first four bytes tell its line.
        origin: the first line, which is the name in the log's signature too; None for a log of the first generation, whose first line
            holds its tree's number.
        place: of the evidence.

    Raises:
        MalformedCheckpoint: (TLOG) no note, or no checkpoint in it.
        CheckpointNotSigned: (TLOG) no line is the log's, or one that should be is not valid.
    """
    note = parse_note(raw, place)
    checkpoint = parse_checkpoint(note.text, place)
    if origin is not None and checkpoint.origin != origin:
        raise CheckpointNotSigned("the checkpoint is of another log", place=place, expected=origin, got=checkpoint.origin[:200])
    name = checkpoint.origin if origin is not None else parse_numbered(checkpoint.origin, place)[0]
    ids = {log_id[:4], _key_id(key, name)[:4]}
    own = [line for line in note.signatures if line.name == name and line.key_id in ids]
    if not own:
        raise CheckpointNotSigned("the log did not sign the checkpoint", place=place, expected=f"a line of {name[:200]}")
    message = note.text.encode("utf-8")
    for line in own:  # C2SP: a known key whose line is not valid refuses the note
        try:
            key.verify(line.signature, message)
        except BadSignature as err:
            raise CheckpointNotSigned(
                "the log's signature of the checkpoint is not valid", place=place, got=f"a line of {name[:200]}"
            ) from err
    return SignedCheckpoint(checkpoint, tuple(line for line in note.signatures if line not in own))


def parse_numbered(origin: str, place: Place) -> tuple[str, str]:
    """Return the name and the tree's number in the first line of a checkpoint by a log of the first generation.

    Raises:
        CheckpointNotSigned: (TLOG) it has none, so it is one of the second generation, or the number is not written canonically.
    """
    if not _NUMBERED.fullmatch(origin):
        raise CheckpointNotSigned(
            "the checkpoint is not of a log that holds such entries",
            place=place,
            expected="a name and a tree's number",
            got=origin[:200],
        )
    name, _, number = origin.partition(" - ")
    return name, number


def _key_id(key: PublicKey, name: str) -> bytes:
    """Return the id that a key has under a note: an Ed25519 key's depends on the name, an ECDSA key's is its fingerprint."""
    if key.kind == ED25519:
        return key_id_of(name, ED25519_TYPE, key.spki[-_ED25519_RAW_BYTES:])
    return key.fingerprint.value


def _fail(problem: str, place: Place, *, expected: str = "", got: str = "") -> NoReturn:
    raise MalformedCheckpoint(problem, place=place, expected=expected, got=got[:80])
