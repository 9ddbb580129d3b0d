"""Evidence: what is written reads back, and no change to it proves anything else."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sigkit import limits
from sigkit.digest import SIZES, Digest
from sigkit.errors import NOWHERE, SigkitError
from sigkit.evidence.bundle import V03, Bundle, KeyMaterial, encode_bundle, parse_bundle
from sigkit.evidence.envelope import IN_TOTO_TYPE, Envelope, pre_authentication_encoding
from sigkit.evidence.form import LAYER_PART, SIGNATURE_PART, Evidence, Form, evidence_of_bundle
from sigkit.evidence.statement import STATEMENT_V01, STATEMENT_V1, Statement, Subject, parse_statement
from sigkit.keys import cosign_pem
from sigkit.keys.pem import PemBlock, encode_pem, parse_pem
from sigkit.keys.private import generate
from sigkit.trust.root import TrustedKey, root_of_keys
from sigkit.verify.bind import Artifact
from sigkit.verify.facts import KeySigner
from sigkit.verify.verify import verify
from tests.simulators.altered import altered
from tests.simulators.evidence_maker import ARTIFACT, FOUND, log_entry, root_of, signed, simple_evidence, statement, subject

NOW = datetime(2026, 11, 25, tzinfo=UTC)
KEY = generate("ed25519")
ROOT = root_of(KEY)
PEM = cosign_pem.encode_private(KEY, "pw")

text = st.text(st.characters(codec="utf-8"), max_size=20)
digests = st.sampled_from(sorted(SIZES)).flatmap(
    lambda algorithm: st.binary(min_size=SIZES[algorithm], max_size=SIZES[algorithm]).map(lambda raw: Digest(algorithm, raw))
)
subjects = st.builds(
    Subject,
    st.lists(digests, max_size=3, unique_by=lambda digest: digest.algorithm).map(tuple),
    st.none() | text,
    st.dictionaries(text, text, max_size=3),
)
statements = st.builds(
    Statement, st.lists(subjects, max_size=3).map(tuple), text.filter(bool), st.sampled_from([STATEMENT_V1, STATEMENT_V01])
)


@given(statements)
def test_a_statement_reads_back_as_written(written):
    assert parse_statement(written.encode(), limits.DEFAULT, NOWHERE) == written


@given(text, st.binary(max_size=200), st.binary(max_size=80))
def test_a_bundle_reads_back_as_written(hint, payload, signature):
    envelope = Envelope(payload, IN_TOTO_TYPE, signature)
    assert parse_bundle(encode_bundle(hint, envelope), limits.DEFAULT, NOWHERE) == Bundle(V03, KeyMaterial(hint), envelope)


@given(text, st.binary(max_size=30), text, st.binary(max_size=30))
def test_two_payloads_are_never_signed_as_the_same_bytes(one_type, one, other_type, other):
    same = pre_authentication_encoding(one_type, one) == pre_authentication_encoding(other_type, other)
    assert same == ((one_type, one) == (other_type, other))


@given(st.from_regex(r"\A[A-Z]{1,10}( [A-Z]{1,10}){0,2}\Z"), st.binary(min_size=1, max_size=300))
def test_pem_reads_back_as_written(label, data):
    assert parse_pem(encode_pem(label, data), (label,), NOWHERE) == PemBlock(label, data)


def proved(evidence: Evidence):
    """Return what is proved, apart from what is only claimed and what is only said to be unchecked; None when refused."""
    try:
        facts = verify(evidence, Artifact.of(ARTIFACT), ROOT, NOW, limits.DEFAULT)
    except SigkitError:
        return None
    return altered(facts, unchecked=())


RICH = signed(KEY, statement(subject=[subject(annotations={"a": "1", "sigkit.dev/repository": "r.example/x"})]))
RICH["verificationMaterial"]["tlogEntries"] = [log_entry()]
RAW = json.dumps(RICH).encode()
TRUTH = proved(evidence_of_bundle(RAW, FOUND))


def test_every_flipped_bit_of_a_bundle_is_refused_or_proves_the_same():
    assert TRUTH
    others = []
    for position in range(len(RAW) * 8):
        flipped = bytearray(RAW)
        flipped[position // 8] ^= 1 << position % 8
        if proved(evidence_of_bundle(bytes(flipped), FOUND)) not in {None, TRUTH}:
            others.append(position)
    assert others == []


@given(st.integers(0, len(RAW)), st.integers(0, 20), st.binary(max_size=20))
def test_a_bundle_cut_or_patched_is_refused_or_proves_the_same(start, length, patch):
    assert proved(evidence_of_bundle(RAW[:start] + patch + RAW[start + length :], FOUND)) in {None, TRUTH}


def test_every_flipped_bit_of_the_older_form_is_refused_or_proves_the_same():
    good = simple_evidence(KEY)
    truth = proved(good)
    assert truth
    for name in (LAYER_PART, SIGNATURE_PART):
        raw = good.parts[name]
        for position in range(len(raw) * 8):
            flipped = bytearray(raw)
            flipped[position // 8] ^= 1 << position % 8
            assert proved(Evidence(Form.SIMPLE_SIGNING, {**good.parts, name: bytes(flipped)}, good.found)) in {None, truth}


@given(statements)
def test_a_fact_is_only_about_an_artifact_that_the_statement_names(written):
    raw = json.dumps(signed(KEY, written.encode())).encode()
    named = {digest for one in written.subjects for digest in one.digests}
    for artifact in {ARTIFACT, *named}:
        try:
            facts = verify(evidence_of_bundle(raw, FOUND), Artifact.of(artifact), ROOT, NOW, limits.DEFAULT)
        except SigkitError:
            continue
        assert artifact in named
        assert facts.signature.artifact == artifact
        assert facts.signature.predicate_type == written.predicate_type


@given(st.lists(st.sampled_from(["ecdsa-p256", "ed25519"]), min_size=1, max_size=4), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_the_signer_is_the_key_that_signed_whatever_else_is_trusted(kinds, data):
    keys = [generate(kind) for kind in kinds]
    signer = data.draw(st.sampled_from(keys))
    trusted = data.draw(st.lists(st.sampled_from(keys), unique_by=id))
    root = root_of_keys([TrustedKey(str(number), key.public) for number, key in enumerate(trusted)], "test")
    evidence = evidence_of_bundle(json.dumps(signed(signer)).encode(), FOUND)
    try:
        facts = verify(evidence, Artifact.of(ARTIFACT), root, NOW, limits.DEFAULT)
    except SigkitError:
        assert signer not in trusted
        return
    assert isinstance(facts.signer.signer, KeySigner)
    assert facts.signer.signer.key == signer.public.fingerprint


@given(st.integers(0, len(PEM) - 1), st.binary(min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_a_damaged_key_file_is_refused_or_holds_the_same_key(position, patch):
    damaged = PEM[:position] + patch + PEM[position + len(patch) :]
    try:
        assert cosign_pem.decode_private(damaged, "pw", NOWHERE).public == KEY.public
    except SigkitError:
        pass


@pytest.mark.parametrize(
    "raw", [b"", b"-----BEGIN ", b"-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\n-----END ENCRYPTED COSIGN PRIVATE KEY-----"]
)
def test_an_empty_key_file_is_refused(raw):
    with pytest.raises(SigkitError):
        cosign_pem.decode_private(raw, "pw", NOWHERE)
