"""Witnesses that an authority asks for: who they are, and how many of them must have signed.

Source: C2SP signed-note.md "Verifier keys", tlog-cosignature.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.errors import SigkitError

if TYPE_CHECKING:
    from sigkit.policy.document import Field
    from sigkit.tlog.cosignature import NoteKey


def parse_witnesses(field: Field) -> tuple[tuple[NoteKey, ...], int]:
    """Parse `{atLeast: k, of: [KEY, …]}`; without `atLeast` all are meant.

    Raises:
        MalformedPolicy: (PARSE) nobody is named, or more are asked for than are named.
        MalformedKey, UnsupportedKey, SameKeyTwice: (SIG, POLICY) as `cosignature.parse_witnesses`.
    """
    from sigkit.tlog import cosignature

    found = field.only("atLeast", "of")
    items = {item.place(): item for item in field.require(found, "of").items()}
    texts = [(item.text(), place) for place, item in items.items()]
    try:
        witnesses = cosignature.parse_witnesses(texts)
    except SigkitError as err:
        raise items[err.place].mark(err) from err
    if "atLeast" not in found:
        return witnesses, len(witnesses)
    text = found["atLeast"].text()
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 0 < int(text) <= len(witnesses)):
        found["atLeast"].fail("`atLeast` is out of range", expected=f"1 to {len(witnesses)}", got=text[:40])
    return witnesses, int(text)
