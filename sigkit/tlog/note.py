"""Signed notes: a text, and lines of signatures under it.

A line that nobody here knows is kept and proves nothing; junk that is no line is refused (sigstore-python passed over it).

Source: C2SP signed-note.md.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, NoReturn

from sigkit import limits, strict
from sigkit.data import Data
from sigkit.errors import MalformedBase64, MalformedCheckpoint

if TYPE_CHECKING:
    from sigkit.errors import Place

_DASH: Final = "\u2014 "
_KEY_ID_BYTES: Final = 4
_CONTROL: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f]")
ED25519_TYPE: Final = 0x01


class NoteSignature(Data):
    """One line: who says to have signed, the first four bytes of the key's id, and the signature."""

    name: str
    key_id: bytes
    signature: bytes


class Note(Data):
    """A text that ends in a newline, and the lines under it. Nothing is proved."""

    text: str
    signatures: tuple[NoteSignature, ...]


def parse_note(raw: str, place: Place) -> Note:
    """Read a signed note.

    Raises:
        MalformedCheckpoint: (TLOG) anything that C2SP's grammar does not allow.
    """
    if len(raw.encode("utf-8")) > limits.NOTE_BYTES:
        _fail(f"a note of more than {limits.NOTE_BYTES} bytes", place)
    text, blank, block = raw.rpartition("\n\n")
    if not blank or not text:
        _fail("no blank line before the signatures", place)
    if _CONTROL.search(raw):
        _fail("a control character", place)
    if not block.endswith("\n"):
        _fail("no newline at the end", place)
    lines = block[:-1].split("\n")
    if len(lines) > limits.NOTE_SIGNATURES:
        _fail(f"more than {limits.NOTE_SIGNATURES} signatures", place)
    return Note(f"{text}\n", tuple(_parse_line(line, place) for line in lines))


def key_id_of(name: str, kind: int, key: bytes) -> bytes:
    """Return the id of a key of this type: all 32 bytes, of which a line has the first four.

    Source: C2SP signed-note.md "Signatures".
    """
    return hashlib.sha256(name.encode("utf-8") + b"\n" + bytes((kind,)) + key).digest()


def encode_line(name: str, key_id: bytes, signature: bytes) -> str:
    """Write the line of a signature, newline included."""
    return f"{_DASH}{name} {strict.encode_base64(key_id[:_KEY_ID_BYTES] + signature)}\n"


def _parse_line(line: str, place: Place) -> NoteSignature:
    if not line.startswith(_DASH):
        _fail("a line that is no signature", place, line)
    name, space, encoded = line[len(_DASH) :].partition(" ")
    if not space or not name or "+" in name or any(character.isspace() for character in name):
        _fail("a signature without a name", place, line)
    try:
        value = strict.decode_base64(encoded, place)
    except MalformedBase64 as err:
        raise MalformedCheckpoint("a signature that is not base64", place=place, got=line[:80]) from err
    if len(value) <= _KEY_ID_BYTES:
        _fail("a signature that is too short", place, line)
    return NoteSignature(name, value[:_KEY_ID_BYTES], value[_KEY_ID_BYTES:])


def _fail(problem: str, place: Place, got: str = "") -> NoReturn:
    raise MalformedCheckpoint(problem, place=place, got=got[:80])
