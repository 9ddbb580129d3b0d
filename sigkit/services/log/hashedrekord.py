"""What a client asks the log to keep: a signature over a digest, with the certificate or key that made it. Checked here, and made a leaf.

Only `hashedRekordRequestV002` is taken, as by the real one. Names are read in both of protobuf's spellings; members that are not known,
and those that are there twice, are refused.

Source: sigstore/rekor-tiles CLIENTS.md, pkg/types/hashedrekord; sigstore/protobuf-specs sigstore_common.proto (PublicKeyDetails).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sigkit import strict
from sigkit.data import Data
from sigkit.digest import SIZES, Digest
from sigkit.errors import BadSignature, MalformedCertificate, Place, UnsupportedEntry
from sigkit.keys.public import ED25519, of_library, parse_public_key
from sigkit.services.log.ed25519ph import verifies_digest
from sigkit.services.log.index import term_of
from sigkit.tlog.entry_v2 import CertificateVerifier, KeyVerifier, encode_hashedrekord, scheme_of

if TYPE_CHECKING:
    from cryptography import x509

    from sigkit.keys.public import PublicKey
    from sigkit.strict import Cursor

HASH: Final = "hash"
KEY: Final = "key"
IDENTITY: Final = "identity"

_HASHES: Final = {"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512"}
_OLDER: Final = ("dsseRequestV002", "dsse_request_v002")
_POINT_BYTES: Final = 32


class Signed(Data):
    """A request that was checked: the leaf that the log keeps for it, and the terms that lead there."""

    leaf: bytes
    terms: tuple[bytes, ...]


def parse_request(raw: bytes, place: Place, most_bytes: int) -> Signed:
    """Read a request, and prove that its key signed its digest.

    Raises:
        BadSignature: (SIG) it did not.
        UnsupportedEntry: (TLOG) another kind of entry, key or digest than these logs take.
        SigkitError: (PARSE, LIMIT, SIG) malformed.
    """
    top = strict.parse_json(raw, most_bytes=most_bytes, place=place, depth=16)
    if any(name in top.object() for name in _OLDER):
        raise UnsupportedEntry("invalid type, must be hashedrekord", place=place, got="dsse")
    record = _member(
        _only(top, "hashedRekordRequestV002", "hashed_rekord_request_v002"), "hashedRekordRequestV002", "hashed_rekord_request_v002"
    )
    record.only(("digest", "signature"))
    signature = record.member("signature").only(("content", "verifier"))
    content = signature.member("content").base64()
    who = _only(signature.member("verifier"), "keyDetails", "key_details", "publicKey", "public_key", "x509Certificate", "x509_certificate")
    key, certificate = _read_verifier(who)
    key_details, algorithm = scheme_of(key, who.at())
    stated = _member(who, "keyDetails", "key_details")
    if stated.text() != key_details:
        raise UnsupportedEntry(
            "the key is of another kind than its details", place=stated.at(), expected=key_details, got=stated.text()[:80]
        )
    value = record.member("digest").base64()
    if len(value) != SIZES[algorithm]:
        raise UnsupportedEntry("a digest of another length", place=place, expected=f"{SIZES[algorithm]} bytes", got=f"{len(value)} bytes")
    digest = Digest(algorithm, value)
    _verify(key, content, digest)
    verifier = KeyVerifier(key.spki) if certificate is None else CertificateVerifier(_raw(who, "x509Certificate", "x509_certificate"))
    return Signed(encode_hashedrekord(digest, content, verifier, key_details), _terms(digest, key, certificate))


def terms_of(leaf: bytes) -> tuple[bytes, ...]:
    """Return the terms of a leaf that this log wrote; none for its first, which is its own."""
    top = strict.parse_json(leaf, most_bytes=len(leaf), place=Place("entry"))
    if top.member("kind").text() != "hashedrekord":
        return ()
    record = top.member("spec").member("hashedRekordV002")
    data = record.member("data")
    key, certificate = _read_verifier(record.member("signature").member("verifier"))
    return _terms(Digest(_HASHES[data.member("algorithm").text()], data.member("digest").base64()), key, certificate)


def _terms(digest: Digest, key: PublicKey, certificate: x509.Certificate | None) -> tuple[bytes, ...]:
    names = () if certificate is None else _identities(certificate)
    return (
        term_of(HASH, str(digest).encode()),
        term_of(KEY, key.fingerprint.value),
        *(term_of(IDENTITY, name.encode()) for name in names),
    )


def _read_verifier(who: Cursor) -> tuple[PublicKey, x509.Certificate | None]:
    given = [name for name in ("publicKey", "public_key", "x509Certificate", "x509_certificate") if name in who.object()]
    if len(given) != 1:
        who.fail("not exactly one key or certificate", expected="publicKey or x509Certificate")
    if given[0].startswith("public"):
        return parse_public_key(_raw(who, "publicKey", "public_key"), who.at()), None
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(_raw(who, "x509Certificate", "x509_certificate"))
        key = certificate.public_key()
    except (ValueError, TypeError) as err:
        raise MalformedCertificate("the bytes are not a certificate", place=who.at(), got=str(err)[:200]) from err
    return of_library(key, who.at()), certificate


def _raw(who: Cursor, name: str, other: str) -> bytes:
    return _member(_only(_member(who, name, other), "rawBytes", "raw_bytes"), "rawBytes", "raw_bytes").base64()


def _only(cursor: Cursor, *names: str) -> Cursor:
    return cursor.only(names)


def _member(cursor: Cursor, name: str, other: str) -> Cursor:
    """Return a member by either spelling; by both is by none."""
    found = cursor.find(other)
    if found is None:
        return cursor.member(name)
    if cursor.find(name) is not None:
        cursor.fail("a member is there in both spellings", got=name)
    return found


def _verify(key: PublicKey, signature: bytes, digest: Digest) -> None:
    if key.kind != ED25519:
        key.verify_digest(signature, digest)
    elif not verifies_digest(key.spki[-_POINT_BYTES:], signature, digest.value):
        raise BadSignature("the signature is not valid for this key", got=f"{key.kind} {key.fingerprint}")


def _identities(certificate: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return (*names.get_values_for_type(x509.RFC822Name), *names.get_values_for_type(x509.UniformResourceIdentifier))
    except (x509.ExtensionNotFound, ValueError):  # a certificate of another shape is logged all the same: its key signed
        return ()
