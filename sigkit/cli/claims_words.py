"""Single values of evidence in a few words, for a person; none is judged, and a member that cannot be read raises its refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import strict
from sigkit.data import Data
from sigkit.evidence.bundle import describe_hint
from sigkit.text import format_time

if TYPE_CHECKING:
    from sigkit.strict import Cursor, Json

SHOWN_MEMBERS: Final = 12  # of a predicate, and subjects, certificates and the like
SHOWN_TEXT: Final = 200


class Checkpoint(Data):
    """Origin, size and the names that stand before the signatures."""

    origin: str
    size: str
    names: tuple[str, ...]


def checkpoint(proof: Cursor) -> Checkpoint:
    """Look at a note's lines without demanding that it be one."""
    text, _, signatures = proof.member("checkpoint").member("envelope").text().partition("\n\n")
    lines = text.split("\n")
    names = tuple(line.split(" ")[1] for line in signatures.split("\n") if line.startswith("— ") and line.count(" ") > 1)
    return Checkpoint(lines[0], lines[1] if len(lines) > 1 else "", names[:SHOWN_MEMBERS])


def bytes_of(cursor: Cursor, name: str) -> bytes:
    """Return the bytes of a member in base64."""
    return cursor.member(name).base64()


def size(cursor: Cursor) -> str:
    """Count the bytes of a value in base64."""
    return f"{len(cursor.base64())} bytes"


def text(cursor: Cursor | None) -> str | None:
    """Return a text, or None where there is none."""
    return cursor.text() if cursor else None


def number(cursor: Cursor | None) -> str:
    """Return protojson's number as it is written; absent is zero."""
    if cursor is None:
        return "0"
    return cursor.value if isinstance(cursor.value, str) else str(cursor.integer(least=-strict.INT64_MAX))


def moment(cursor: Cursor | None) -> str:
    """Return a time in seconds as a date, and as it is where it is none."""
    from datetime import UTC, datetime

    text = number(cursor)
    if text == "0":
        return "none"
    try:
        return format_time(datetime.fromtimestamp(int(text), UTC))
    except (ValueError, OverflowError, OSError):
        return text


def kind(cursor: Cursor) -> str:
    """Return kind and version of a log entry."""
    return f"{cursor.member('kind').text()} {cursor.member('version').text()}"


def message_digest(message: Cursor) -> str | None:
    """Return what a message signature says of its file."""
    digest = message.find("messageDigest")
    if digest is None or not digest.object():
        return None
    algorithm = strict.describe(digest.member("algorithm").value).strip("'")
    return f"{algorithm.replace('SHA2_', 'sha')}:{digest.member('digest').base64().hex()}"


def hint(cursor: Cursor) -> str:
    """Return the fingerprint that the hint is, or else the hint: `sigkit key public` shows the same of a key."""
    return describe_hint(text(cursor.find("hint")) or "")


def pairs(cursor: Cursor | None) -> Json:
    """Return an object's members as `name=value`, or None where there are none."""
    if cursor is None or not cursor.object():
        return None
    return [f"{name}={value if isinstance(value, str) else strict.describe(value)}" for name, value in cursor.object().items()]


def glance(value: Json) -> str:
    """Say in a few words what a member of a predicate is."""
    if isinstance(value, str):
        return value if len(value) <= SHOWN_TEXT else f"{value[:SHOWN_TEXT]}… ({len(value)} characters)"
    if isinstance(value, dict):
        return "{" + ", ".join(list(value)[:SHOWN_MEMBERS]) + (", …" if len(value) > SHOWN_MEMBERS else "") + "}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return strict.describe(value)
