"""What a piece of evidence claims, in a few words, without judging it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigkit.data import Data
from sigkit.errors import SigkitError
from sigkit.evidence.bundle import KeyMaterial, MessageSignature, describe_hint, parse_bundle
from sigkit.evidence.envelope import parse_envelope_document
from sigkit.evidence.form import BUNDLE_PART, CERTIFICATE_PART, LAYER_PART, Form
from sigkit.evidence.statement import PREDICATE_SIGNATURE, parse_statement

if TYPE_CHECKING:
    from sigkit.evidence.bundle import Content
    from sigkit.evidence.form import Evidence
    from sigkit.limits import Limits


class Described(Data):
    """A claim: `kind` is signature, attestation or unreadable; `claims` holds outside text."""

    kind: str
    manifest: str
    via: str
    claims: str


def describe(evidence: Evidence, limits: Limits) -> Described:
    """Say what `evidence` claims to be. Nothing of it is proved."""
    manifest = str(evidence.found.digest or evidence.found.repository)
    if evidence.form in {Form.SIMPLE_SIGNING, Form.BLOB_SIGNATURE}:
        return Described("signature", manifest, evidence.found.via, "cosign's older form")
    try:
        signer, content = _signer_and_content(evidence, limits)
        if isinstance(content, MessageSignature):
            return Described("signature", manifest, evidence.found.via, f"by {signer}, for a file")
        statement = parse_statement(content.payload, limits, evidence.place)
    except SigkitError as err:
        return Described("unreadable", manifest, evidence.found.via, str(err))
    kind = "signature" if statement.predicate_type == PREDICATE_SIGNATURE else "attestation"
    names = ", ".join(sorted({subject.name for subject in statement.subjects if subject.name})) or "no name"
    return Described(kind, manifest, evidence.found.via, f"by {signer}, for {names}, {statement.predicate_type}")


def _signer_and_content(evidence: Evidence, limits: Limits) -> tuple[str, Content]:
    if evidence.form is Form.ENVELOPE:
        signer = "a certificate" if CERTIFICATE_PART in evidence.parts else "a key"
        return signer, parse_envelope_document(evidence.parts[LAYER_PART], limits, evidence.place)
    bundle = parse_bundle(evidence.parts[BUNDLE_PART], limits, evidence.place)
    material = bundle.material
    signer = describe_hint(material.hint) if isinstance(material, KeyMaterial) else "a certificate"
    return signer, bundle.content
