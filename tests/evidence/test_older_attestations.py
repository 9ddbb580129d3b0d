"""An attestation of a file in cosign's older form: its bundle holds the whole envelope where a signature is expected."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import (
    BadSignature,
    BadTimestamp,
    MalformedBase64,
    MalformedJson,
    OtherArtifact,
    OtherEntry,
    OtherKey,
    SigkitError,
    WrongShape,
)
from sigkit.evidence.form import (
    CERTIFICATE_PART,
    LAYER_PART,
    REKOR_BUNDLE_PART,
    SIGNATURE_PART,
    TIMESTAMP_PART,
    Evidence,
    Form,
)
from sigkit.evidence.local import detached_signature, evidence_of_file
from sigkit.keys.load import load_public
from sigkit.trust.root import TrustedKey, root_of_keys
from sigkit.verify.bind import Artifact
from sigkit.verify.facts import IdentitySigner, TimeKind
from sigkit.verify.verify import verify
from tests.simulators.sigstore import Simulator
from tests.simulators.sigstore_authorities import SUBJECT

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "cosign"
CONTENT = (FIXTURES / "attested.txt").read_bytes()
KINDS = {"p256": "ecdsa-p256", "p384": "ecdsa-p384", "ed25519": "ed25519"}
NOW = datetime(2026, 11, 26, tzinfo=UTC)


def facts_of(name: str, evidence: Evidence, content: bytes = CONTENT):
    root = root_of_keys([TrustedKey("fixture", load_public(str(FIXTURES / f"{name}.pub")))], "test")
    return verify(evidence, Artifact.of_content(content), root, NOW, limits.DEFAULT)


def older_bundle(name: str) -> dict[str, str]:
    return dict(json.loads((FIXTURES / f"{name}.older-attestation.json").read_bytes()))


def evidence_of(document: dict[str, str]) -> Evidence:
    return evidence_of_file(json.dumps(document).encode(), "a.json", limits.DEFAULT)


def with_envelope(document: dict[str, str], change) -> dict[str, str]:
    envelope = json.loads(base64.b64decode(document["base64Signature"]))
    change(envelope)
    return {**document, "base64Signature": base64.b64encode(json.dumps(envelope).encode()).decode()}


@pytest.mark.parametrize("name", list(KINDS))
def test_what_cosign_wrote_proves_key_file_and_type(name):
    evidence = evidence_of_file((FIXTURES / f"{name}.older-attestation.json").read_bytes(), "a.json", limits.DEFAULT)
    assert (evidence.form, set(evidence.parts)) == (Form.ENVELOPE, {LAYER_PART})
    facts = facts_of(name, evidence)
    assert facts.signer.signer.kind == KINDS[name]
    assert (facts.signature.artifact, facts.signature.predicate_type) == (Digest.of(CONTENT), "https://cyclonedx.org/bom")
    assert facts.unchecked == ()


def test_the_envelope_that_cosign_calls_a_signature_is_the_same_evidence():
    raw = (FIXTURES / "p256.older-attestation.sig").read_bytes()
    for evidence in (detached_signature(raw, None, None, "a.sig"), evidence_of_file(raw, "a.sig", limits.DEFAULT)):
        assert (evidence.form, evidence.parts) == (Form.ENVELOPE, {LAYER_PART: raw})
        assert facts_of("p256", evidence).signature == facts_of("p256", evidence_of(older_bundle("p256"))).signature


def test_it_proves_nothing_about_another_file_or_by_another_key():
    evidence = evidence_of(older_bundle("p256"))
    with pytest.raises(OtherArtifact):
        facts_of("p256", evidence, b"another file")
    with pytest.raises(OtherKey):
        facts_of("p384", evidence)


TAMPERED = {
    "another payload": (lambda e: e.update(payload=base64.b64encode(b"{}").decode()), OtherKey),
    "no signature": (lambda e: e.update(signatures=[]), WrongShape),
    "the signature twice": (lambda e: e.update(signatures=e["signatures"] * 2), WrongShape),
    "another payload type": (lambda e: e.update(payloadType="text/plain"), WrongShape),
    "an unknown member": (lambda e: e.update(extra=1), WrongShape),
    "a signature that is no base64": (lambda e: e["signatures"][0].update(sig="!"), MalformedBase64),
}


@pytest.mark.parametrize(("change", "error"), TAMPERED.values(), ids=list(TAMPERED))
def test_a_changed_envelope_is_refused_for_what_is_wrong_with_it(change, error):
    evidence = evidence_of(with_envelope(older_bundle("p256"), change))
    assert evidence.form is Form.ENVELOPE
    with pytest.raises(error):
        facts_of("p256", evidence)


def test_an_envelope_that_two_readers_could_see_otherwise_is_refused():
    document = older_bundle("p256")
    text = base64.b64decode(document["base64Signature"]).replace(b'"payloadType":', b'"payloadType":"x","payloadType":')
    with pytest.raises(MalformedJson):
        facts_of("p256", evidence_of({**document, "base64Signature": base64.b64encode(text).decode()}))


@pytest.mark.parametrize("at", range(0, 700, 23))
def test_any_flipped_bit_of_the_envelope_is_refused_or_changes_nothing_that_was_proved(at):
    document = older_bundle("p256")
    raw = bytearray(base64.b64decode(document["base64Signature"]))
    raw[at % len(raw)] ^= 1
    evidence = evidence_of({**document, "base64Signature": base64.b64encode(raw).decode()})
    try:
        facts = facts_of("p256", evidence)
    except SigkitError:
        return
    assert facts == facts_of("p256", evidence_of(older_bundle("p256")))


def simulated(by: str, entry: str):
    """Return a simulated instance's attestation in its parts, and the same as cosign's older bundle."""
    case = Simulator().make("att", (entry,), by)
    parts = {name: part for name, part in case.parts.items() if name != TIMESTAMP_PART}  # which that file has no room for
    document = {"base64Signature": base64.b64encode(parts[LAYER_PART]).decode(), "rekorBundle": json.loads(parts[REKOR_BUNDLE_PART])}
    document["cert"] = base64.b64encode(parts[CERTIFICATE_PART] if by == "identity" else case.keys[0]).decode()
    return case, document


@pytest.mark.parametrize("entry", ["dsse", "intoto"])
@pytest.mark.parametrize("by", ["identity", "key"])
def test_certificate_and_promise_of_the_bundle_are_verified(by, entry):
    case, document = simulated(by, entry)
    evidence = evidence_of(document)
    assert (evidence.form, SIGNATURE_PART in evidence.parts) == (Form.ENVELOPE, False)
    facts = replace(case, parts=dict(evidence.parts)).judge()
    assert len(facts.promises) == len(facts.times) == 1
    assert facts.signature.predicate_type == "https://spdx.dev/Document"
    if by == "identity":
        assert isinstance(facts.signer.signer, IdentitySigner)
        assert facts.signer.signer.subject == SUBJECT


@pytest.mark.parametrize("by", ["identity", "key"])
def test_the_promise_of_another_attestation_is_refused_as_BIND(by):
    sim = Simulator()
    first, second = sim.make("att", ("dsse",), by), sim.make("att", ("dsse",), by)
    with pytest.raises(OtherEntry):
        replace(first, parts={**first.parts, REKOR_BUNDLE_PART: second.parts[REKOR_BUNDLE_PART]}).judge()


def test_a_signature_by_the_certificates_key_and_no_other_counts():
    case, document = simulated("identity", "dsse")
    other, _ = simulated("identity", "dsse")
    evidence = evidence_of({**document, "cert": base64.b64encode(other.parts[CERTIFICATE_PART]).decode()})
    with pytest.raises(BadSignature):
        replace(case, parts=dict(evidence.parts)).judge()


def stamped(over: str, by: str):
    """Return a simulated attestation of an image whose timestamp is about the signature, the envelope or something else."""
    sim = Simulator()
    case = sim.make("att", ("dsse",), by)
    about = {"signature": None, "envelope": case.parts[LAYER_PART], "another": case.parts[LAYER_PART] + b" "}[over]
    if about is None:
        return case
    part = json.dumps({"SignedRFC3161Timestamp": base64.b64encode(sim.tsa.stamp(about)).decode()}).encode()
    return replace(case, parts={**case.parts, TIMESTAMP_PART: part})


@pytest.mark.parametrize("by", ["identity", "key"])
@pytest.mark.parametrize("over", ["signature", "envelope"])
def test_a_timestamp_is_about_the_signature_or_as_cosign_2_has_it_the_envelope(over, by):
    assert [time.kind for time in stamped(over, by).judge().times] == [TimeKind.TIMESTAMP, TimeKind.INTEGRATED]


def test_a_timestamp_about_something_else_is_refused_as_TIME():
    with pytest.raises(BadTimestamp):
        stamped("another", "key").judge()


@pytest.mark.parametrize("raw", [b"", b"0", b"\x30\x03\x02\x01\x00"])
def test_a_timestamp_that_is_none_is_refused_as_TIME(raw):
    case = stamped("signature", "key")
    part = json.dumps({"SignedRFC3161Timestamp": base64.b64encode(raw).decode()}).encode()
    with pytest.raises(BadTimestamp):
        replace(case, parts={**case.parts, TIMESTAMP_PART: part}).judge()
