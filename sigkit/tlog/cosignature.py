"""Keys of notes as C2SP writes them, and cosignatures: what witnesses signed about a log's tree.

A witness states that of this log it has seen no larger tree, and none that this one does not continue. So a log that shows different trees
to different readers needs witnesses who help it. Of the two forms the one with Ed25519 is read; lines of the other are passed over as those
of unknown witnesses are, and prove nothing.

Source: C2SP signed-note.md "Verifier keys", tlog-cosignature.md.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sigkit import limits, strict
from sigkit.data import Data
from sigkit.errors import BadSignature, CheckpointNotSigned, MalformedBase64, MalformedKey, SameKeyTwice
from sigkit.keys.public import parse_public_key
from sigkit.tlog.note import ED25519_TYPE, key_id_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sigkit.errors import Place
    from sigkit.keys.public import PublicKey
    from sigkit.tlog.note import Note

COSIGNATURE_TYPE: Final = 0x04

_KEY_ID: Final = re.compile("[0-9a-f]{8}", re.ASCII)
_SPKI_HEAD: Final = bytes.fromhex("302a300506032b6570032100")  # RFC 8410 section 4
_ED25519_BYTES: Final = 32
_TIME_BYTES: Final = 8


class NoteKey(Data):
    """A key under the name that it signs notes with. `kind` is a log's (ED25519_TYPE) or a witness's (COSIGNATURE_TYPE)."""

    name: str
    kind: int
    key: PublicKey
    log_id: bytes  # 32 bytes, of which a line has the first four

    @property
    def identifier(self) -> str:
        """The name, and the whole of what a line has the beginning of: no two keys share one."""
        return f"{self.name}+{self.log_id.hex()}"


class Cosignature(Data):
    """What was proved: this witness signed the tree, at a time of its own clock; None where it makes no claim about it."""

    witness: str
    time: datetime | None
    identifier: str


def parse_note_key(text: str, place: Place) -> NoteKey:
    """Read a key of the form `name+hex of its id+base64`.

    Raises:
        MalformedKey: (SIG) another form, a kind that is not read, or an id that is not this key's.
        UnsupportedKey: (SIG) a point of low order.

    Source: C2SP signed-note.md "Verifier keys".
    """
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        value = strict.decode_base64(encoded, place)
    except MalformedBase64 as err:
        raise MalformedKey("the key of a note is not base64", place=place, got=text[:120]) from err
    kinds = (ED25519_TYPE, COSIGNATURE_TYPE)
    if not name or any(character.isspace() for character in name) or not _KEY_ID.fullmatch(key_id):
        raise MalformedKey("not the key of a note", place=place, expected="name+8 hex digits+base64", got=text[:120])
    if len(value) != 1 + _ED25519_BYTES or value[0] not in kinds:
        raise MalformedKey(
            "a key of a note that is not read", place=place, expected="Ed25519, of a log (1) or of a witness (4)", got=text[:120]
        )
    log_id = key_id_of(name, value[0], value[1:])
    if log_id[:4].hex() != key_id:
        raise MalformedKey("the id is not that of this name and key", place=place, expected=log_id[:4].hex(), got=key_id)
    return NoteKey(name, value[0], parse_public_key(_SPKI_HEAD + value[1:], place), log_id)


def parse_log_key(text: str, place: Place) -> NoteKey:
    """Read the key of a log.

    Raises:
        MalformedKey, UnsupportedKey: (SIG) as `parse_note_key`, or it is a witness's.
    """
    found = parse_note_key(text, place)
    if found.kind != ED25519_TYPE:
        raise MalformedKey("the key of a witness and not of a log", place=place, expected="a key of the type 1", got=found.name[:200])
    return found


def parse_witnesses(texts: Iterable[tuple[str, Place]]) -> tuple[NoteKey, ...]:
    """Read the keys of witnesses, who are counted: each is another.

    Raises:
        MalformedKey, UnsupportedKey: (SIG) as `parse_note_key`, or one is a log's.
        SameKeyTwice: (POLICY) one key stands there twice, under whatever names.
    """
    witnesses: dict[bytes, NoteKey] = {}
    for text, place in texts:
        witness = parse_note_key(text, place)
        if witness.kind != COSIGNATURE_TYPE:
            raise MalformedKey("the key of a log and not of a witness", place=place, expected="a key of the type 4", got=witness.name[:200])
        other = witnesses.setdefault(witness.key.spki, witness)
        if other is not witness:
            raise SameKeyTwice("one witness stands there twice", place=place, got=f"{other.name} and {witness.name}", remedy="remove one")
    return tuple(witnesses.values())


def verify_cosignatures(note: Note, witnesses: Sequence[NoteKey], place: Place) -> tuple[Cosignature, ...]:
    """Prove which of the witnesses signed the note, each once.

    Raises:
        CheckpointNotSigned: (TLOG) a line under a witness's name and id is not valid: C2SP refuses the whole note then.

    Source: C2SP tlog-cosignature.md "Ed25519 signed message".
    """
    found = []
    for witness in witnesses:
        lines = [line for line in note.signatures if (line.name, line.key_id) == (witness.name, witness.log_id[:4])]
        times = [_verify_line(line.signature, note.text, witness, place) for line in lines]
        if times:
            found.append(Cosignature(witness.name, times[0], witness.identifier))
    return tuple(found)


def _verify_line(signature: bytes, text: str, witness: NoteKey, place: Place) -> datetime | None:
    seconds = int.from_bytes(signature[:_TIME_BYTES], "big")
    message = f"cosignature/v1\ntime {seconds}\n{text}".encode()
    try:
        if seconds > strict.INT64_MAX:
            raise BadSignature("a time beyond 2**63 - 1")
        witness.key.verify(signature[_TIME_BYTES:], message)
    except BadSignature as err:
        raise CheckpointNotSigned("a witness's signature of the checkpoint is not valid", place=place, got=witness.name[:200]) from err
    return datetime.fromtimestamp(seconds, UTC) if 0 < seconds <= limits.LATEST_S else None
