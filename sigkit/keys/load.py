"""Reading key files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import durable, limits
from sigkit.errors import FileUnreadable, MalformedKey, MalformedPem, Place, RefusedKeyEncryption
from sigkit.keys.pem import is_pem, parse_pem
from sigkit.keys.public import PUBLIC_LABELS, parse_public_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from sigkit.keys.private import PrivateKey
    from sigkit.keys.public import PublicKey

_PLAIN_LABELS: Final = ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY")
_PRIVATE_MARK: Final = b"PRIVATE KEY-----"
_OLD_ENCRYPTION: Final = b"Proc-Type: 4,ENCRYPTED"  # RFC 1421, with MD5 for a key derivation
_OTHER_LABELS: Final = ("ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY")


def load_public(path: str) -> PublicKey:
    """Read a public key file, PEM or DER.

    Raises:
        FileUnreadable: (UNAVAIL) it cannot be read; the place is the operator's.
        ParseError, SigError: as `parse_public_key`.
    """
    place = Place.operator(path)
    raw = _read(path, place)
    if _PRIVATE_MARK in raw:
        raise MalformedPem(
            "this is a private key",
            place=place,
            expected=f"-----BEGIN {PUBLIC_LABELS[0]}-----",
            got="a private key",
            remedy=f"sigkit key public --key {path}",
        )
    return parse_public_key(raw, place)


def load_public_of(path: str, password: Callable[[], str]) -> PublicKey:
    """Read the public key of a public or private key file.

    Args:
        path: the file.
        password: asked once, and only for an encrypted private key.

    Raises:
        FileUnreadable, ParseError, SigError: as `load_public` and `load_private`.
    """
    place = Place.operator(path)
    raw = _read(path, place)
    if is_pem(raw) and _PRIVATE_MARK not in raw:
        return parse_public_key(raw, place)
    if not is_pem(raw):
        try:
            return parse_public_key(raw, place)
        except MalformedKey:  # then DER of a private key, or nothing
            pass
    return load_private(path, password).public


def load_private(path: str, password: Callable[[], str]) -> PrivateKey:
    """Read a private key file: cosign's encrypted form, or unencrypted PKCS #8, SEC 1 or PKCS #1 in PEM or DER.

    Args:
        path: the file.
        password: asked once, and only for an encrypted file.

    Raises:
        FileUnreadable: (UNAVAIL) it cannot be read; the place is the operator's.
        ParseError, SigError: as `decode_private`.
    """
    # Local: the cold path of verification reads public keys only.
    from sigkit.keys import cosign_pem
    from sigkit.keys.private import parse_private_key

    place = Place.operator(path)
    raw = _read(path, place)
    if not is_pem(raw):
        return parse_private_key(raw, place)
    if _OLD_ENCRYPTION in raw:
        raise _not_read("PEM with Proc-Type: 4,ENCRYPTED", place)
    block = parse_pem(raw, (*cosign_pem.LABELS, *_PLAIN_LABELS, *_OTHER_LABELS, *PUBLIC_LABELS), place)
    if block.label in cosign_pem.LABELS:
        return cosign_pem.decode_private(raw, password(), place)
    if block.label in PUBLIC_LABELS:
        raise MalformedPem("this is a public key", place=place, expected=f"-----BEGIN {cosign_pem.WRITTEN_LABEL}-----", got=block.label)
    if block.label in _OTHER_LABELS:
        raise _not_read(block.label, place)
    return parse_private_key(block.data, place)


def _not_read(form: str, place: Place) -> RefusedKeyEncryption:
    return RefusedKeyEncryption(
        "a private key in a form that is not read",
        place=place,
        expected="cosign's encrypted form, or unencrypted PKCS #8, SEC 1 or PKCS #1",
        got=form,
        remedy="openssl pkey -in OLD.key -out NEW.key writes it unencrypted; or make a new key",
    )


def _read(path: str, place: Place) -> bytes:
    try:
        return durable.read(path, most_bytes=limits.KEY_FILE_BYTES, place=place)
    except FileUnreadable as err:
        if "://" in path:  # as cosign names keys that are no files
            err.remedy = "a key is a file: variables, URLs, key services and hardware are not in this version"
        raise
