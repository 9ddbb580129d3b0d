"""Public keys: the kinds that sigkit accepts, and the check of a signature.

Curves are an allow-list (CVE-2026-26007: weak curves have small subgroups), and Ed25519 keys of low order are refused: they verify
signatures that nobody made (122 of CCTV's 914 vectors).

P-256 and Ed25519 are told by the constant head of their SubjectPublicKeyInfo, so that the usual verification imports neither
`serialization` nor `x509` of `cryptography`: together 40 ms.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

from sigkit import limits
from sigkit.data import Data
from sigkit.digest import Digest
from sigkit.errors import NOWHERE, BadSignature, MalformedKey, Place, TooLarge, UnsupportedKey
from sigkit.keys.pem import encode_pem, is_pem, parse_pem

if TYPE_CHECKING:
    from typing import NoReturn, TypeAlias

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, utils
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    _LibraryKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

ECDSA_P256: Final = "ecdsa-p256"
ECDSA_P384: Final = "ecdsa-p384"
ECDSA_P521: Final = "ecdsa-p521"
ED25519: Final = "ed25519"
RSA: Final = "rsa"

CURVE_KINDS: Final = {"secp256r1": ECDSA_P256, "secp384r1": ECDSA_P384, "secp521r1": ECDSA_P521}
ED25519_PURE: Final = "pure"
ED25519_PREHASHED: Final = "prehashed"

# How each kind signs. The first is written; all are read, in this order: older cosign signed with SHA-256 on every curve, and cosign 3
# signs images with the pre-hashed form of Ed25519. The two forms are apart (RFC 8032 section 5.1, "dom2"): neither passes for the other.
FORMS: Final = {
    ECDSA_P256: ("SHA256",),
    ECDSA_P384: ("SHA384", "SHA256"),
    ECDSA_P521: ("SHA512", "SHA256"),
    ED25519: (ED25519_PURE, ED25519_PREHASHED),
    RSA: ("SHA256",),
}
# The library's objects of this many keys are kept, then all are made anew: those of a trust root are few and meet every signature.
_KEPT_KEYS: Final = 64
_kept: dict[tuple[str, bytes], _LibraryKey] = {}
_OF_DIGEST: Final = "digest of "  # before the hash of a form: what is given is not the message
PUBLIC_LABELS: Final = ("PUBLIC KEY", "RSA PUBLIC KEY")

# SubjectPublicKeyInfo up to the point: RFC 5480 section 2 and RFC 8410 section 4.
_P256_HEAD: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
_P256_BYTES: Final = len(_P256_HEAD) + 65
_ED25519_HEAD: Final = bytes.fromhex("302a300506032b6570032100")
_ED25519_BYTES: Final = len(_ED25519_HEAD) + 32

_ED25519_PRIME: Final = 2**255 - 19
# The y coordinates of the eight points of small order: 0, 1, -1 and the two of order 8 (RFC 7748 section 7; "Taming the many EdDSAs").
_LOW_ORDER_Y: Final = frozenset(
    {
        0,
        1,
        _ED25519_PRIME - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)


class PublicKey(Data):
    """A key of an accepted kind, by its SubjectPublicKeyInfo in DER. Built by `parse_public_key` only."""

    kind: str
    spki: bytes

    @property
    def fingerprint(self) -> Digest:
        """SHA-256 of the SubjectPublicKeyInfo: one key has one, however its file is written."""
        return Digest.of(self.spki)

    def encode_pem(self) -> bytes:
        """Write the key as the PEM file that cosign and OpenSSL read."""
        return encode_pem(PUBLIC_LABELS[0], self.spki)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Prove that this key's private half signed `message`.

        ECDSA takes the curve's hash, and for P-384 and P-521 SHA-256 too, which older cosign used. RSA is PKCS #1 v1.5 with SHA-256, as
        cosign writes it. Ed25519 is the pure form, or the pre-hashed one, which cosign writes for images.

        Raises:
            BadSignature: (SIG) it did not.
        """
        key = _load(self.kind, self.spki, NOWHERE)
        for form in FORMS[self.kind]:
            if _verifies(self.kind, key, signature, message, form):
                return
        raise BadSignature("the signature is not valid for this key", got=f"{self.kind} {self.fingerprint}")

    @property
    def digest_algorithms(self) -> tuple[str, ...]:
        """Return the hashes whose digest a key of this kind signs; none where the bytes themselves are needed."""
        return tuple(form.lower() for form in FORMS[self.kind] if form.startswith("SHA"))

    @property
    def size_bits(self) -> int:
        """Return the size of the key: that of the modulus or of the curve."""
        if self.kind in {ECDSA_P256, ED25519}:
            return 256
        return cast("ec.EllipticCurvePublicKey | rsa.RSAPublicKey", _load(self.kind, self.spki, NOWHERE)).key_size

    def verify_digest(self, signature: bytes, digest: Digest) -> None:
        """Prove that this key's private half signed the bytes whose digest this is.

        Raises:
            BadSignature: (SIG) it did not, or a key of this kind does not sign such a digest.
        """
        if digest.algorithm not in self.digest_algorithms:
            needed = " or ".join(self.digest_algorithms) or f"the bytes themselves: {self.kind} does not sign a digest of them"
            raise BadSignature("a key of this kind does not sign this digest", expected=needed, got=digest.algorithm)
        key = _load(self.kind, self.spki, NOWHERE)
        if not _verifies(self.kind, key, signature, digest.value, f"{_OF_DIGEST}{digest.algorithm.upper()}"):
            raise BadSignature("the signature is not valid for this key", got=f"{self.kind} {self.fingerprint}")


def parse_public_key(raw: bytes, place: Place) -> PublicKey:
    """Parse one public key, PEM or DER.

    Raises:
        TooLarge: (LIMIT) more than a key file holds.
        MalformedPem: (PARSE) no or several PEM blocks, or one of another label.
        UnsupportedKey: (SIG) another kind, curve or size, or an Ed25519 point of low order.
        MalformedKey: (SIG) no key at all, or a point off the curve.
    """
    if len(raw) > limits.KEY_FILE_BYTES:
        raise TooLarge(f"more than {limits.KEY_FILE_BYTES} bytes", place=place, got=f"{len(raw)} bytes")
    der = parse_pem(raw, PUBLIC_LABELS, place).data if is_pem(raw) else raw
    kind = _kind_by_head(der)
    if kind is None:
        return _parse_by_library(der, place)
    if kind == ED25519:
        _refuse_low_order(der[len(_ED25519_HEAD) :], place)
    _load(kind, der, place)  # a point off the curve is refused here, not at the first signature
    return PublicKey(kind, der)


def of_library(key: PublicKeyTypes, place: Place = NOWHERE) -> PublicKey:
    """Take over a key object of `cryptography`, if it is of an accepted kind.

    Raises:
        UnsupportedKey: (SIG) another kind, curve, size or exponent.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    match key:
        case ec.EllipticCurvePublicKey():
            kind = CURVE_KINDS.get(key.curve.name)
            if kind is None:
                _refuse(f"the curve {key.curve.name}", place)
        case ed25519.Ed25519PublicKey():
            kind = ED25519
        case rsa.RSAPublicKey():
            kind = RSA
            if not limits.RSA_LEAST_BITS <= key.key_size <= limits.RSA_MOST_BITS:
                _refuse(f"RSA of {key.key_size} bits", place)
            if key.public_numbers().e > limits.RSA_MOST_EXPONENT:
                _refuse("RSA with an exponent of more than 31 bits", place)
        case _:
            _refuse(type(key).__name__.strip("_"), place)
    # Written anew: a compressed point or an explicit NULL must not give one key two fingerprints.
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if kind == ED25519:
        _refuse_low_order(spki[len(_ED25519_HEAD) :], place)
    _keep(kind, spki, key)
    return PublicKey(kind, spki)


def _kind_by_head(der: bytes) -> str | None:
    if len(der) == _P256_BYTES and der.startswith(_P256_HEAD):
        return ECDSA_P256
    if len(der) == _ED25519_BYTES and der.startswith(_ED25519_HEAD):
        return ED25519
    return None


def _parse_by_library(der: bytes, place: Place) -> PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(der)
    except UnsupportedAlgorithm as err:
        raise _unsupported("an algorithm or curve unknown here", place) from err
    except ValueError as err:
        raise MalformedKey("the bytes are not a public key", place=place) from err
    return of_library(key, place)


def _load(kind: str, spki: bytes, place: Place) -> _LibraryKey:
    kept = _kept.get((kind, spki))
    if kept is not None:
        return kept
    try:
        key = _library_key(kind, spki)
    except ValueError as err:
        raise MalformedKey("the point is not on the curve", place=place) from err
    _keep(kind, spki, key)
    return key


def _keep(kind: str, spki: bytes, key: _LibraryKey) -> None:
    if len(_kept) >= _KEPT_KEYS:
        _kept.clear()
    _kept[kind, spki] = key


def _library_key(kind: str, spki: bytes) -> _LibraryKey:
    if kind == ECDSA_P256:
        from cryptography.hazmat.primitives.asymmetric import ec

        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), spki[len(_P256_HEAD) :])
    if kind == ED25519:
        from cryptography.hazmat.primitives.asymmetric import ed25519

        return ed25519.Ed25519PublicKey.from_public_bytes(spki[len(_ED25519_HEAD) :])
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    key = load_der_public_key(spki)
    if not isinstance(key, (ec.EllipticCurvePublicKey, rsa.RSAPublicKey)):
        _refuse(type(key).__name__.strip("_"), NOWHERE)
    return key


def _verifies(kind: str, key: _LibraryKey, signature: bytes, message: bytes, form: str) -> bool:
    from cryptography.exceptions import InvalidSignature

    if form == ED25519_PREHASHED:
        return _verifies_prehashed(cast("ed25519.Ed25519PublicKey", key), signature, message)
    try:
        _check(kind, key, signature, message, form)
    except InvalidSignature:
        return False
    return True


def _check(kind: str, key: _LibraryKey, signature: bytes, message: bytes, form: str) -> None:
    if kind == ED25519:
        cast("ed25519.Ed25519PublicKey", key).verify(signature, message)
        return
    if kind == RSA:
        from cryptography.hazmat.primitives.asymmetric import padding

        cast("rsa.RSAPublicKey", key).verify(signature, message, padding.PKCS1v15(), _hash(form))
        return
    cast("ec.EllipticCurvePublicKey", key).verify(signature, message, _ecdsa(form))


def _hash(form: str) -> hashes.HashAlgorithm | utils.Prehashed:
    from cryptography.hazmat.primitives import hashes

    algorithm: hashes.HashAlgorithm = getattr(hashes, form.removeprefix(_OF_DIGEST))()
    if not form.startswith(_OF_DIGEST):
        return algorithm
    from cryptography.hazmat.primitives.asymmetric import utils

    return utils.Prehashed(algorithm)


@lru_cache(maxsize=8)
def _ecdsa(form: str) -> ec.ECDSA:
    """Return ECDSA in a form, for verifying.

    `ec.ECDSA.__init__` imports the library's whole backend, 8 ms, to ask it for a feature of signing. So only its two public
    properties are given.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    class Verifying(ec.ECDSA):
        algorithm = _hash(form)
        deterministic_signing = False

        def __init__(self) -> None:
            pass

    return Verifying()


def _verifies_prehashed(key: ed25519.Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    # `cryptography` has the pure form only.
    from nacl import bindings
    from nacl.exceptions import BadSignatureError

    if len(signature) != bindings.crypto_sign_BYTES:
        return False
    state = bindings.crypto_sign_ed25519ph_state()
    bindings.crypto_sign_ed25519ph_update(state, message)
    try:
        return bool(bindings.crypto_sign_ed25519ph_final_verify(state, signature, key.public_bytes_raw()))
    except BadSignatureError:
        return False


def _refuse_low_order(point: bytes, place: Place) -> None:
    y = (int.from_bytes(point, "little") & (2**255 - 1)) % _ED25519_PRIME
    if y in _LOW_ORDER_Y:
        _refuse("an Ed25519 point of low order, which verifies what nobody signed", place)


def _refuse(what: str, place: Place) -> NoReturn:
    raise _unsupported(what, place)


def _unsupported(what: str, place: Place) -> UnsupportedKey:
    return UnsupportedKey("a key that is not accepted", place=place, expected="ECDSA P-256, P-384 or P-521, Ed25519, RSA", got=what)
