"""Signed certificate timestamps inside a certificate: a certificate log's promise to include it.

The log signed the certificate without its promise (the precertificate), together with the key of whoever issued it.

Source: RFC 6962 sections 3.2 and 3.3.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sigkit.errors import BadSct, BadSignature
from sigkit.keys.public import RSA

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.x509.certificate_transparency import SignedCertificateTimestamp

    from sigkit.errors import Place
    from sigkit.keys.public import PublicKey


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def verify_sct(certificate: x509.Certificate, issuer_key: bytes, sct: SignedCertificateTimestamp, key: PublicKey, place: Place) -> datetime:
    """Prove that a certificate log signed the promise in a certificate, and return the time that it states.

    Args:
        certificate: that carries the promise.
        issuer_key: SubjectPublicKeyInfo of the certificate that was proved to have issued it.
        sct: one of its promises.
        key: the log's.
        place: of the evidence.

    Raises:
        BadSct: (TLOG) of another version, kind or algorithm, or not signed by the log.
    """
    from cryptography.x509.certificate_transparency import LogEntryType, SignatureAlgorithm, Version

    try:
        stated = sct.timestamp.replace(tzinfo=UTC)  # it is UTC without saying so
        hashed, signed_by = sct.signature_hash_algorithm.name, sct.signature_algorithm
        body = certificate.tbs_precertificate_bytes
    except ValueError as err:
        raise BadSct("the promise of a certificate log is malformed", place=place, got=str(err)[:200]) from err
    if sct.version != Version.v1 or sct.entry_type != LogEntryType.PRE_CERTIFICATE:
        raise BadSct("the promise of a certificate log is of another kind", place=place, expected="version 1, of a precertificate")
    if hashed != "sha256" or signed_by != (SignatureAlgorithm.RSA if key.kind == RSA else SignatureAlgorithm.ECDSA):
        raise BadSct(
            "the promise of a certificate log states another algorithm than it is signed by",
            place=place,
            expected=f"SHA-256 and {'RSA' if key.kind == RSA else 'ECDSA'} (RFC 6962 section 2.1.4)",
            got=f"{hashed} and {signed_by.name}",
        )
    milliseconds = (stated - _EPOCH) // _MILLISECOND
    extensions = sct.extension_bytes
    message = b"".join(
        (
            b"\x00\x00",  # version 1, certificate_timestamp
            milliseconds.to_bytes(8, "big"),
            b"\x00\x01",  # precert_entry
            hashlib.sha256(issuer_key).digest(),
            len(body).to_bytes(3, "big"),
            body,
            len(extensions).to_bytes(2, "big"),
            extensions,
        )
    )
    try:
        key.verify(sct.signature, message)
    except BadSignature as err:
        raise BadSct("a certificate log did not sign the promise in the certificate", place=place, got=sct.log_id.hex()) from err
    return stated
