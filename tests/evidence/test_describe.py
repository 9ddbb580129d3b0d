"""What `sigkit tree` says in one line about each piece of evidence."""

from __future__ import annotations

import json

import pytest

from sigkit import limits
from sigkit.evidence.bundle import MessageSignature, encode_bundle
from sigkit.evidence.describe import describe
from sigkit.evidence.form import CERTIFICATE_PART, LAYER_PART, Evidence, Form, Found
from sigkit.evidence.local import detached_signature
from sigkit.keys.private import generate
from tests.simulators.evidence_maker import REPOSITORY, bundle_evidence, signed, simple_evidence, statement

KEY = generate("ed25519")
ATTESTATION = signed(KEY, statement(predicateType="https://example.com/t"))
OLDER = Found(REPOSITORY, None, "att-tag", "layers[0]")


def envelope(**parts: bytes) -> Evidence:
    return Evidence(Form.ENVELOPE, {LAYER_PART: json.dumps(ATTESTATION["dsseEnvelope"]).encode(), **parts}, OLDER)


def by_certificate() -> Evidence:
    return bundle_evidence({**ATTESTATION, "verificationMaterial": {"certificate": {"rawBytes": "MAA="}}})


@pytest.mark.parametrize(
    ("evidence", "kind", "claims"),
    [
        pytest.param(bundle_evidence(signed(KEY)), "signature", f"for {REPOSITORY}", id="signature"),
        pytest.param(bundle_evidence(ATTESTATION), "attestation", "https://example.com/t", id="attestation"),
        pytest.param(by_certificate(), "attestation", "by a certificate", id="by a certificate"),
        pytest.param(bundle_evidence(encode_bundle("h", MessageSignature(b"s", None))), "signature", "for a file", id="of a file"),
        pytest.param(simple_evidence(KEY), "signature", "older form", id="older signature"),
        pytest.param(detached_signature(b"c2ln", None, None, "s"), "signature", "older form", id="detached"),
        pytest.param(envelope(), "attestation", "by a key, for", id="older attestation"),
        pytest.param(envelope(**{CERTIFICATE_PART: b"x"}), "attestation", "by a certificate, for", id="older, by a certificate"),
        pytest.param(bundle_evidence(b"{"), "unreadable", "SK-PARSE-001", id="malformed"),
        pytest.param(Evidence(Form.ENVELOPE, {LAYER_PART: b"[]"}, OLDER), "unreadable", "SK-PARSE-002", id="malformed envelope"),
    ],
)
def test_each_form_is_told_by_what_it_is_and_by_whom(evidence, kind, claims):
    told = describe(evidence, limits.DEFAULT)
    assert told.kind == kind
    assert claims in told.claims
