"""A certificate authority of one's own, from a file of certificates in PEM: intermediates first, the anchor last. Pure.

A chain says nothing about when the authority was trusted beyond its certificates' own validity, so none is added here; verification checks
the whole chain at every attested time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.digest import Digest
from sigkit.errors import MalformedTrustedRoot, SigkitError
from sigkit.evidence.legacy import parse_chain
from sigkit.keys.certificate import load_certificate
from sigkit.trust.root import CertificateAuthority, Origin, Window
from sigkit.trust.trusted_root import check_issuer

if TYPE_CHECKING:
    from cryptography import x509

    from sigkit.errors import Place

_ALWAYS = Window(None, None)


def parse_certificate_authority(raw: bytes, name: str, place: Place) -> CertificateAuthority:
    """Parse a chain; each certificate was issued by the next, and each may issue others.

    Raises:
        MalformedTrustedRoot: (ROOT) malformed, out of order, or a certificate that may not issue others.
        UnsupportedTrustedRoot, UnsupportedKey: (ROOT, SIG) a key of a kind that is not verified in certificates.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    chain: list[x509.Certificate] = []
    try:
        ders = parse_chain(raw, place)
    except SigkitError as err:
        raise MalformedTrustedRoot(f"not a chain of certificates: {err.problem}", place=place, expected="certificates in PEM") from err
    for number, der in enumerate(ders, 1):
        try:
            certificate = load_certificate(der)
            if chain:
                chain[-1].verify_directly_issued_by(certificate)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.InvalidVersion) as err:
            problem = f"certificate {number} is malformed, or did not issue the one before it"
            expected = "intermediates first, the anchor last"
            raise MalformedTrustedRoot(problem, place=place, expected=expected, got=f"{type(err).__name__} {err}"[:200]) from err
        check_issuer(certificate, place)
        if not _may_issue(certificate):
            problem = f"certificate {number} may not issue others"
            remedy = "leave the signer's own certificate out: the evidence brings it"
            raise MalformedTrustedRoot(problem, place=place, got=certificate.subject.rfc4514_string()[:200], remedy=remedy)
        chain.append(certificate)
    return CertificateAuthority(name, tuple(chain), _ALWAYS, "", Origin(name, Digest.of(raw)))


def _may_issue(certificate: x509.Certificate) -> bool:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return False
