"""Key files: the only place of this room that touches the disk.

A private key is written mode 0600, whole or not at all, and never over another file.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from sigkit import durable, limits
from sigkit.errors import FileUnwritable, MalformedPem, Place, RefusedKeyEncryption, SigkitError
from sigkit.keys import cosign_pem
from sigkit.keys.pem import is_pem, parse_pem
from sigkit.keys.private import parse_private_key
from sigkit.keys.public import PUBLIC_LABELS, encode_public_pem, parse_public_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigkit.keys.private import PrivateKey
    from sigkit.keys.public import PublicKey

_PLAIN_LABELS: Final = ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY")
_OTHER_LABELS: Final = ("ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY")


def load_public(path: str) -> PublicKey:
    """Read a public key file, PEM or DER.

    Raises:
        FileUnreadable: (UNAVAIL) it cannot be read; the place is the operator's.
        ParseError, SigError: as `parse_public_key`.
    """
    place = Place.operator(path)
    raw = durable.read(path, most_bytes=limits.KEY_FILE_BYTES, place=place)
    if b"PRIVATE KEY-----" in raw:
        raise MalformedPem(
            "this is a private key",
            place=place,
            expected=f"-----BEGIN {PUBLIC_LABELS[0]}-----",
            got="a private key",
            remedy=f"sigkit key public --key {path}",
        )
    return parse_public_key(raw, place)


def load_private(path: str, password: Callable[[], str]) -> PrivateKey:
    """Read a private key file: cosign's encrypted form, or unencrypted PKCS #8, SEC 1 or PKCS #1 in PEM or DER.

    Args:
        path: the file.
        password: asked once, and only for an encrypted file.

    Raises:
        FileUnreadable: (UNAVAIL) it cannot be read; the place is the operator's.
        ParseError, SigError: as `decode_private`.
    """
    place = Place.operator(path)
    raw = durable.read(path, most_bytes=limits.KEY_FILE_BYTES, place=place)
    if not is_pem(raw):
        return parse_private_key(raw, place)
    block = parse_pem(raw, (*cosign_pem.LABELS, *_PLAIN_LABELS, *_OTHER_LABELS, *PUBLIC_LABELS), place)
    if block.label in cosign_pem.LABELS:
        return cosign_pem.decode_private(raw, password(), place)
    if block.label in PUBLIC_LABELS:
        raise MalformedPem("this is a public key", place=place, expected=f"-----BEGIN {cosign_pem.WRITTEN_LABEL}-----", got=block.label)
    if block.label in _OTHER_LABELS:
        raise RefusedKeyEncryption(
            "a private key in a form that is not read",
            place=place,
            expected=" or ".join((*cosign_pem.LABELS, *_PLAIN_LABELS)),
            got=block.label,
            remedy="openssl pkcs8 -in OLD.key -out NEW.key (RFC 5958 form, unencrypted), or make a new key",
        )
    return parse_private_key(block.data, place)


def store_pair(prefix: str, key: PrivateKey, password: str) -> tuple[str, str]:
    """Write `prefix.key`, encrypted, and `prefix.pub`, both new or neither, and return their paths.

    Raises:
        FileUnwritable: (UNAVAIL) one of them is there already, or cannot be written.
    """
    private_path, public_path = f"{prefix}.key", f"{prefix}.pub"
    for path in (private_path, public_path):
        if os.path.lexists(path):
            raise FileUnwritable(
                "the file is there already, and a key is never overwritten",
                place=Place.operator(path),
                remedy="choose another --output-key-prefix, or move the old pair away",
            )
    durable.create_new(private_path, cosign_pem.encode_private(key, password), mode=0o600, point="keys.private")
    try:
        durable.create_new(public_path, encode_public_pem(key.public), mode=0o644, point="keys.public")
    except SigkitError:
        with contextlib.suppress(OSError):
            os.unlink(private_path)
        raise
    return private_path, public_path
