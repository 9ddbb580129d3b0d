"""The signer's certificate: issued by an authority of the trust root, for signing code, valid at every attested time, naming one identity.

Paths are built by `cryptography` (RFC 5280 section 6); the certificates of the path that it found are compared with every attested time
here. What its policies leave open is checked here: that the leaf is no CA and no certificate of the authority, that its key may
sign, its purpose, and exactly one subject alternative name. The issuer for certificate logs is the one that was verified, not one found by
its name (sigstore-rust#154).

Not handled: revocation, which short-lived certificates do without; Ed25519 authorities, which the library refuses.

Source: sigstore/fulcio docs/certificate-specification.md; RFC 5280 sections 4.2.1.3, 4.2.1.6, 4.2.1.9, 4.2.1.12; RFC 6962 section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit import limits
from sigkit.data import Data
from sigkit.errors import (
    AmbiguousIdentity,
    MalformedCertificate,
    NoAttestedTime,
    OutsideAuthority,
    OutsideCertificate,
    SigkitError,
    UntrustedCertificate,
)
from sigkit.keys.certificate import read_certificate, refusals
from sigkit.keys.public import of_library
from sigkit.strict import encode_base64
from sigkit.text import format_time
from sigkit.tlog.sct import verify_sct
from sigkit.verify.extensions import ISSUER, USERNAME_OID, decode_utf8_string, read_extensions
from sigkit.verify.facts import CertificateLogFact, IdentitySigner, SignerFact, Source, Unchecked, Vouched
from sigkit.verify.issuing import PATH_CERTIFICATES, authority_policy, find_issuing, key_of, leaf_policy
from sigkit.verify.windows import check_certificates, check_window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from cryptography import x509
    from cryptography.x509 import verification

    from sigkit.errors import Place
    from sigkit.keys.public import PublicKey
    from sigkit.trust.root import CertificateAuthority, TransparencyLog, TrustedRoot
    from sigkit.verify.facts import TimeFact


class SigningCertificate(Data):
    """The certificate that evidence brings, and its key. Nothing says yet that anybody vouches for it."""

    certificate: x509.Certificate
    der: bytes
    offered: tuple[x509.Certificate, ...]
    key: PublicKey
    extensions: Mapping[x509.ObjectIdentifier, x509.ExtensionType]


def parse_signing_certificate(chain: Sequence[bytes], place: Place) -> SigningCertificate:
    """Read the certificates that evidence brings, the signer's first.

    Raises:
        MalformedCertificate: (SIG) not X.509 in DER.
        UnsupportedKey, MalformedKey: (SIG) a key that is not accepted.
    """
    try:
        certificates = [read_certificate(der) for der in chain]
        key = certificates[0].public_key()
    except refusals() as err:
        raise MalformedCertificate("the certificate is malformed", place=place, got=str(err)[:200]) from err
    leaf, *offered = certificates
    extensions = {extension.oid: extension.value for extension in leaf.extensions}
    return SigningCertificate(leaf, chain[0], tuple(offered), of_library(key, place), extensions)


def verify_chain(signing: SigningCertificate, times: Sequence[TimeFact], root: TrustedRoot, place: Place) -> Vouched:
    """Prove that an authority of the root, which has at least one, vouched for the signer's identity at every attested time.

    Raises:
        NoAttestedTime: (TIME) nothing trusted says when the signature was made.
        UntrustedCertificate: (ROOT) no path to an authority of the root, or the certificate is not for this.
        OutsideCertificate, OutsideAuthority: (TIME) a path, but not at one of the times.
        AmbiguousIdentity: (IDENT) not exactly one identity.
        BadSct: (TLOG) a known certificate log did not sign what the certificate carries.
    """
    if not times:
        raise NoAttestedTime(
            "nothing trusted says when the signature was made", place=place, expected="a timestamp, or a log's signed time"
        )
    _check_leaf(signing, place)
    authority, path = _find_path(signing, times, root.certificate_authorities, place)
    identity = _identity(signing, place)
    issuer = path[1]
    key = key_of(issuer) if issuer in authority.certificates else of_library(issuer.public_key(), place)
    logged, unchecked = _verify_scts(signing, key, root.ct_logs, place)
    source = Source(authority.source.name, authority.source.digest, authority.name)
    return Vouched(SignerFact(identity, source), logged, unchecked)


def _find_path(
    signing: SigningCertificate, times: Sequence[TimeFact], authorities: Sequence[CertificateAuthority], place: Place
) -> tuple[CertificateAuthority, tuple[x509.Certificate, ...]]:
    """Return the first authority with a path that holds at every time; the refusal is that of the path that came closest."""
    refusals: list[SigkitError] = []
    # The one whose name the certificate carries first: its path is the likely one, and a search without success costs as much.
    issuer = signing.certificate.issuer
    for authority in sorted(authorities, key=lambda authority: not _has_name(authority, issuer)):
        try:
            return authority, _verify_path(signing, times, authority, _links(signing, authority, authorities), place)
        except SigkitError as err:
            refusals.append(err)
    raise next((err for err in refusals if not isinstance(err, UntrustedCertificate)), refusals[0])


def _links(
    signing: SigningCertificate, authority: CertificateAuthority, authorities: Sequence[CertificateAuthority]
) -> tuple[x509.Certificate, ...]:
    """Return what may stand between the signer and the anchor.

    Whoever lists intermediates means those, and says until when. Only beneath an anchor that stands alone may evidence bring its own, and
    none that stands elsewhere in the trust root: one whose time has ended there does not come back by another way.
    """
    *listed, _ = authority.certificates
    if listed:
        return tuple(listed)
    elsewhere = {certificate for other in authorities for certificate in other.certificates}
    return tuple(certificate for certificate in signing.offered if certificate not in elsewhere)


def _has_name(authority: CertificateAuthority, name: x509.Name) -> bool:
    return any(certificate.subject == name for certificate in authority.certificates)


def _verify_path(
    signing: SigningCertificate,
    times: Sequence[TimeFact],
    authority: CertificateAuthority,
    links: Sequence[x509.Certificate],
    place: Place,
) -> tuple[x509.Certificate, ...]:
    if signing.certificate in authority.certificates:
        raise UntrustedCertificate("the signer's certificate is the authority's own", place=place, got=authority.name)
    path = _find_short_path(signing, authority) or _build_path(signing, authority, links, place)
    check_certificates(path, times, place)
    check_window(f"the certificate authority {authority.name}", authority.valid, times, place)
    return path


def _find_short_path(signing: SigningCertificate, authority: CertificateAuthority) -> tuple[x509.Certificate, ...] | None:
    """Return the path if the authority's lowest certificate issued the signer's, and nothing above it has a say in that."""
    from cryptography.x509 import verification

    leaf, issuing = signing.certificate, find_issuing(authority.certificates)
    if issuing is None or issuing.certificate.subject != leaf.issuer:
        return None
    moment = max(leaf.not_valid_before_utc, issuing.certificate.not_valid_before_utc)
    try:
        _verifier(issuing.store, moment).verify(leaf, [])
    except verification.VerificationError:
        return None
    return (leaf, *authority.certificates)


def _build_path(
    signing: SigningCertificate, authority: CertificateAuthority, links: Sequence[x509.Certificate], place: Place
) -> tuple[x509.Certificate, ...]:
    """Find a path to the authority, at the first moment at which it can have been whole; the attested times are compared with it after."""
    from cryptography.x509 import verification

    leaf, anchor = signing.certificate, authority.certificates[-1]
    moment = max(certificate.not_valid_before_utc for certificate in (leaf, *links, anchor))
    # The last alone: one that is met in the store ends the path, and what those above it forbid would bind nobody.
    store = verification.Store([anchor])
    try:
        return tuple(_verifier(store, moment).verify(leaf, list(links)).chain)
    except verification.VerificationError as err:
        _refuse_apart(signing, (*links, anchor), moment, place)
        raise UntrustedCertificate(
            "no authority of the trust root issued the signer's certificate",
            place=place,
            expected=authority.name,
            got=f"one issued by {leaf.issuer.rfc4514_string()[:200]}",
            remedy="verify with the trust root of the instance that issued it: --trusted-root, or in a policy `trustedRoots`",
        ) from err


def _verifier(store: verification.Store, moment: datetime) -> verification.ClientVerifier:
    from cryptography.x509 import verification

    return (
        verification.PolicyBuilder()
        .store(store)
        .time(moment)
        .max_chain_depth(PATH_CERTIFICATES)
        .extension_policies(ca_policy=authority_policy(), ee_policy=leaf_policy())
        .build_client_verifier()
    )


def _refuse_apart(signing: SigningCertificate, above: Sequence[x509.Certificate], moment: datetime, place: Place) -> None:
    """Say so where there may be a path, but its certificates were never valid all at once."""
    if signing.certificate.issuer in {issuer.subject for issuer in above}:
        for certificate in (signing.certificate, *above):
            if certificate.not_valid_after_utc < moment:
                raise OutsideCertificate(
                    "the certificates of the chain were never valid all at once",
                    place=place,
                    expected=f"one valid at {format_time(moment)}, when the last of them began",
                    got=f"one until {format_time(certificate.not_valid_after_utc)}",
                )


def _check_leaf(signing: SigningCertificate, place: Place) -> None:
    """Check what path building leaves open: the signer is no authority, and its key is for signatures."""
    from cryptography import x509

    constraints = signing.extensions.get(x509.BasicConstraints.oid)
    if isinstance(constraints, x509.BasicConstraints) and constraints.ca:
        raise UntrustedCertificate("the signer's certificate is that of an authority", place=place, expected="one of an end entity")
    if x509.NameConstraints.oid in signing.extensions:  # RFC 5280 section 4.2.1.10
        raise UntrustedCertificate("the signer's certificate constrains names, as an authority's does", place=place)
    usage = signing.extensions.get(x509.KeyUsage.oid)
    if not isinstance(usage, x509.KeyUsage) or not usage.digital_signature or usage.key_cert_sign:
        raise UntrustedCertificate(
            "the signer's key is not for signatures, or for certificates too",
            place=place,
            expected="key usage digitalSignature, and not keyCertSign",
            got=_usages(usage) if isinstance(usage, x509.KeyUsage) else "no key usage",
        )


def _usages(usage: x509.KeyUsage) -> str:
    named = (("digitalSignature", usage.digital_signature), ("keyCertSign", usage.key_cert_sign))
    return ", ".join(name for name, held in named if held) or "neither"


def _identity(signing: SigningCertificate, place: Place) -> IdentitySigner:
    from cryptography import x509

    alternative = signing.extensions.get(x509.SubjectAlternativeName.oid)
    names = list(alternative) if isinstance(alternative, x509.SubjectAlternativeName) else []
    if len(names) != 1:
        raise AmbiguousIdentity("not exactly one subject alternative name", place=place, expected="1", got=str(len(names)))
    kind, subject = _subject(names[0], place)
    extensions = read_extensions(signing.extensions, place)
    return IdentitySigner(extensions.get(ISSUER, ""), subject, extensions, kind)


def _subject(name: x509.GeneralName, place: Place) -> tuple[str, str]:
    from cryptography import x509

    match name:
        case x509.RFC822Name():
            return "email", name.value
        case x509.UniformResourceIdentifier():
            return "uri", name.value
        case x509.DNSName():
            return "dns", name.value
        case x509.IPAddress():
            return "ip", str(name.value)
        case x509.OtherName() if name.type_id.dotted_string == USERNAME_OID:
            return "username", decode_utf8_string(name.value, "the user name", place)
        case _:
            raise AmbiguousIdentity("a subject alternative name of a kind that is not understood", place=place, got=type(name).__name__)


def _verify_scts(
    signing: SigningCertificate, issuer: PublicKey, logs: Sequence[TransparencyLog], place: Place
) -> tuple[tuple[CertificateLogFact, ...], tuple[Unchecked, ...]]:
    from cryptography import x509

    found = signing.extensions.get(x509.PrecertificateSignedCertificateTimestamps.oid)
    if not isinstance(found, x509.PrecertificateSignedCertificateTimestamps):
        return (), (Unchecked("certificate log", "the certificate carries no promise of one"),)
    facts: list[CertificateLogFact] = []
    unchecked: list[Unchecked] = []
    scts = list(found)
    if len(scts) > limits.LOG_ENTRIES:
        raise MalformedCertificate(f"more than {limits.LOG_ENTRIES} certificate logs", place=place, got=str(len(scts)))
    for sct in scts:
        log_id = sct.log_id  # made anew each time that it is asked for
        log = next((log for log in logs if log.log_id == log_id), None)
        if log is None:
            unchecked.append(Unchecked(f"certificate log {encode_base64(log_id)}", "the trust root holds no such log"))
            continue
        when = verify_sct(signing.certificate, issuer.spki, sct, log.key, place)
        if not log.valid.holds(when):
            raise OutsideAuthority(f"the certificate log {log.name} was not trusted at that time", place=place, got=str(when))
        facts.append(CertificateLogFact(log.name, when, Source(log.source.name, log.source.digest, log.name), log.operator))
    return tuple(facts), tuple(unchecked)
