"""Keys of notes, written as C2SP does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.strict import encode_base64
from sigkit.tlog.note import key_id_of

if TYPE_CHECKING:
    from sigkit.keys.public import PublicKey


def encode_note_key(name: str, kind: int, key: PublicKey) -> str:
    """Write an Ed25519 key of a log or witness."""
    raw = key.spki[-32:]
    return f"{name}+{key_id_of(name, kind, raw)[:4].hex()}+{encode_base64(bytes((kind,)) + raw)}"
