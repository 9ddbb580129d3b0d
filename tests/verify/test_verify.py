"""Evidence in, facts out: what is proved, what is refused and as what, and what is said to be unchecked."""

from __future__ import annotations

import base64
import copy
import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import (
    AmbiguousArtifact,
    BadSignature,
    MalformedJson,
    NoCertificateAuthority,
    OtherArtifact,
    OtherKey,
    TooLarge,
    UnsupportedEvidence,
    WrongShape,
)
from sigkit.evidence.form import LAYER_PART, SIGNATURE_PART, Evidence, Form
from sigkit.evidence.statement import PREDICATE_SIGNATURE, REPOSITORY_ANNOTATION
from sigkit.keys.private import GENERATED_KINDS, generate
from sigkit.limits import Limits
from sigkit.verify.bind import Artifact
from sigkit.verify.facts import KeySigner, Source, Unchecked
from sigkit.verify.verify import verify
from tests.simulators.evidence_maker import (
    ARTIFACT,
    FOUND,
    OTHER_ARTIFACT,
    REPOSITORY,
    b64,
    bundle_evidence,
    log_entry,
    root_of,
    signed,
    simple_evidence,
    simple_payload,
    statement,
    subject,
)

KEY, OTHER = generate("ecdsa-p256"), generate("ecdsa-p256")
ROOT = root_of(KEY)
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def facts_of(evidence, artifact=ARTIFACT, root=ROOT):
    return verify(evidence, Artifact.of(artifact), root, NOW, limits.DEFAULT)


def of_statement(document, key=KEY):
    return facts_of(bundle_evidence(signed(key, document)), root=root_of(key))


@pytest.mark.parametrize("kind", GENERATED_KINDS)
def test_facts_say_who_signed_what_under_which_name_and_by_whose_word(kind):
    key = generate(kind)
    root = root_of(OTHER, key)
    bundle = signed(key)
    facts = facts_of(bundle_evidence(bundle), root=root)
    assert facts.place.source == f"{REPOSITORY}@{FOUND.digest}"
    assert facts.form is Form.BUNDLE
    assert facts.signature.artifact == ARTIFACT
    assert facts.signature.predicate_type == PREDICATE_SIGNATURE
    assert facts.signature.payload_digest == Digest.of(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    assert facts.signature.repository == REPOSITORY
    assert facts.signature.annotations == {REPOSITORY_ANNOTATION: REPOSITORY}
    assert facts.signer.signer == KeySigner(key.public.fingerprint, kind, "key-1")
    assert facts.signer.source == Source("test", root.digest, "key-1")
    assert (facts.inclusions, facts.times, facts.unchecked) == ((), (), ())


@pytest.mark.parametrize("hint", ["", "wrong", b64(OTHER.public.fingerprint.value)], ids=["none", "wrong", "of another key"])
def test_a_hint_is_no_proof_and_a_wrong_one_no_hindrance(hint):
    bundle = signed(KEY)
    bundle["verificationMaterial"]["publicKey"]["hint"] = hint
    assert facts_of(bundle_evidence(bundle), root=root_of(OTHER, KEY)).signer.signer == KeySigner(
        KEY.public.fingerprint, "ecdsa-p256", "key-1"
    )


def test_a_signature_by_another_key_is_told_from_a_bad_one():
    with pytest.raises(OtherKey) as caught:
        facts_of(bundle_evidence(signed(OTHER)))
    assert str(KEY.public.fingerprint) in caught.value.expected
    bundle = signed(OTHER)
    bundle["verificationMaterial"]["publicKey"]["hint"] = b64(KEY.public.fingerprint.value)
    with pytest.raises(BadSignature):
        facts_of(bundle_evidence(bundle))


def test_no_trusted_key_proves_nothing():
    with pytest.raises(OtherKey):
        facts_of(bundle_evidence(signed(KEY)), root=root_of())


def test_the_payload_type_is_signed_too():
    bundle = signed(KEY)
    raw = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = b64(KEY.sign(raw))  # over the payload alone
    with pytest.raises(BadSignature):
        facts_of(bundle_evidence(bundle))


def test_another_artifact_is_refused_as_BIND():
    with pytest.raises(OtherArtifact) as caught:
        facts_of(bundle_evidence(signed(KEY)), artifact=OTHER_ARTIFACT)
    assert (caught.value.expected, caught.value.got) == (str(OTHER_ARTIFACT), str(ARTIFACT))


@pytest.mark.parametrize(
    "subjects",
    [
        pytest.param([], id="no subject"),
        pytest.param([subject(digest={})], id="no digest"),
        pytest.param([subject(digest={"gitCommit": ARTIFACT.hex})], id="another algorithm's name"),
        pytest.param([subject(digest={"sha512": Digest.of(b"x", "sha512").hex})], id="sha512 only"),
    ],
)
def test_a_statement_that_does_not_name_the_artifact_is_refused_as_BIND(subjects):
    with pytest.raises(OtherArtifact):
        of_statement(statement(subject=subjects))


def test_a_further_digest_that_was_not_compared_is_refused_as_BIND():
    digests = {"sha256": ARTIFACT.hex, "sha512": Digest.of(b"something else", "sha512").hex}
    with pytest.raises(AmbiguousArtifact):
        of_statement(statement(subject=[subject(digest=digests)]))


def test_a_further_digest_of_an_unknown_algorithm_is_no_hindrance():
    of_statement(statement(subject=[subject(digest={"sha256": ARTIFACT.hex, "gitCommit": "0" * 40})]))


def test_the_artifact_among_other_subjects_is_found_with_its_own_annotations():
    other = subject(digest={"sha256": OTHER_ARTIFACT.hex}, annotations={REPOSITORY_ANNOTATION: "evil.example/x"})
    assert of_statement(statement(subject=[other, subject()])).signature.repository == REPOSITORY


def test_two_subjects_with_the_digest_and_different_annotations_are_refused_as_BIND():
    twice = [subject(), subject(annotations={REPOSITORY_ANNOTATION: "evil.example/x"})]
    with pytest.raises(AmbiguousArtifact):
        of_statement(statement(subject=twice))
    of_statement(statement(subject=[subject(), subject(name="another.example/name")]))


def test_a_name_without_the_annotation_is_no_signed_name():
    assert of_statement(statement(subject=[subject(annotations={})])).signature.repository is None


def test_a_signed_repository_that_is_no_text_is_refused_as_BIND():
    with pytest.raises(AmbiguousArtifact):
        of_statement(statement(subject=[subject(annotations={REPOSITORY_ANNOTATION: [REPOSITORY]})]))


def test_an_attestation_is_a_fact_of_its_own_type_and_no_signature():
    assert of_statement(statement(predicateType="https://spdx.dev/Document")).signature.predicate_type == "https://spdx.dev/Document"


def test_the_statement_is_read_from_signed_bytes_only():
    with pytest.raises(OtherKey):  # malformed, but nobody trusted signed it: not even parsed
        facts_of(bundle_evidence(signed(OTHER, b"{")))
    with pytest.raises(MalformedJson):
        facts_of(bundle_evidence(signed(KEY, b"{")))


def test_what_is_claimed_and_not_checked_is_listed():
    bundle = signed(KEY)
    bundle["verificationMaterial"] |= {
        "tlogEntries": [log_entry(logId={"keyId": "AAAA"})],
        "timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": "MAA="}]},
    }
    facts = facts_of(bundle_evidence(bundle))
    assert [item.what for item in facts.unchecked] == ["entry 7 of the log AAAA", "timestamp 1"]
    assert (facts.inclusions, facts.times) == ((), ())


def test_an_annotation_without_a_known_meaning_is_listed_as_unchecked():
    facts = of_statement(statement(subject=[subject(annotations={"n": 1})]))
    assert facts.unchecked == (Unchecked("annotation n", "its value is not a string"),)


def test_a_certificate_is_refused_as_ROOT_and_not_called_unsigned():
    bundle = signed(KEY)
    bundle["verificationMaterial"] = {"certificate": {"rawBytes": "MAA="}}
    with pytest.raises(NoCertificateAuthority):
        facts_of(bundle_evidence(bundle))


def test_limits_apply_before_parsing():
    with pytest.raises(TooLarge):
        verify(bundle_evidence(b"{" * 1000), Artifact.of(ARTIFACT), ROOT, NOW, Limits(bundle_bytes=999))


def test_evidence_without_its_part_is_refused():
    with pytest.raises(UnsupportedEvidence):
        facts_of(Evidence(Form.BUNDLE, {}, FOUND))


class TestSimpleSigning:
    """cosign's older form proves the same, and no more."""

    def test_it_proves_who_signed_what_under_which_name(self):
        facts = facts_of(simple_evidence(KEY, simple_payload(optional={"a": "1"})))
        assert facts.form is Form.SIMPLE_SIGNING
        assert facts.place.inside == "layers[0]"
        assert facts.signature.predicate_type == PREDICATE_SIGNATURE
        assert facts.signature.repository == REPOSITORY
        assert facts.signature.annotations == {"a": "1"}
        assert facts.signer.signer == KeySigner(KEY.public.fingerprint, "ecdsa-p256", "key-0")

    def test_another_key_is_refused_as_SIG(self):
        with pytest.raises(OtherKey):
            facts_of(simple_evidence(OTHER))

    def test_another_artifact_is_refused_as_BIND(self):
        with pytest.raises(OtherArtifact):
            facts_of(simple_evidence(KEY), artifact=OTHER_ARTIFACT)

    def test_a_promise_of_the_log_is_listed_as_unchecked(self):
        body = base64.b64encode(b'{"kind":"hashedrekord","apiVersion":"0.0.1"}').decode()
        payload = {"body": body, "integratedTime": 1, "logIndex": 7, "logID": "00" * 32}
        parts = {
            "dev.sigstore.cosign/bundle": json.dumps({"SignedEntryTimestamp": "MAA=", "Payload": payload}).encode(),
            "dev.sigstore.cosign/rfc3161timestamp": b'{"SignedRFC3161Timestamp": "MAA="}',
            "dev.sigstore.cosign/new": b"",
        }
        facts = facts_of(simple_evidence(KEY, None, **parts))
        assert [item.what for item in facts.unchecked] == [
            f"entry 7 of the log {base64.b64encode(bytes(32)).decode()}",
            "timestamp 1",
            "annotation dev.sigstore.cosign/new",
        ]

    def test_a_certificate_is_refused_as_ROOT(self):
        with pytest.raises(NoCertificateAuthority):
            facts_of(
                simple_evidence(
                    KEY, None, **{"dev.sigstore.cosign/certificate": b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"}
                )
            )

    @pytest.mark.parametrize("part", [LAYER_PART, SIGNATURE_PART])
    def test_a_missing_part_is_refused(self, part):
        evidence = simple_evidence(KEY)
        rest = {name: raw for name, raw in evidence.parts.items() if name != part}
        with pytest.raises(UnsupportedEvidence):
            facts_of(Evidence(evidence.form, rest, evidence.found))

    def test_another_type_is_refused_as_PARSE(self):
        payload = copy.deepcopy(simple_payload())
        payload["critical"]["type"] = "attestation"
        with pytest.raises(WrongShape):
            facts_of(simple_evidence(KEY, payload))


def test_the_core_loads_nothing_that_does_io():
    script = "import sys, sigkit.verify.verify; print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split())
    assert not {"socket", "ssl", "sqlite3", "subprocess", "requests", "yaml", "nacl", "cryptography", "sigkit.net"} & loaded
