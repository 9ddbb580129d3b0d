"""What a log signs: its newest tree, under its own name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import strict
from sigkit.data import Data
from sigkit.errors import Place, UnsupportedKey
from sigkit.keys.public import ED25519
from sigkit.tlog.note import ED25519_TYPE, encode_line, key_id_of

if TYPE_CHECKING:
    from sigkit.keys.private import Signer

_ED25519_RAW_BYTES: Final = 32


class Head(Data):
    """A tree, and the checkpoint that the log signed for it."""

    size: int
    root: bytes
    checkpoint: str


def log_id_of(origin: str, key: Signer) -> bytes:
    """Return the 32 bytes by which clients know the log.

    Raises:
        UnsupportedKey: (SIG) the key is not Ed25519.
    """
    if key.public.kind != ED25519:
        raise UnsupportedKey("a log signs its checkpoints with Ed25519", place=Place(origin), got=key.public.kind)
    return key_id_of(origin, ED25519_TYPE, key.public.spki[-_ED25519_RAW_BYTES:])


def sign_head(origin: str, key: Signer, size: int, root: bytes) -> Head:
    """Sign a tree.

    Raises:
        UnsupportedKey: (SIG) the key is not Ed25519.

    Source: C2SP tlog-checkpoint.md, signed-note.md.
    """
    text = f"{origin}\n{size}\n{strict.encode_base64(root)}\n"
    line = encode_line(origin, log_id_of(origin, key), key.sign(text.encode("utf-8")))
    return Head(size, root, f"{text}\n{line}")
