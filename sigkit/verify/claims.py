"""One shape for every form of evidence: what it claims, and nothing believed.

A bundle is parsed whole. cosign's older forms carry the same claims as annotations: certificate, chain, the log's promise, a timestamp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, assert_never

from sigkit import strict
from sigkit.data import Data
from sigkit.errors import UnsupportedEvidence
from sigkit.evidence.bundle import CertificateMaterial, KeyMaterial, MessageSignature, parse_bundle
from sigkit.evidence.envelope import Envelope, parse_envelope_document
from sigkit.evidence.form import (
    BUNDLE_PART,
    CERTIFICATE_PART,
    CHAIN_PART,
    LAYER_PART,
    REKOR_BUNDLE_PART,
    SIGNATURE_PART,
    TIMESTAMP_PART,
    Form,
)
from sigkit.verify.facts import Unchecked

if TYPE_CHECKING:
    from sigkit.errors import Place
    from sigkit.evidence.bundle import Material
    from sigkit.evidence.form import Evidence
    from sigkit.limits import Limits
    from sigkit.tlog.entry import LogEntry

_PARTS: Final = frozenset((LAYER_PART, SIGNATURE_PART, CERTIFICATE_PART, CHAIN_PART, REKOR_BUNDLE_PART, TIMESTAMP_PART))
_PREDICATE_TYPE: Final = "predicateType"  # of an attestation's layer; what is signed says it too, and that counts


class SignedDocument(Data):
    """A document signed as it is stored, as simple signing does."""

    payload: bytes
    signature: bytes


Content: TypeAlias = Envelope | MessageSignature | SignedDocument


class Claims(Data):
    """What one piece of evidence claims. `stamped` is what its timestamps are about."""

    place: Place
    form: Form
    material: Material
    content: Content
    entries: tuple[LogEntry, ...]
    timestamps: tuple[bytes, ...]
    stamped: bytes
    unknown: tuple[Unchecked, ...] = ()


def read_claims(evidence: Evidence, limits: Limits) -> Claims:
    """Parse a piece of evidence, whatever its form.

    Raises:
        LimitError: too big, too many, too deep.
        ParseError: malformed, or of a version that is not read.
    """
    place = evidence.place
    match evidence.form:
        case Form.BUNDLE:
            bundle = parse_bundle(_part(evidence, BUNDLE_PART), limits, place)
            return Claims(
                place, evidence.form, bundle.material, bundle.content, bundle.entries, bundle.timestamps, bundle.content.signature
            )
        case Form.SIMPLE_SIGNING:
            return _older(evidence, SignedDocument(_part(evidence, LAYER_PART), _signature(evidence)), limits)
        case Form.ENVELOPE:
            return _older(evidence, parse_envelope_document(_part(evidence, LAYER_PART), limits, place), limits)
        case Form.BLOB_SIGNATURE:
            return _older(evidence, MessageSignature(_signature(evidence), None), limits)
        case _:
            assert_never(evidence.form)


def _older(evidence: Evidence, content: Content, limits: Limits) -> Claims:
    place, parts = evidence.place, evidence.parts
    material: Material = KeyMaterial("")
    entries: tuple[LogEntry, ...] = ()
    timestamps: tuple[bytes, ...] = ()
    stamped = content.signature
    if not parts.keys().isdisjoint((CERTIFICATE_PART, CHAIN_PART, REKOR_BUNDLE_PART, TIMESTAMP_PART)):
        from sigkit.evidence import legacy  # of use to the rare ones that carry more than a signature

        if CERTIFICATE_PART in parts or CHAIN_PART in parts:
            leaf = legacy.parse_certificate(_part(evidence, CERTIFICATE_PART), place)
            chain = legacy.parse_chain(parts[CHAIN_PART], place) if CHAIN_PART in parts else ()
            material = CertificateMaterial((leaf, *chain))
        if REKOR_BUNDLE_PART in parts:
            entries = (legacy.parse_rekor_bundle(parts[REKOR_BUNDLE_PART], limits, place),)
        if TIMESTAMP_PART in parts:
            timestamps = (legacy.parse_rfc3161(parts[TIMESTAMP_PART], limits, place),)
            if evidence.form is Form.ENVELOPE:
                stamped = legacy.find_stamped(timestamps[0], content.signature, parts[LAYER_PART])
    unknown = tuple(
        Unchecked(f"annotation {part}", "its meaning is not known")
        for part in sorted(parts)
        if part not in _PARTS and not (part == _PREDICATE_TYPE and evidence.form is Form.ENVELOPE)
    )
    return Claims(place, evidence.form, material, content, entries, timestamps, stamped, unknown)


def _signature(evidence: Evidence) -> bytes:
    text = strict.decode_utf8(_part(evidence, SIGNATURE_PART), evidence.place)
    return strict.decode_base64(text, evidence.place)


def _part(evidence: Evidence, name: str) -> bytes:
    raw = evidence.parts.get(name)
    if raw is None:
        raise UnsupportedEvidence("a part is missing", place=evidence.place, expected=name, got=", ".join(sorted(evidence.parts)) or "none")
    return raw
