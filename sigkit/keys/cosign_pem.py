"""Encrypted private keys as cosign writes them: scrypt and NaCl's secretbox, in JSON, in PEM.

The parameters of scrypt are an allow-list, checked before anything is derived: the file chooses how much memory to ask for.

Source: go-securesystemslib `encrypted/encrypted.go`; cosign 3.1.1 by experiment.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from sigkit import limits, strict
from sigkit.errors import Place, RefusedKeyEncryption, WrongPassword
from sigkit.keys.pem import encode_pem, parse_pem
from sigkit.keys.private import parse_pkcs8

if TYPE_CHECKING:
    from sigkit.keys.private import PrivateKey
    from sigkit.strict import Cursor

WRITTEN_LABEL: Final = "ENCRYPTED SIGSTORE PRIVATE KEY"
LABELS: Final = (WRITTEN_LABEL, "ENCRYPTED COSIGN PRIVATE KEY")

_KDF: Final = "scrypt"
_CIPHER: Final = "nacl/secretbox"
_ACCEPTED_N: Final = (32_768, 65_536, 131_072)
_WRITTEN_N: Final = 65_536
_R: Final = 8
_P: Final = 1
_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 24
_SALT_BYTES: Final = 32
_SALT_LEAST_BYTES: Final = 16  # what cosign accepted
_SALT_MOST_BYTES: Final = 256


class _Sealed(NamedTuple):
    n: int
    salt: bytes
    nonce: bytes
    ciphertext: bytes


def encode_private(key: PrivateKey, password: str) -> bytes:
    """Write `key`, encrypted, as the PEM file that cosign 3 writes. The password may be empty, as cosign's may."""
    from nacl.secret import SecretBox

    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    ciphertext = SecretBox(_derive(password, salt, _WRITTEN_N)).encrypt(key.pkcs8(), nonce).ciphertext
    content = strict.encode_json(
        {
            "kdf": {"name": _KDF, "params": {"N": _WRITTEN_N, "r": _R, "p": _P}, "salt": strict.encode_base64(salt)},
            "cipher": {"name": _CIPHER, "nonce": strict.encode_base64(nonce)},
            "ciphertext": strict.encode_base64(ciphertext),
        }
    )
    return encode_pem(WRITTEN_LABEL, content)


def decode_private(raw: bytes, password: str, place: Place) -> PrivateKey:
    """Open a private key file that cosign or sigkit wrote.

    Raises:
        MalformedPem, MalformedJson, WrongShape: (PARSE) another file.
        RefusedKeyEncryption: (SIG) other algorithms or scrypt parameters; nothing was derived.
        WrongPassword: (SIG) it does not open.
        UnsupportedKey, MalformedKey: (SIG) what was inside.
    """
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    sealed = _parse_sealed(parse_pem(raw, LABELS, place).data, place)
    box = SecretBox(_derive(password, sealed.salt, sealed.n))
    try:
        der = box.decrypt(sealed.ciphertext, sealed.nonce)
    except CryptoError as err:
        raise WrongPassword(
            "the password does not open the private key",
            place=place,
            remedy="set SIGKIT_PASSWORD to the password that the key was written with",
        ) from err
    return parse_pkcs8(der, place)


def _derive(password: str, salt: bytes, n: int) -> bytes:
    # OpenSSL counts a little more than 128·N·r bytes, and its default limit is below what cosign's parameters need.
    most_bytes = 128 * n * _R + 2**20
    return hashlib.scrypt(password.encode("utf-8", "surrogateescape"), salt=salt, n=n, r=_R, p=_P, maxmem=most_bytes, dklen=_KEY_BYTES)


def _parse_sealed(raw: bytes, place: Place) -> _Sealed:
    top = strict.parse_json(raw, most_bytes=limits.KEY_FILE_BYTES, place=place)
    kdf, cipher = top.member("kdf"), top.member("cipher")
    _demand(kdf.member("name"), _KDF)
    _demand(cipher.member("name"), _CIPHER)
    params = kdf.member("params")
    n, r, p = (params.member(name).integer() for name in ("N", "r", "p"))
    if n not in _ACCEPTED_N or r != _R or p != _P:
        raise RefusedKeyEncryption(
            "scrypt parameters that are not accepted",
            place=params.at(),
            expected=f"N {', '.join(map(str, _ACCEPTED_N))}; r {_R}; p {_P}",
            got=f"N {n}; r {r}; p {p}",
        )
    return _Sealed(
        n,
        _sized(kdf.member("salt"), _SALT_LEAST_BYTES, _SALT_MOST_BYTES),
        _sized(cipher.member("nonce"), _NONCE_BYTES, _NONCE_BYTES),
        top.member("ciphertext").base64(),
    )


def _demand(cursor: Cursor, name: str) -> None:
    if cursor.text() != name:
        raise RefusedKeyEncryption("an algorithm that is not accepted", place=cursor.at(), expected=name, got=cursor.text()[:80])


def _sized(cursor: Cursor, least: int, most: int) -> bytes:
    raw = cursor.base64()
    if not least <= len(raw) <= most:
        cursor.fail("wrong size", expected=f"{least} to {most} bytes", got=f"{len(raw)} bytes")
    return raw
