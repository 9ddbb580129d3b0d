"""Private keys that sign, of the kinds that `keys.public` checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from sigkit.errors import NOWHERE, MalformedKey, Place, UnsupportedKey
from sigkit.keys import public

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    from sigkit.keys.public import PublicKey

GENERATED_KINDS: Final = (public.ECDSA_P256, public.ECDSA_P384, public.ECDSA_P521, public.ED25519)

_SEQUENCE: Final = 0x30


class Signer(Protocol):
    """Signs with a key that may lie elsewhere: in a file, a token or a service."""

    @property
    def public(self) -> PublicKey:
        """The public half."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign `message` so that `public.verify` proves it."""
        ...


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private key in memory. Its `repr` shows the public half only."""

    public: PublicKey
    _key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey = field(repr=False, compare=False)

    def sign(self, message: bytes) -> bytes:
        """Sign `message`: ECDSA with the curve's hash (ASN.1), Ed25519 pure, RSA PKCS #1 v1.5 with SHA-256.

        Source: what cosign 3 writes and verifies, but for Ed25519, where it writes the pre-hashed form and accepts the pure one only.
        """
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        digest: hashes.HashAlgorithm = getattr(hashes, public.FORMS[self.public.kind][0])()
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(message, ec.ECDSA(digest))
        return self._key.sign(message, padding.PKCS1v15(), digest)

    def pkcs8(self) -> bytes:
        """Return the key itself as an unencrypted PKCS #8 PrivateKeyInfo in DER."""
        from cryptography.hazmat.primitives import serialization

        return self._key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def generate(kind: str) -> PrivateKey:
    """Make a new key of one of `GENERATED_KINDS`.

    Raises:
        UnsupportedKey: (SIG) another kind; the place is the operator's.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    match kind:
        case "ecdsa-p256":
            return _of_library(ec.generate_private_key(ec.SECP256R1()), NOWHERE)
        case "ecdsa-p384":
            return _of_library(ec.generate_private_key(ec.SECP384R1()), NOWHERE)
        case "ecdsa-p521":
            return _of_library(ec.generate_private_key(ec.SECP521R1()), NOWHERE)
        case "ed25519":
            return _of_library(ed25519.Ed25519PrivateKey.generate(), NOWHERE)
        case _:
            raise UnsupportedKey(
                "cannot make a key of this kind", place=Place.operator("--kind"), expected=" or ".join(GENERATED_KINDS), got=kind
            )


def parse_private_key(der: bytes, place: Place) -> PrivateKey:
    """Parse an unencrypted private key in DER: PKCS #8, SEC 1 or PKCS #1.

    Raises:
        UnsupportedKey: (SIG) another kind, curve or size.
        MalformedKey: (SIG) no private key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        key = load_der_private_key(der, None)
    except UnsupportedAlgorithm as err:
        raise UnsupportedKey("a private key of an algorithm or curve that is not accepted", place=place) from err
    except (ValueError, TypeError) as err:  # TypeError: it is encrypted
        raise MalformedKey("the bytes are not an unencrypted private key", place=place) from err
    if not isinstance(key, (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey, rsa.RSAPrivateKey)):
        raise UnsupportedKey("a private key of a kind that is not accepted", place=place, got=type(key).__name__.strip("_"))
    return _of_library(key, place)


def parse_pkcs8(der: bytes, place: Place) -> PrivateKey:
    """Parse a private key that must be PKCS #8: the only form inside cosign's encrypted files.

    Raises:
        MalformedKey: (SIG) another form, such as SEC 1.
        UnsupportedKey: (SIG) another kind, curve or size.
    """
    # PrivateKeyInfo ::= SEQUENCE { version INTEGER, algorithm SEQUENCE, … }; SEC 1 has an OCTET STRING there, PKCS #1 an INTEGER.
    if _third_tag(der) != _SEQUENCE:
        raise MalformedKey("not a PKCS #8 private key", place=place, expected="a PrivateKeyInfo (RFC 5958 section 2)")
    return parse_private_key(der, place)


def _third_tag(der: bytes) -> int | None:
    if len(der) < 2 or der[0] != _SEQUENCE:
        return None
    start = 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)
    version = der[start : start + 3]
    if len(version) != 3 or version[:2] != b"\x02\x01" or len(der) < start + 4:
        return None
    return der[start + 3]


def _of_library(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey, place: Place) -> PrivateKey:
    return PrivateKey(public.of_library(key.public_key(), place), key)
