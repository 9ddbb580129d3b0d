"""Evidence in, facts out. Pure: no network, no files, no clock, no default trust root.

Each step takes what the ones before return: the signature is proved over the bytes received, the statement is read from those bytes and no
others, log entries and timestamps are about that very signature, and whoever vouches for the signer did so at every time that they attest.

One trust root at a time: evidence is proved by one instance, never by the authority of one and the log of another. What cannot be
checked, because the root does not hold who could, is named in the facts and proves nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from sigkit.digest import Digest
from sigkit.errors import NoAttestedTime, NoCertificateAuthority
from sigkit.evidence.bundle import CertificateMaterial, MessageSignature
from sigkit.evidence.envelope import Envelope, pre_authentication_encoding
from sigkit.evidence.simple_signing import parse_simple_signing
from sigkit.evidence.statement import parse_statement
from sigkit.trust.root import TrustedKey
from sigkit.verify.bind import bind_message, bind_simple_signing, bind_statement, check_stated
from sigkit.verify.claims import SignedDocument, read_claims
from sigkit.verify.facts import Attested, Facts, KeySigner, SignerFact, Source, Vouched
from sigkit.verify.signature import OverArtifact, OverBytes, verify_by_key, verify_signature

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sigkit.errors import Place
    from sigkit.evidence.form import Evidence
    from sigkit.limits import Limits
    from sigkit.trust.root import TrustedRoot
    from sigkit.verify.bind import Artifact, Bound
    from sigkit.verify.chain import SigningCertificate
    from sigkit.verify.claims import Claims, Content
    from sigkit.verify.facts import TimeFact
    from sigkit.verify.signature import Signed


def verify(evidence: Evidence, artifact: Artifact, root: TrustedRoot, now: datetime, limits: Limits) -> Facts:
    """Prove what one piece of evidence says about `artifact`.

    Args:
        evidence: raw parts, as found.
        artifact: what it must be about.
        root: whose word counts.
        now: the time of verification: no attested time may lie after it.
        limits: on sizes and counts, applied before parsing.

    Raises:
        LimitError: too big, too many, too deep.
        ParseError: malformed, or of a form or version that is not verified.
        SigError: no trusted key made the signature, or it is invalid.
        BindError: it is about another artifact, or ambiguous; or an entry of a log is about something else.
        TlogError: what a known log signed is wrong.
        TimeError: a time does not fit, or none is attested where one is needed.
        IdentError: the certificate does not name one identity.
        RootError: the root holds nobody who could vouch for it.
    """
    claims = read_claims(evidence, limits)
    if isinstance(claims.content, MessageSignature):
        check_stated(claims.content, artifact, claims.place)
    signed = _signed(claims.content, artifact)
    proved = _prove_signature(claims, signed, root)
    bound = _bind(claims.content, artifact, limits, claims.place)
    attested = _attest(claims, proved, signed, root, now, limits)
    try:
        who = _vouch(proved, attested, root, now, claims.place)
    except NoAttestedTime as err:
        if attested.unchecked:  # what it has is by nobody whom this root knows
            err.problem = "no log or timestamp authority that is trusted says when; it may be of another instance"
            err.got = err.got or "; ".join(f"{item.what}: {item.why}" for item in attested.unchecked)
            err.remedy = (
                err.remedy or "verify with the trust root of the instance that made it: --trusted-root, or in a policy `trustedRoots`"
            )
        raise
    return Facts(
        claims.place,
        claims.form,
        bound.fact,
        who.signer,
        attested.inclusions,
        attested.times,
        unchecked=bound.unchecked + attested.unchecked + who.unchecked + claims.unknown,
        promises=attested.promises,
        certificate_logs=who.certificate_logs,
    )


def _signed(content: Content, artifact: Artifact) -> Signed:
    match content:
        case Envelope():
            return OverBytes(pre_authentication_encoding(content.payload_type, content.payload))
        case SignedDocument():
            return OverBytes(content.payload)
        case MessageSignature():
            return OverArtifact(artifact)
        case _:
            assert_never(content)


def _prove_signature(claims: Claims, signed: Signed, root: TrustedRoot) -> TrustedKey | SigningCertificate:
    material = claims.material
    if not isinstance(material, CertificateMaterial):
        return verify_by_key(signed, claims.content.signature, material.hint, root, claims.place)
    if not root.certificate_authorities:
        raise NoCertificateAuthority(
            "signed by an identity, whose certificate this trust root cannot judge",
            place=claims.place,
            expected="a certificate authority",
            got=f"root {root.name}",
            remedy="say which identity may sign: --certificate-identity with --certificate-oidc-issuer, or in a policy `identity`",
        )
    # Local: a signature by key needs no X.509, which costs 46 ms to import.
    from sigkit.verify.chain import parse_signing_certificate

    signing = parse_signing_certificate(material.chain, claims.place)
    verify_signature(signing.key, signed, claims.content.signature, claims.place)
    return signing


def _bind(content: Content, artifact: Artifact, limits: Limits, place: Place) -> Bound:
    match content:
        case Envelope():
            return bind_statement(parse_statement(content.payload, limits, place), artifact, Digest.of(content.payload), place)
        case SignedDocument():
            return bind_simple_signing(parse_simple_signing(content.payload, limits, place), artifact, Digest.of(content.payload), place)
        case MessageSignature():
            return bind_message(artifact)
        case _:
            assert_never(content)


def _attest(
    claims: Claims, proved: TrustedKey | SigningCertificate, signed: Signed, root: TrustedRoot, now: datetime, limits: Limits
) -> Attested:
    if not claims.entries and not claims.timestamps:
        return Attested()
    # Local: a signature by key mostly has neither.
    from sigkit.verify.entries import Logged, verify_entries, without_retired
    from sigkit.verify.times import verify_timestamps

    content = claims.content
    payload = content.payload if isinstance(content, Envelope) else None
    certificate = None if isinstance(proved, TrustedKey) else proved.der
    logged = Logged(signed, content.signature, payload, proved.key, certificate)
    entries = verify_entries(claims.entries, logged, root.logs, claims.place, limits)
    stamps, unchecked = verify_timestamps(claims.timestamps, claims.stamped, root.timestamp_authorities, claims.place)
    if not stamps and not entries.times:
        entries = without_retired(entries, now)
    return Attested(entries.inclusions, entries.promises, stamps + entries.times, entries.logs, entries.unchecked + unchecked)


def _vouch(proved: TrustedKey | SigningCertificate, attested: Attested, root: TrustedRoot, now: datetime, place: Place) -> Vouched:
    """Prove that logs and signer were trusted at every attested time, and that no time is still to come."""
    if attested.times:
        from sigkit.verify.windows import check_future, check_window

        check_future(attested.times, now, place)
        for log in attested.logs:
            check_window(f"the log {log.name}", log.valid, attested.times, place)
    if not isinstance(proved, TrustedKey):
        from sigkit.verify.chain import verify_chain

        return verify_chain(proved, attested.times, root, place)
    _check_key_window(proved, attested.times, place)
    signer = KeySigner(proved.key.fingerprint, proved.key.kind, proved.name)
    return Vouched(SignerFact(signer, Source(root.name, root.digest, proved.name)))


def _check_key_window(trusted: TrustedKey, times: Sequence[TimeFact], place: Place) -> None:
    if trusted.valid is None:
        return
    from sigkit.verify.windows import check_window

    if not times:
        raise NoAttestedTime("the key is trusted for a time, and nothing says when the signature was made", place=place)
    check_window(f"the key {trusted.name}", trusted.valid, times, place)
