"""What stands above the certificate with which an authority issues, verified once for all the certificates that it issued.

A path from a signer to the anchor has one link of its own, the lowest. Those above it, and what they forbid, are the trust root's and the
same each time. Where they forbid nothing about a signer, a path that ends at the issuing certificate is as good as one to the anchor;
where they may, every path is built whole.

The rules of `cryptography` for a path (RFC 5280 section 6, read in its source) that look at more than one link: name constraints, which
bind every name beneath; the path length, which counts what is between; the depth. The others look at one certificate, or at one and its
issuer.

Source: RFC 5280 sections 4.2.1.9, 4.2.1.10, 6.1; pyca/cryptography src/rust/cryptography-x509-verification.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final

from sigkit.data import Data
from sigkit.keys.public import of_library

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.x509 import verification

    from sigkit.keys.public import PublicKey

PATH_CERTIFICATES: Final = 8  # above the leaf, without the anchor; Fulcio's path has one
_KEPT_AUTHORITIES: Final = 32


class Issuing(Data):
    """An authority's lowest certificate: a path that ends there is one to the anchor, at each time at which those above are valid."""

    certificate: x509.Certificate
    store: verification.Store


@lru_cache(maxsize=_KEPT_AUTHORITIES)
def find_issuing(certificates: tuple[x509.Certificate, ...]) -> Issuing | None:
    """Return the certificate at which a path may end; None where what stands above it forbids something, or is itself no path.

    Args:
        certificates: the authority's: intermediates first, the anchor last.
    """
    from cryptography.x509 import verification

    lowest, *above = certificates
    if above and not (all(_forbids_nothing(certificate, depth) for depth, certificate in enumerate(above, 1)) and _is_path(certificates)):
        return None
    return Issuing(lowest, verification.Store([lowest]))


@lru_cache(maxsize=_KEPT_AUTHORITIES)
def key_of(certificate: x509.Certificate) -> PublicKey:
    """Return the key of an authority's certificate.

    Raises:
        UnsupportedKey: (SIG) one that is not accepted.
    """
    return of_library(certificate.public_key())


def _forbids_nothing(certificate: x509.Certificate, depth: int) -> bool:
    """Tell whether a certificate binds no name beneath it, and lets as many authorities be between it and a signer as there are."""
    from cryptography import x509

    length = None
    try:
        for extension in certificate.extensions:
            if isinstance(extension.value, x509.NameConstraints):
                return False
            if isinstance(extension.value, x509.BasicConstraints):
                length = extension.value.path_length
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return False
    return length is None or depth <= length


def _is_path(certificates: tuple[x509.Certificate, ...]) -> bool:
    """Tell whether the certificates alone are a path by the rules for authorities, at the moment at which the last of them began."""
    from cryptography.x509 import verification

    lowest, *between, anchor = certificates
    builder = (
        verification.PolicyBuilder()
        .store(verification.Store([anchor]))
        .time(max(certificate.not_valid_before_utc for certificate in certificates))
        .max_chain_depth(PATH_CERTIFICATES - 1)  # one will stand beneath the lowest
        .extension_policies(ca_policy=authority_policy(), ee_policy=authority_policy())
    )
    try:
        found = builder.build_client_verifier().verify(lowest, between).chain
    except verification.VerificationError:
        return False
    return tuple(found) == certificates


@cache
def authority_policy() -> verification.ExtensionPolicy:
    """Return what the extensions of an authority's certificate must be."""
    from cryptography.x509 import ExtendedKeyUsage, verification

    return verification.ExtensionPolicy.webpki_defaults_ca().may_be_present(
        ExtendedKeyUsage, verification.Criticality.AGNOSTIC, _require_code_signing
    )


@cache
def leaf_policy() -> verification.ExtensionPolicy:
    """Return what the extensions of a signer's certificate must be."""
    from cryptography.x509 import ExtendedKeyUsage, SubjectAlternativeName, verification

    return (
        verification.ExtensionPolicy.permit_all()
        .require_present(ExtendedKeyUsage, verification.Criticality.AGNOSTIC, _require_code_signing)
        .require_present(SubjectAlternativeName, verification.Criticality.AGNOSTIC, None)
    )


def _require_code_signing(_policy: object, _certificate: object, usage: x509.ExtendedKeyUsage | None) -> None:
    from cryptography.x509.oid import ExtendedKeyUsageOID

    if usage is not None and ExtendedKeyUsageOID.CODE_SIGNING not in usage:
        raise ValueError("the extended key usage is not for signing code")
