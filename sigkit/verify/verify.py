"""Evidence in, facts out. Pure: no network, no files, no clock, no default trust root.

Each step takes what the one before returns: the signature is proved over the bytes received, the statement is read from those bytes and no
others, and the facts are about the artifact that it names.

What evidence claims beyond that (log entries, timestamps) is listed as unchecked: a trust root of keys has no logs and no timestamp
authorities. A signature by certificate is refused, because nobody in such a root vouches for certificates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from sigkit import strict
from sigkit.digest import Digest
from sigkit.errors import NoCertificateAuthority, UnsupportedEvidence
from sigkit.evidence.bundle import CertificateMaterial, MessageSignature, parse_bundle
from sigkit.evidence.envelope import pre_authentication_encoding
from sigkit.evidence.form import BUNDLE_PART, LAYER_PART, SIGNATURE_PART, Form
from sigkit.evidence.simple_signing import parse_simple_signing
from sigkit.evidence.statement import parse_statement
from sigkit.verify.bind import bind_simple_signing, bind_statement
from sigkit.verify.facts import Facts, Unchecked
from sigkit.verify.signature import verify_by_key

if TYPE_CHECKING:
    from datetime import datetime

    from sigkit.errors import Place
    from sigkit.evidence.bundle import Bundle
    from sigkit.evidence.form import Evidence
    from sigkit.limits import Limits
    from sigkit.trust.root import TrustedRoot

_WHY_NO_LOG = "the trust root holds no transparency log"
_WHY_NO_TIME = "the trust root holds no timestamp authority"
_CERTIFICATE_PARTS = ("dev.sigstore.cosign/certificate", "dev.sigstore.cosign/chain")
_CLAIMING_PARTS = {
    "dev.sigstore.cosign/bundle": Unchecked("the log's promise of inclusion", _WHY_NO_LOG),
    "dev.sigstore.cosign/rfc3161timestamp": Unchecked("timestamp", _WHY_NO_TIME),
}


def verify(evidence: Evidence, artifact: Digest, root: TrustedRoot, now: datetime, limits: Limits) -> Facts:
    """Prove what one piece of evidence says about `artifact`.

    Args:
        evidence: raw parts, as found.
        artifact: the digest that it must be about.
        root: whose word counts.
        now: the time of verification; no fact about a key without a validity period depends on it.
        limits: on sizes and counts, applied before parsing.

    Raises:
        LimitError: too big, too many, too deep.
        ParseError: malformed, or of a form or version that is not verified.
        SigError: no trusted key made the signature, or it is invalid.
        BindError: it is about another artifact, or ambiguous.
        RootError: the root holds nobody who could vouch for it.
    """
    del now
    match evidence.form:
        case Form.BUNDLE:
            return _verify_bundle(evidence, artifact, root, limits)
        case Form.SIMPLE_SIGNING:
            return _verify_simple_signing(evidence, artifact, root, limits)
        case Form.ENVELOPE | Form.BLOB_SIGNATURE:
            raise UnsupportedEvidence("this form is not verified", place=evidence.place, got=evidence.form.value)
        case _:
            assert_never(evidence.form)


def _verify_bundle(evidence: Evidence, artifact: Digest, root: TrustedRoot, limits: Limits) -> Facts:
    place = evidence.place
    bundle = parse_bundle(_part(evidence, BUNDLE_PART), limits, place)
    if isinstance(bundle.material, CertificateMaterial):
        raise _no_authority(root, place)
    envelope = bundle.content
    if isinstance(envelope, MessageSignature):
        raise UnsupportedEvidence("a message signature is not evidence about an image", place=place, expected="dsseEnvelope")
    message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    signer = verify_by_key(message, envelope.signature, bundle.material.hint, root, place)
    statement = parse_statement(envelope.payload, limits, place)
    bound = bind_statement(statement, artifact, Digest.of(envelope.payload), place)
    return Facts(place, evidence.form, bound.fact, signer, unchecked=bound.unchecked + _unchecked_claims(bundle))


def _unchecked_claims(bundle: Bundle) -> tuple[Unchecked, ...]:
    entries = tuple(
        Unchecked(f"entry {entry.index} of the log {strict.encode_base64(entry.log_id)}", _WHY_NO_LOG) for entry in bundle.entries
    )
    stamps = tuple(Unchecked(f"timestamp {number}", _WHY_NO_TIME) for number, _ in enumerate(bundle.timestamps, 1))
    return entries + stamps


def _verify_simple_signing(evidence: Evidence, artifact: Digest, root: TrustedRoot, limits: Limits) -> Facts:
    place = evidence.place
    if any(part in evidence.parts for part in _CERTIFICATE_PARTS):
        raise _no_authority(root, place)
    payload = _part(evidence, LAYER_PART)
    signature = strict.decode_base64(strict.decode_utf8(_part(evidence, SIGNATURE_PART), place), place)
    signer = verify_by_key(payload, signature, "", root, place)
    signed = parse_simple_signing(payload, limits, place)
    bound = bind_simple_signing(signed, artifact, Digest.of(payload), place)
    claims = tuple(
        _CLAIMING_PARTS.get(part) or Unchecked(f"annotation {part}", "its meaning is not known")
        for part in sorted(evidence.parts)
        if part not in {LAYER_PART, SIGNATURE_PART}
    )
    return Facts(place, evidence.form, bound.fact, signer, unchecked=bound.unchecked + claims)


def _part(evidence: Evidence, name: str) -> bytes:
    raw = evidence.parts.get(name)
    if raw is None:
        raise UnsupportedEvidence("a part is missing", place=evidence.place, expected=name, got=", ".join(sorted(evidence.parts)) or "none")
    return raw


def _no_authority(root: TrustedRoot, place: Place) -> NoCertificateAuthority:
    return NoCertificateAuthority(
        "signed by a certificate, which this trust root cannot judge",
        place=place,
        expected="a certificate authority",
        got=f"root {root.name}",
    )
