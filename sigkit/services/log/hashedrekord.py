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
from sigkit.errors import BadSignature, MalformedCertificate, MalformedKey, Place, SigkitError, UnsupportedEntry
from sigkit.keys.certificate import read_certificate, refusals
from sigkit.keys.public import ED25519, of_library, parse_public_key
from sigkit.services.log.ed25519ph import verifies_digest
from sigkit.services.log.index import term_of
from sigkit.strict import Cursor
from sigkit.tlog.entry_v2 import CertificateVerifier, KeyVerifier, encode_hashedrekord, scheme_of
from sigkit.verify.extensions import USERNAME_OID, decode_utf8_string

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from sigkit.keys.public import PublicKey

HASH: Final = "hash"
KEY: Final = "key"
IDENTITY: Final = "identity"

_HASHES: Final = {"SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512"}
_CAMEL: Final = {
    "hashed_rekord_request_v002": "hashedRekordRequestV002",
    "key_details": "keyDetails",
    "public_key": "publicKey",
    "raw_bytes": "rawBytes",
    "x509_certificate": "x509Certificate",
}
_CERTIFICATE: Final = frozenset({"x509Certificate", "x509_certificate"})
_OLDER: Final = ("dsseRequestV002", "dsse_request_v002")
_POINT_BYTES: Final = 32
# An entry is found by so many names of its certificate: anybody may log one with thousands, and each costs memory and a row.
_MOST_NAMES: Final = 16


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
    (record,) = _take(top, ("hashedRekordRequestV002",))
    of_digest, of_signature = _take(record, ("digest", "signature"))
    of_content, who = _take(of_signature, ("content", "verifier"))
    content, value = of_content.base64(), of_digest.base64()
    key, certificate, raw, stated = _read_verifier(who)
    key_details, algorithm = scheme_of(key, who.at())
    if stated.text() != key_details:
        raise UnsupportedEntry(
            "the key is of another kind than its details", place=stated.at(), expected=key_details, got=stated.text()[:80]
        )
    if len(value) != SIZES[algorithm]:
        raise UnsupportedEntry("a digest of another length", place=place, expected=f"{SIZES[algorithm]} bytes", got=f"{len(value)} bytes")
    digest = Digest(algorithm, value)
    _verify(key, content, digest)
    verifier = KeyVerifier(raw) if certificate is None else CertificateVerifier(raw)
    return Signed(encode_hashedrekord(digest, content, verifier, key_details), _terms(digest, key, certificate))


def terms_of(leaf: bytes) -> tuple[bytes, ...]:
    """Return the terms of a leaf that this log wrote; none for its first, which is its own.

    The log is opened also with a library that reads less than the one with which it took the entry: then the digest alone leads there.
    """
    top = strict.parse_json(leaf, most_bytes=len(leaf), place=Place("entry"))
    if top.member("kind").text() != "hashedrekord":
        return ()
    record = top.member("spec").member("hashedRekordV002")
    data = record.member("data")
    digest = Digest(_HASHES[data.member("algorithm").text()], data.member("digest").base64())
    try:
        key, certificate, *_ = _read_verifier(record.member("signature").member("verifier"))
        return _terms(digest, key, certificate)
    except SigkitError:
        return (_term_of_digest(digest),)


def _term_of_digest(digest: Digest) -> bytes:
    return term_of(HASH, str(digest).encode())


def _terms(digest: Digest, key: PublicKey, certificate: x509.Certificate | None) -> tuple[bytes, ...]:
    names = () if certificate is None else _identities(certificate)
    return (
        _term_of_digest(digest),
        term_of(KEY, key.fingerprint.value),
        *(term_of(IDENTITY, name.encode()) for name in names),
    )


def _read_verifier(who: Cursor) -> tuple[PublicKey, x509.Certificate | None, bytes, Cursor]:
    """Return the key, its certificate if there is one, the bytes of either, and the stated details."""
    is_key = _CERTIFICATE.isdisjoint(who.object())
    stated, given = _take(who, ("keyDetails", "publicKey" if is_key else "x509Certificate"))
    raw = _take(given, ("rawBytes",))[0].base64()
    if is_key:
        key = parse_public_key(raw, given.at())
        if raw != key.spki:  # clients make the leaf anew from the key: PEM or a compressed point would give another
            raise MalformedKey("the key is not written as DER in its one form", place=given.at())
        return key, None, raw, stated
    try:
        certificate = read_certificate(raw)
        of_certificate = certificate.public_key()
    except refusals() as err:
        raise MalformedCertificate("the bytes are not a certificate", place=given.at(), got=str(err)[:200]) from err
    return of_library(of_certificate, given.at()), certificate, raw, stated


def _take(cursor: Cursor, names: Sequence[str]) -> list[Cursor]:
    """Return exactly these members, each in either spelling of protobuf's JSON; a member that is there in both is there twice.

    Raises:
        WrongShape: one is missing, there twice, or unknown.
    """
    found: dict[str, Cursor] = {}
    for spelled, value in cursor.object().items():
        name = _CAMEL.get(spelled, spelled)
        if name not in names:
            cursor.only(names)
        if name in found:
            cursor.fail("a member is there in both spellings", got=name)
        if value is not None:
            found[name] = Cursor(value, name, cursor.place, cursor)
    return [found.get(name) or cursor.member(name) for name in names]


def _verify(key: PublicKey, signature: bytes, digest: Digest) -> None:
    if key.kind != ED25519:
        key.verify_digest(signature, digest)
    elif not verifies_digest(key.spki[-_POINT_BYTES:], signature, digest.value):
        raise BadSignature("the signature is not valid for this key", got=f"{key.kind} {key.fingerprint}")


def _identities(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the names that a certificate may be searched by: those of the kinds that Fulcio issues.

    Raises:
        MalformedCertificate, NotUtf8: (SIG, PARSE) a user name is not the text that it must be.
    """
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:  # logged all the same: its key signed
        return ()
    others = (name for name in names.get_values_for_type(x509.OtherName) if name.type_id.dotted_string == USERNAME_OID)
    found = (
        *names.get_values_for_type(x509.RFC822Name),
        *names.get_values_for_type(x509.UniformResourceIdentifier),
        *(decode_utf8_string(name.value, "the user name", Place("certificate")) for name in others),
    )
    return found[:_MOST_NAMES]
