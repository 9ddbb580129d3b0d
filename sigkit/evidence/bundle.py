"""Sigstore bundles of versions 0.1, 0.2 and 0.3: a signature over a file or over a statement, and what is claimed beside it.

Parsed strictly, by protojson's own names: cosign and sigstore-go refuse an unknown or repeated member too. Certificates, log entries and
timestamps are kept as bytes and numbers; nothing here believes them.

The versions differ in what they allow: until 0.2 certificates come as a chain, in 0.3 alone; a log entry of 0.1 needs the log's promise,
one of 0.2 and 0.3 an inclusion proof with its checkpoint.

Source: sigstore/protobuf-specs sigstore_bundle.proto and sigstore_rekor.proto; cosign 3.1.1 by experiment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from sigkit import limits as all_limits
from sigkit import strict
from sigkit.data import Data
from sigkit.digest import SIZES, Digest
from sigkit.errors import MalformedBase64, MalformedDigest, UnsupportedEvidence
from sigkit.evidence.envelope import Envelope, parse_envelope

if TYPE_CHECKING:
    from sigkit.errors import Place
    from sigkit.limits import Limits
    from sigkit.strict import Cursor, Json
    from sigkit.tlog.entry import LogEntry

BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
BUNDLE_TYPE_PREFIX: Final = "application/vnd.dev.sigstore.bundle"  # of a layer, whatever the version
V01: Final = "0.1"
V02: Final = "0.2"
V03: Final = "0.3"
_VERSIONS: Final = {
    BUNDLE_TYPE: V03,
    "application/vnd.dev.sigstore.bundle+json;version=0.3": V03,
    "application/vnd.dev.sigstore.bundle+json;version=0.2": V02,
    "application/vnd.dev.sigstore.bundle+json;version=0.1": V01,
}
# By name and by number, as protojson writes an enum: sigstore_common.proto, HashAlgorithm.
_HASH_NAMES: Final = {"sha256": "SHA2_256", "sha384": "SHA2_384", "sha512": "SHA2_512"}
_HASHES: Final[dict[Json, str]] = {name: algorithm for algorithm, name in _HASH_NAMES.items()} | {1: "sha256", 2: "sha384", 3: "sha512"}

_MEMBERS = ("mediaType", "verificationMaterial", "messageSignature", "dsseEnvelope")
_CONTENTS = ("messageSignature", "dsseEnvelope")
_MATERIALS = ("publicKey", "x509CertificateChain", "certificate")


class KeyMaterial(Data):
    """The signer is a key that the verifier knows. `hint` says which, and proves nothing."""

    hint: str


class CertificateMaterial(Data):
    """The signer's key is in a certificate: `chain` holds it first, then any intermediates that the bundle offers, each in DER."""

    chain: tuple[bytes, ...]


class MessageSignature(Data):
    """A signature over a file. `digest` is what the bundle says of the file, not signed: a hint that must be right; None when absent."""

    signature: bytes
    digest: Digest | None


Material: TypeAlias = KeyMaterial | CertificateMaterial
Content: TypeAlias = Envelope | MessageSignature


class Bundle(Data):
    """What a bundle claims."""

    version: str
    material: Material
    content: Content
    entries: tuple[LogEntry, ...] = ()
    timestamps: tuple[bytes, ...] = ()


def parse_bundle(raw: bytes, limits: Limits, place: Place) -> Bundle:
    """Read a bundle.

    Raises:
        TooLarge, TooMany, TooDeep: (LIMIT).
        UnsupportedEvidence: (PARSE) another version.
        MalformedJson, MalformedBase64, WrongShape: (PARSE) anything that the version does not allow; the place names it by its JSON path.
    """
    top = strict.parse_json(raw, most_bytes=limits.bundle_bytes, place=place, depth=limits.json_depth)
    version = _parse_version(top.member("mediaType"))
    top.only(_MEMBERS)
    material = top.member("verificationMaterial").only((*_MATERIALS, "tlogEntries", "timestampVerificationData"))
    return Bundle(
        version,
        _parse_material(material, version),
        _parse_content(top),
        _parse_entries(material, version, limits),
        _parse_timestamps(material, limits),
    )


def describe_hint(hint: str) -> str:
    """Name a key by its hint, for people: by its fingerprint where the hint is one in base64, as cosign writes it."""
    if not hint:
        return "a key without a hint"
    try:
        raw = strict.decode_base64(hint)
    except MalformedBase64:
        raw = b""
    return f"key {Digest('sha256', raw)}" if len(raw) == SIZES["sha256"] else f"a key whose hint is {hint[:100]}"


def encode_bundle(hint: str, content: Content) -> bytes:
    """Write the bundle of a signature by key, with nothing beside it."""
    return write_bundle(Bundle(V03, KeyMaterial(hint), content))


def write_bundle(bundle: Bundle) -> bytes:
    """Write a bundle in version 0.3, and in cosign 3's order of members; of a chain the signer's certificate alone.

    Members that protojson leaves out because they are zero or empty are written: sigstore-python asks for some of them.
    """
    material: dict[str, Json]
    if isinstance(bundle.material, KeyMaterial):
        material = {"publicKey": {"hint": bundle.material.hint}}
    else:
        material = {"certificate": {"rawBytes": strict.encode_base64(bundle.material.chain[0])}}
    if bundle.entries:
        # Local, as at reading.
        from sigkit.evidence.entries import encode_entry

        material["tlogEntries"] = [encode_entry(entry) for entry in bundle.entries]
    if bundle.timestamps:
        stamps: list[Json] = [{"signedTimestamp": strict.encode_base64(stamp)} for stamp in bundle.timestamps]
        material["timestampVerificationData"] = {"rfc3161Timestamps": stamps}
    content: dict[str, Json]
    if isinstance(bundle.content, Envelope):
        content = {"dsseEnvelope": bundle.content.encode()}
    else:
        content = {"messageSignature": _encode_message_signature(bundle.content)}
    return strict.encode_json({"mediaType": BUNDLE_TYPE, "verificationMaterial": material, **content})


def _parse_version(media_type: Cursor) -> str:
    text = media_type.text()
    version = _VERSIONS.get(text)
    if version is None:
        raise UnsupportedEvidence(
            "an unknown version of bundle", place=media_type.at(), expected="version 0.1, 0.2 or 0.3", got=text[:200] or "nothing"
        )
    return version


def _parse_content(top: Cursor) -> Content:
    given = [name for name in _CONTENTS if top.find(name)]
    if len(given) != 1:
        top.fail("not exactly one content", expected=" or ".join(_CONTENTS), got=" and ".join(given) or "none")
    content = top.member(given[0])
    return parse_envelope(content) if given[0] == "dsseEnvelope" else _parse_message_signature(content)


def _parse_message_signature(cursor: Cursor) -> MessageSignature:
    cursor.only(("messageDigest", "signature"))
    digest = cursor.find("messageDigest")
    return MessageSignature(cursor.member("signature").base64(), _parse_message_digest(digest) if digest else None)


def _parse_message_digest(cursor: Cursor) -> Digest | None:
    cursor.only(("algorithm", "digest"))
    if not cursor.object():  # what cosign 3 writes for an Ed25519 key
        return None
    algorithm, digest = cursor.member("algorithm"), cursor.member("digest")
    named = _HASHES.get(algorithm.value) if isinstance(algorithm.value, (str, int)) and algorithm.value is not True else None
    if named is None:
        algorithm.fail("not a hash that is accepted", expected=" or ".join(_HASH_NAMES.values()))
    try:
        return Digest(named, digest.base64())
    except MalformedDigest as err:
        raise MalformedDigest("a digest of another length", place=digest.at(), expected=err.expected, got=f"{named}") from err


def _encode_message_signature(content: MessageSignature) -> Json:
    digest: dict[str, Json] = {}
    if content.digest:
        digest = {"algorithm": _HASH_NAMES[content.digest.algorithm], "digest": strict.encode_base64(content.digest.value)}
    return {"messageDigest": digest, "signature": strict.encode_base64(content.signature)}


def _parse_material(cursor: Cursor, version: str) -> Material:
    given = [name for name in _MATERIALS if cursor.find(name)]
    if len(given) != 1:
        cursor.fail("not exactly one key or certificate", expected="publicKey or certificate", got=" and ".join(given) or "none")
    kind, found = given[0], cursor.member(given[0])
    if kind == "publicKey":
        hint = found.only(("hint",)).find("hint")
        return KeyMaterial(hint.text() if hint else "")
    if version == V03 and kind != "certificate":
        found.fail("a certificate chain is not allowed in this version", expected="certificate")
    if version != V03 and kind == "certificate":
        found.fail("a certificate alone is not allowed in this version", expected="x509CertificateChain")
    return CertificateMaterial((_parse_certificate(found),) if kind == "certificate" else _parse_chain(found))


def _parse_chain(cursor: Cursor) -> tuple[bytes, ...]:
    certificates = cursor.only(("certificates",)).member("certificates")
    items = certificates.items(all_limits.CERTIFICATES)
    if not items:
        certificates.fail("a chain without a certificate", expected="the signer's certificate first", got="none")
    chain = tuple(_parse_certificate(item) for item in items)
    for item, certificate in zip(items[1:], chain[1:], strict=True):
        # A root that the evidence brings along proves nothing, and a reader could take it for an anchor.
        if _is_self_issued(certificate, item):
            item.fail("the chain holds a root certificate", expected="the signer's certificate and intermediates", got="a self-issued one")
    return chain


def _parse_certificate(cursor: Cursor) -> bytes:
    raw = cursor.only(("rawBytes",)).member("rawBytes")
    der = raw.base64()
    if not der:
        raw.fail("an empty certificate", expected="a certificate in DER")
    return der


def _is_self_issued(der: bytes, cursor: Cursor) -> bool:
    # Local: a bundle of version 0.3 needs no X.509 to be read, nor does one by key.
    from sigkit.keys.certificate import read_certificate

    try:
        certificate = read_certificate(der)
    except ValueError:
        cursor.fail("not a certificate in DER")
    return certificate.issuer == certificate.subject


def _parse_entries(material: Cursor, version: str, limits: Limits) -> tuple[LogEntry, ...]:
    entries = material.find("tlogEntries")
    items = entries.items(limits.log_entries) if entries else ()
    if not items:
        return ()
    # Local: a signature by key mostly has none, and then nothing of logs is loaded.
    from sigkit.evidence.entries import parse_entries

    return parse_entries(items, version)


def _parse_timestamps(material: Cursor, limits: Limits) -> tuple[bytes, ...]:
    data = material.find("timestampVerificationData")
    stamps = data.only(("rfc3161Timestamps",)).find("rfc3161Timestamps") if data else None
    if stamps is None:
        return ()
    found: list[bytes] = []
    for item in stamps.items(limits.timestamps):
        stamp = item.only(("signedTimestamp",)).member("signedTimestamp").base64()
        if stamp in found:  # one time must not count twice
            item.fail("the same timestamp twice", expected="another authority's", got=f"{len(stamp)} bytes")
        found.append(stamp)
    return tuple(found)
