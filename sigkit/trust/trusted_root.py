"""`trusted_root.json`: the authorities and logs of one sigstore instance.

Parsed strictly, as sigstore-go does: an unknown member is refused by name, and so is a log without the start of its validity, whose key
would count for ever. Each certificate's issuer is checked here, once; what it allows is checked with each signer's path.

Source: sigstore/protobuf-specs sigstore_trustroot.proto, sigstore_common.proto.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from sigkit import limits as all_limits
from sigkit import strict
from sigkit.digest import Digest
from sigkit.errors import MalformedTrustedRoot, UnsupportedTrustedRoot
from sigkit.keys.certificate import read_certificate
from sigkit.keys.pem import encode_pem
from sigkit.keys.public import ECDSA_P256, ECDSA_P384, ECDSA_P521, ED25519, RSA, of_library, parse_public_key
from sigkit.trust.root import CertificateAuthority, Origin, TimestampAuthority, TransparencyLog, TrustedRoot, Window

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

    from sigkit.errors import Place
    from sigkit.keys.public import PublicKey
    from sigkit.limits import Limits
    from sigkit.strict import Cursor

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
# Of any version: the two files of an instance are often swapped, which is said.
ANY_TRUSTED_ROOT: Final = "application/vnd.dev.sigstore.trustedroot"
_ANY_SIGNING_CONFIG: Final = "application/vnd.dev.sigstore.signingconfig"
_MEMBERS: Final = ("mediaType", "tlogs", "certificateAuthorities", "ctlogs", "timestampAuthorities")
_LOG_MEMBERS: Final = ("baseUrl", "hashAlgorithm", "publicKey", "logId", "checkpointKeyId", "operator")
_AUTHORITY_MEMBERS: Final = ("subject", "uri", "certChain", "validFor", "operator")
# What a root calls the kinds of key that are read. The name must fit the key: a root that says something else was put together wrongly.
_PKCS1: Final = "PKCS1_RSA_PKCS1V5"
_KEY_DETAILS: Final = {
    _PKCS1: RSA,
    "PKIX_RSA_PKCS1V5": RSA,
    "PKIX_RSA_PKCS1V15_2048_SHA256": RSA,
    "PKIX_RSA_PKCS1V15_3072_SHA256": RSA,
    "PKIX_RSA_PKCS1V15_4096_SHA256": RSA,
    "PKIX_ECDSA_P256_SHA_256": ECDSA_P256,
    "PKIX_ECDSA_P384_SHA_384": ECDSA_P384,
    "PKIX_ECDSA_P521_SHA_512": ECDSA_P521,
    "PKIX_ED25519": ED25519,
}
_LOG_ID_BYTES: Final = 32
_CHECKPOINT_ID_BYTES: Final = 4
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z", re.ASCII)


def parse_trusted_root(raw: bytes, name: str, place: Place, limits: Limits) -> TrustedRoot:
    """Read a trusted root.

    Args:
        raw: the file.
        name: what it is called in facts.
        place: of the file.
        limits: on its size and depth.

    Raises:
        UnsupportedTrustedRoot: (ROOT) TUF metadata or another media type, a hash that is not SHA-256, or a kind of key that is not read.
        MalformedTrustedRoot: (ROOT) a certificate that its successor did not issue, or is none; a log twice; a timestamp authority under
            two names; a key of another kind than stated.
        LimitError: too big, too many, too deep.
        ParseError: malformed; an unknown or a missing member.
        SigError: a key that is not accepted.
    """
    top = strict.parse_json(raw, most_bytes=limits.bundle_bytes, place=place, depth=limits.json_depth)
    if top.find("signed") and top.find("signatures"):
        raise UnsupportedTrustedRoot(
            "TUF metadata, which leads to a trusted root and is none", place=place, remedy="sigkit trust init NAME --mirror URL --root FILE"
        )
    kind = top.member("mediaType")
    if kind.text().startswith(_ANY_SIGNING_CONFIG):
        raise UnsupportedTrustedRoot(
            "this is a signing config, not a trusted root",
            place=kind.at(),
            expected=MEDIA_TYPE,
            got=kind.text()[:200],
            remedy="give the trusted_root.json of the instance; are --signing-config and --trusted-root swapped?",
        )
    if kind.text() != MEDIA_TYPE:
        raise UnsupportedTrustedRoot("not a trusted root that is read", place=kind.at(), expected=MEDIA_TYPE, got=kind.text()[:200])
    top.only(_MEMBERS)
    source = Origin(name, Digest.of(raw))
    return TrustedRoot(
        name,
        source.digest,
        (),
        tuple(_parse_authority(item, source) for item in _items(top, "certificateAuthorities")),
        _parse_logs(top, "tlogs", source),
        _parse_logs(top, "ctlogs", source),
        _parse_timestamp_authorities(top, source),
    )


def _items(top: Cursor, name: str) -> tuple[Cursor, ...]:
    found = top.find(name)
    return found.items(all_limits.TRUSTED_ITEMS) if found else ()


def _parse_logs(top: Cursor, name: str, source: Origin) -> tuple[TransparencyLog, ...]:
    logs: dict[bytes, TransparencyLog] = {}
    for item in _items(top, name):
        log = _parse_log(item, source)
        if log.log_id in logs or any(_is_same(log, other) for other in logs.values()):
            raise MalformedTrustedRoot("the same log is there twice", place=item.at(), got=log.name)
        logs[log.log_id] = log
    return tuple(logs.values())


def _is_same(log: TransparencyLog, other: TransparencyLog) -> bool:
    """Tell whether one key would count as two logs: it may have several only under one operator's name."""
    return log.key == other.key and not (log.operator and log.operator == other.operator)


def _parse_log(cursor: Cursor, source: Origin) -> TransparencyLog:
    cursor.only(_LOG_MEMBERS)
    algorithm = cursor.member("hashAlgorithm")
    if isinstance(algorithm.value, bool) or algorithm.value not in ("SHA2_256", 1):  # a tuple: JSON has values without a hash
        raise UnsupportedTrustedRoot("a log with a hash that is not read", place=algorithm.at(), expected="SHA2_256")
    key = cursor.member("publicKey").only(("rawBytes", "keyDetails", "validFor"))
    checkpoint_id = cursor.find("checkpointKeyId")
    url = _text(cursor, "baseUrl")
    return TransparencyLog(
        name=url or "(a log without a URL)",
        log_id=_key_id(cursor.member("logId"), _LOG_ID_BYTES),
        key=_parse_key(key),
        valid=parse_window(key.member("validFor")),
        operator=_text(cursor, "operator"),
        checkpoint_key_id=_key_id(checkpoint_id, _CHECKPOINT_ID_BYTES) if checkpoint_id else None,
        origin=host_of(url),
        source=source,
    )


def _parse_key(key: Cursor) -> PublicKey:
    stated, raw = key.find("keyDetails"), key.member("rawBytes")
    if stated is None:
        return parse_public_key(raw.base64(), raw.at())
    details = stated.text()
    kind = _KEY_DETAILS.get(details)
    if kind is None:
        raise UnsupportedTrustedRoot(
            "a log whose key is of a kind that is not read", place=stated.at(), expected=" or ".join(_KEY_DETAILS), got=details[:200]
        )
    encoded = raw.base64()
    parsed = parse_public_key(encode_pem("RSA PUBLIC KEY", encoded) if details == _PKCS1 else encoded, raw.at())
    if parsed.kind != kind:
        raise MalformedTrustedRoot("a key of another kind than the root says", place=raw.at(), expected=details, got=parsed.kind)
    return parsed


def host_of(url: str) -> str:
    """Return the first line of the log's checkpoints: the host, without port, scheme and path (sigstore-go pkg/verify/tlog.go)."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _parse_authority(cursor: Cursor, source: Origin) -> CertificateAuthority:
    cursor.only(_AUTHORITY_MEMBERS)
    certificates = _parse_chain(cursor)
    for certificate in certificates:
        check_issuer(certificate, cursor.at())
    return CertificateAuthority(
        _name(cursor, certificates), certificates, parse_window(cursor.member("validFor")), _text(cursor, "operator"), source
    )


def check_issuer(certificate: x509.Certificate, place: Place) -> None:
    """Refuse an authority's certificate whose key `cryptography` follows in no path, whatever it signed.

    Raises:
        UnsupportedTrustedRoot: (ROOT) an Ed25519 key.
        UnsupportedKey: (SIG) another that is not accepted.
        MalformedTrustedRoot: (ROOT) none at all.
    """
    if of_library(_key_in(certificate, place), place).kind == ED25519:
        raise UnsupportedTrustedRoot(
            "a certificate authority with a key of a kind that is not verified in certificates",
            place=place,
            expected="ECDSA or RSA",
            got=ED25519,
            remedy="let an authority with an ECDSA key issue the certificates",
        )


def _key_in(certificate: x509.Certificate, place: Place) -> CertificatePublicKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as err:
        raise MalformedTrustedRoot("an authority's certificate without a key that can be read", place=place, got=str(err)[:200]) from err


def _parse_timestamp_authorities(top: Cursor, source: Origin) -> tuple[TimestampAuthority, ...]:
    authorities: list[TimestampAuthority] = []
    for item in _items(top, "timestampAuthorities"):
        authority = _parse_timestamp_authority(item, source)
        if any(_is_under_two_names(authority, other, item.at()) for other in authorities):
            raise MalformedTrustedRoot("one timestamp authority is there under two names", place=item.at(), got=authority.name)
        authorities.append(authority)
    return tuple(authorities)


def _is_under_two_names(authority: TimestampAuthority, other: TimestampAuthority, place: Place) -> bool:
    """Tell whether one key would count as two authorities: it may have several windows only under what it counts by."""
    if authority.operator == other.operator and (authority.operator or authority.name == other.name):
        return False
    return _key_in(authority.certificates[0], place) == _key_in(other.certificates[0], place)


def _parse_timestamp_authority(cursor: Cursor, source: Origin) -> TimestampAuthority:
    cursor.only(_AUTHORITY_MEMBERS)
    certificates = _parse_chain(cursor)
    return TimestampAuthority(
        _name(cursor, certificates), certificates, parse_window(cursor.member("validFor")), _text(cursor, "operator"), source
    )


def _name(cursor: Cursor, certificates: tuple[x509.Certificate, ...]) -> str:
    if subject := cursor.find("subject"):
        subject.only(("organization", "commonName"))
    return _text(cursor, "uri") or certificates[-1].subject.rfc4514_string()


def _parse_chain(cursor: Cursor) -> tuple[x509.Certificate, ...]:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    listed = cursor.member("certChain").only(("certificates",)).member("certificates")
    items = listed.items(all_limits.CERTIFICATES)
    if not items:
        listed.fail("a chain without a certificate", expected="at least one", got="none")
    chain: list[x509.Certificate] = []
    for item in items:
        raw = item.only(("rawBytes",)).member("rawBytes")
        try:
            certificate = read_certificate(raw.base64())
            if chain:
                chain[-1].verify_directly_issued_by(certificate)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as err:
            raise MalformedTrustedRoot(
                "a certificate is malformed, or did not issue the one before it", place=raw.at(), got=f"{type(err).__name__} {err}"[:200]
            ) from err
        chain.append(certificate)
    return tuple(chain)


def parse_window(cursor: Cursor) -> Window:
    """Read a `validFor`.

    Raises:
        MalformedTrustedRoot: (ROOT) it ends before it starts.
        ParseError: malformed.
    """
    cursor.only(("start", "end"))
    start, end = cursor.member("start"), cursor.find("end")
    window = Window(_parse_time(start), _parse_time(end) if end else None)
    if window.start and window.end and window.end < window.start:
        raise MalformedTrustedRoot("a validity that ends before it starts", place=cursor.at())
    return window


def _parse_time(cursor: Cursor) -> datetime:
    """Read protobuf's form of RFC 3339: UTC, with or without a fraction of a second."""
    text = cursor.text()
    if not _TIME.fullmatch(text):
        cursor.fail("not a time", expected="RFC 3339 in UTC, such as 2026-01-01T00:00:00Z")
    try:
        return datetime.fromisoformat(text[:26].removesuffix("Z")).replace(tzinfo=UTC)
    except ValueError:
        cursor.fail("not a time", expected="a day and hour that exist")


def _key_id(cursor: Cursor, length: int) -> bytes:
    key_id = cursor.only(("keyId",)).member("keyId")
    value = key_id.base64()
    if len(value) != length:
        key_id.fail("an id of another length", expected=f"{length} bytes", got=f"{len(value)} bytes")
    return value


def _text(cursor: Cursor, name: str) -> str:
    found = cursor.find(name)
    return found.text() if found else ""
