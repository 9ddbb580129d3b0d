"""Witnesses that an authority asks for: who they are, and how many of them must have signed.

Source: C2SP signed-note.md "Verifier keys", tlog-cosignature.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.errors import SameKeyTwice, SigkitError

if TYPE_CHECKING:
    from sigkit.policy.document import Field
    from sigkit.tlog.cosignature import NoteKey


def parse_witnesses(field: Field) -> tuple[tuple[NoteKey, ...], int]:
    """Parse `{atLeast: k, of: [KEY, …]}`; without `atLeast` all are meant.

    Raises:
        MalformedPolicy: (PARSE) nobody is named, more are asked for than are named, or a key is a log's.
        MalformedKey, UnsupportedKey, SameKeyTwice: (SIG, POLICY) as `parse_note_key`, or one key under two names.
    """
    from sigkit.tlog.cosignature import COSIGNATURE_TYPE, parse_note_key

    found = field.only("atLeast", "of")
    witnesses: dict[bytes, NoteKey] = {}
    for item in field.require(found, "of").items():
        try:
            witness = parse_note_key(item.text(), item.place())
        except SigkitError as err:
            raise item.mark(err) from err
        if witness.kind != COSIGNATURE_TYPE:
            item.fail("the key of a log and not of a witness", expected="a key of the type 4", got=witness.name)
        if (other := witnesses.get(witness.key.spki)) is not None:
            raise item.mark(SameKeyTwice("one witness stands there twice", got=f"{other.name} and {witness.name}", remedy="remove one"))
        witnesses[witness.key.spki] = witness
    if "atLeast" not in found:
        return tuple(witnesses.values()), len(witnesses)
    text = found["atLeast"].text()
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 0 < int(text) <= len(witnesses)):
        found["atLeast"].fail("`atLeast` is out of range", expected=f"1 to {len(witnesses)}", got=text[:40])
    return tuple(witnesses.values()), int(text)
