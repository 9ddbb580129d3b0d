"""Sigstore bundles, version 0.3, with a DSSE envelope.

Parsed strictly, by protojson's own names: cosign and sigstore-go refuse an unknown or repeated member too. Log entries and timestamps
are counted and named; nothing here believes them.

Not read yet, and refused by name: versions 0.1 and 0.2, and message signatures, which sign a file and not a statement.

Source: sigstore/protobuf-specs sigstore_bundle.proto; cosign 3.1.1 by experiment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from sigkit import strict
from sigkit.data import Data
from sigkit.errors import UnsupportedEvidence
from sigkit.evidence.envelope import Envelope, parse_envelope

if TYPE_CHECKING:
    from sigkit.errors import Place
    from sigkit.limits import Limits
    from sigkit.strict import Cursor

BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
BUNDLE_TYPE_PREFIX: Final = "application/vnd.dev.sigstore.bundle"  # of a layer, whatever the version
_ACCEPTED_TYPES: Final = (BUNDLE_TYPE, "application/vnd.dev.sigstore.bundle+json;version=0.3")
_LATER_TYPES: Final = ("application/vnd.dev.sigstore.bundle+json;version=0.1", "application/vnd.dev.sigstore.bundle+json;version=0.2")

_MEMBERS = ("mediaType", "verificationMaterial", "messageSignature", "dsseEnvelope")
_MATERIALS = ("publicKey", "x509CertificateChain", "certificate")
_ENTRY_MEMBERS = (*("logIndex", "logId", "kindVersion", "integratedTime", "inclusionPromise", "inclusionProof", "canonicalizedBody"),)


class KeyMaterial(Data):
    """The signer is a key that the verifier knows. `hint` says which, and proves nothing."""

    hint: str


class CertificateMaterial(Data):
    """The signer's key is in this certificate, in DER."""

    certificate: bytes


Material: TypeAlias = KeyMaterial | CertificateMaterial


class LogClaim(Data):
    """A log entry that the bundle claims: the log's key id in base64, and the index. Nothing about it is proved."""

    log: str
    index: int


class Bundle(Data):
    """What a bundle claims."""

    material: Material
    envelope: Envelope
    log_entries: tuple[LogClaim, ...] = ()
    timestamps: tuple[bytes, ...] = ()


def parse_bundle(raw: bytes, limits: Limits, place: Place) -> Bundle:
    """Read a bundle.

    Raises:
        TooLarge, TooMany, TooDeep: (LIMIT).
        UnsupportedEvidence: (PARSE) another version, or a message signature.
        MalformedJson, MalformedBase64, WrongShape: (PARSE) anything else.
    """
    top = strict.parse_json(raw, most_bytes=limits.bundle_bytes, place=place, depth=limits.json_depth)
    _check_version(top.member("mediaType"))
    top.only(_MEMBERS)
    material = top.member("verificationMaterial").only((*_MATERIALS, "tlogEntries", "timestampVerificationData"))
    if top.find("messageSignature"):
        if top.find("dsseEnvelope"):
            top.fail("two contents", expected="dsseEnvelope", got="dsseEnvelope and messageSignature")
        raise UnsupportedEvidence("a message signature is not evidence about an image", place=top.at(), expected="dsseEnvelope")
    return Bundle(
        _parse_material(material),
        parse_envelope(top.member("dsseEnvelope")),
        _parse_log_entries(material, limits),
        _parse_timestamps(material, limits),
    )


def encode_key_bundle(hint: str, envelope: Envelope) -> bytes:
    """Write the bundle of a signature by key, as cosign 3 stores it."""
    return strict.encode_json(
        {
            "mediaType": BUNDLE_TYPE,
            "verificationMaterial": {"publicKey": {"hint": hint}},
            "dsseEnvelope": envelope.encode(),
        }
    )


def _check_version(media_type: Cursor) -> None:
    text = media_type.text()
    if text in _ACCEPTED_TYPES:
        return
    problem = "an older version of bundle" if text in _LATER_TYPES else "an unknown version of bundle"
    raise UnsupportedEvidence(problem, place=media_type.at(), expected=" or ".join(_ACCEPTED_TYPES), got=text[:200])


def _parse_material(cursor: Cursor) -> Material:
    given = [name for name in _MATERIALS if cursor.find(name)]
    if len(given) != 1:
        cursor.fail("not exactly one key or certificate", expected="publicKey or certificate", got=" and ".join(given) or "none")
    found = cursor.member(given[0])
    if given[0] == "publicKey":
        hint = found.only(("hint",)).find("hint")
        return KeyMaterial(hint.text() if hint else "")
    if given[0] != "certificate":
        found.fail("a certificate chain is not allowed in this version", expected="certificate")
    return CertificateMaterial(found.only(("rawBytes",)).member("rawBytes").base64())


def _parse_log_entries(material: Cursor, limits: Limits) -> tuple[LogClaim, ...]:
    entries = material.find("tlogEntries")
    return tuple(_parse_log_entry(item) for item in entries.items(limits.log_entries)) if entries else ()


def _parse_log_entry(cursor: Cursor) -> LogClaim:
    cursor.only(_ENTRY_MEMBERS)
    log, index = cursor.find("logId"), cursor.find("logIndex")
    key_id = log.only(("keyId",)).find("keyId") if log else None
    # protojson leaves out what is zero.
    return LogClaim(strict.encode_base64(key_id.base64()) if key_id else "", _parse_int64(index) if index else 0)


def _parse_timestamps(material: Cursor, limits: Limits) -> tuple[bytes, ...]:
    data = material.find("timestampVerificationData")
    stamps = data.only(("rfc3161Timestamps",)).find("rfc3161Timestamps") if data else None
    if stamps is None:
        return ()
    return tuple(item.only(("signedTimestamp",)).member("signedTimestamp").base64() for item in stamps.items(limits.timestamps))


def _parse_int64(cursor: Cursor) -> int:
    """Read protojson's int64, a string or a number; indexes and times are never negative."""
    if not isinstance(cursor.value, str):
        return cursor.integer()
    text = cursor.value
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and (text == "0" or text[0] != "0")):
        cursor.fail("not an integer", expected=f"0 to {strict.INT64_MAX}")
    value = int(text)
    if value > strict.INT64_MAX:
        cursor.fail("out of range", expected=f"0 to {strict.INT64_MAX}")
    return value
