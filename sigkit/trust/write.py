"""Trust roots and signing configs as their files, for services of one's own.

What is written here is read by every client of sigstore: a log has the id that they look it up by, and each list stands in the order in
which its members began.

Source: sigstore/protobuf-specs sigstore_trustroot.proto; C2SP signed-note.md for the ids of Ed25519 keys.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final, TypeVar

from sigkit.digest import Digest
from sigkit.errors import Place, UnsupportedTrustedRoot
from sigkit.keys.public import ECDSA_P256, ECDSA_P384, ECDSA_P521, ED25519, RSA
from sigkit.strict import encode_base64
from sigkit.tlog.note import ED25519_TYPE, key_id_of
from sigkit.trust import signing_config, trusted_root
from sigkit.trust.root import CertificateAuthority, Origin, TimestampAuthority, TransparencyLog, TrustedRoot, Window
from sigkit.trust.signing_config import AnyOne, EveryOne, Exactly
from sigkit.trust.trusted_root import host_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from cryptography import x509

    from sigkit.keys.public import PublicKey
    from sigkit.strict import Json
    from sigkit.trust.signing_config import Selector, Service

_DatedT = TypeVar("_DatedT", TransparencyLog, CertificateAuthority, TimestampAuthority)

WRITTEN: Final = Origin("written here", Digest.of(b""))  # of what no file says yet
_DETAILS: Final = {
    ECDSA_P256: "PKIX_ECDSA_P256_SHA_256",
    ECDSA_P384: "PKIX_ECDSA_P384_SHA_384",
    ECDSA_P521: "PKIX_ECDSA_P521_SHA_512",
    ED25519: "PKIX_ED25519",
}
_RSA_BITS: Final = (2048, 3072, 4096)
_KEY_BYTES: Final = 32


def log_of(url: str, key: PublicKey, valid: Window, operator: str) -> TransparencyLog:
    """Describe a log of signatures by its URL, whose host is the origin of its checkpoints.

    Raises:
        UnsupportedTrustedRoot: (ROOT) a key that clients do not read in a root.
    """
    _details(key, url)
    host = host_of(url)
    # What rekor-tiles and its clients take for the id of a log.
    log_id = key_id_of(host, ED25519_TYPE, key.spki[-_KEY_BYTES:]) if key.kind == ED25519 else hashlib.sha256(key.spki).digest()
    # No checkpointKeyId: roots of version 0.1 have none, it would be the start of the log's id, and sigstore-js 4 takes it for the whole.
    return TransparencyLog(url, log_id, key, valid, operator, None, host, WRITTEN)


def certificate_log_of(url: str, key: PublicKey, valid: Window, operator: str) -> TransparencyLog:
    """Describe a log of certificates: its id is the hash of its key, of whatever kind that is (RFC 6962 section 3.2).

    Raises:
        UnsupportedTrustedRoot: (ROOT) a key that clients do not read in a root.
    """
    _details(key, url)
    return TransparencyLog(url, hashlib.sha256(key.spki).digest(), key, valid, operator, None, host_of(url), WRITTEN)


def certificate_authority_of(uri: str, chain: Sequence[x509.Certificate], valid: Window, operator: str) -> CertificateAuthority:
    """Describe an authority for certificates: intermediates first, the anchor last."""
    return CertificateAuthority(uri, tuple(chain), valid, operator, WRITTEN)


def timestamp_authority_of(uri: str, chain: Sequence[x509.Certificate], valid: Window, operator: str) -> TimestampAuthority:
    """Describe an authority for timestamps: the certificate that signs them first, the anchor last."""
    return TimestampAuthority(uri, tuple(chain), valid, operator, WRITTEN)


def encode_trusted_root(root: TrustedRoot) -> bytes:
    """Write a trusted root. Keys that flags or a policy name are no part of its file.

    Raises:
        UnsupportedTrustedRoot: (ROOT) a log's key that clients do not read.
    """
    return _encode(
        {
            "mediaType": trusted_root.MEDIA_TYPE,
            "tlogs": [_log(log) for log in _by_start(root.logs)],
            "certificateAuthorities": [_authority(item) for item in _by_start(root.certificate_authorities)],
            "ctlogs": [_log(log) for log in _by_start(root.ct_logs)],
            "timestampAuthorities": [_authority(item) for item in _by_start(root.timestamp_authorities)],
        }
    )


def encode_signing_config(
    certificate_authorities: Iterable[Service] = (),
    issuers: Iterable[Service] = (),
    logs: Iterable[Service] = (),
    timestamp_authorities: Iterable[Service] = (),
    *,
    log_selector: Selector = AnyOne(),  # noqa: B008 # immutable
    timestamp_selector: Selector = AnyOne(),  # noqa: B008 # immutable
) -> bytes:
    """Write a signing config. The selectors are always written: cosign's client ends in a crash without them."""
    return _encode(
        {
            "mediaType": signing_config.MEDIA_TYPE,
            "caUrls": [_service(item) for item in certificate_authorities],
            "oidcUrls": [_service(item) for item in issuers],
            "rekorTlogUrls": [_service(item) for item in logs],
            "rekorTlogConfig": _selector(log_selector),
            "tsaUrls": [_service(item) for item in timestamp_authorities],
            "tsaConfig": _selector(timestamp_selector),
        }
    )


def _encode(document: Json) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _by_start(items: Iterable[_DatedT]) -> list[_DatedT]:
    return sorted(items, key=lambda item: item.valid.start.timestamp() if item.valid.start else 0.0)


def _log(log: TransparencyLog) -> Json:
    key: dict[str, Json] = {
        "rawBytes": encode_base64(log.key.spki),
        "keyDetails": _details(log.key, log.name),
        "validFor": _window(log.valid),
    }
    document: dict[str, Json] = {
        "baseUrl": log.name,
        "hashAlgorithm": "SHA2_256",
        "publicKey": key,
        "logId": {"keyId": encode_base64(log.log_id)},
    }
    if log.checkpoint_key_id is not None:
        document["checkpointKeyId"] = {"keyId": encode_base64(log.checkpoint_key_id)}
    return _with_operator(document, log.operator)


def _authority(authority: CertificateAuthority | TimestampAuthority) -> Json:
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    subject = authority.certificates[-1].subject
    # sigstore-python reads no authority that lacks either name, whatever its certificate says.
    said: dict[str, Json] = {
        "organization": _said(subject, NameOID.ORGANIZATION_NAME) or authority.operator or authority.name,
        "commonName": _said(subject, NameOID.COMMON_NAME) or authority.name,
    }
    chain: list[Json] = [{"rawBytes": encode_base64(item.public_bytes(Encoding.DER))} for item in authority.certificates]
    document: dict[str, Json] = {
        "subject": said,
        "uri": authority.name,
        "certChain": {"certificates": chain},
        "validFor": _window(authority.valid),
    }
    return _with_operator(document, authority.operator)


def _said(subject: x509.Name, oid: x509.ObjectIdentifier) -> str:
    return next((str(item.value) for item in subject.get_attributes_for_oid(oid)), "")


def _service(service: Service) -> Json:
    return {"url": service.url, "majorApiVersion": service.version, "validFor": _window(service.valid), "operator": service.operator}


def _selector(selector: Selector) -> Json:
    match selector:
        case AnyOne():
            return {"selector": "ANY"}
        case EveryOne():
            return {"selector": "ALL"}
        case Exactly(count):
            return {"selector": "EXACT", "count": count}


def _window(window: Window) -> Json:
    """Write a window. The start is always there: sigstore-go takes no log without one."""
    start: Json = _time(window.start) if window.start else "1970-01-01T00:00:00Z"
    return {"start": start, "end": _time(window.end)} if window.end else {"start": start}


def _time(when: datetime) -> str:
    return when.replace(tzinfo=None).isoformat() + "Z"  # UTC already; the fraction only where there is one


def _with_operator(document: dict[str, Json], operator: str) -> Json:
    return {**document, "operator": operator} if operator else document


def _details(key: PublicKey, name: str) -> str:
    if key.kind in _DETAILS:
        return _DETAILS[key.kind]
    if key.kind == RSA and key.size_bits in _RSA_BITS:
        return f"PKIX_RSA_PKCS1V15_{key.size_bits}_SHA256"
    raise UnsupportedTrustedRoot(
        "a key that clients do not read in a trusted root",
        place=Place(name),
        expected=f"{', '.join(_DETAILS)}, or rsa of {', '.join(map(str, _RSA_BITS))} bits",
        got=f"{key.kind} of {key.size_bits} bits",
    )
