"""Evidence in files is told apart by what it is."""

from __future__ import annotations

import json

import pytest

from sigkit import limits
from sigkit.errors import MalformedJson, TooLarge, WrongShape
from sigkit.evidence.form import BUNDLE_PART, CERTIFICATE_PART, CHAIN_PART, LAYER_PART, SIGNATURE_PART, Form
from sigkit.evidence.local import detached_signature, evidence_of_file
from sigkit.keys.private import generate
from sigkit.limits import Limits
from tests.simulators.evidence_maker import signed

KEY = generate("ed25519")


@pytest.mark.parametrize(
    ("document", "form", "part"),
    [
        pytest.param(signed(KEY), Form.BUNDLE, BUNDLE_PART, id="bundle"),
        pytest.param(signed(KEY)["dsseEnvelope"], Form.ENVELOPE, LAYER_PART, id="envelope"),
        pytest.param({"base64Signature": "c2ln"}, Form.BLOB_SIGNATURE, SIGNATURE_PART, id="older bundle"),
        pytest.param({"base64Signature": "c2ln", "mediaType": "x"}, Form.BUNDLE, BUNDLE_PART, id="two at once is a bundle, and none"),
        pytest.param({"unknown": 1}, Form.BUNDLE, BUNDLE_PART, id="something else"),
    ],
)
def test_a_file_is_held_as_the_form_that_it_has(document, form, part):
    evidence = evidence_of_file(json.dumps(document).encode(), "b.json", limits.DEFAULT)
    assert (evidence.form, set(evidence.parts), str(evidence.place)) == (form, {part}, "b.json")


@pytest.mark.parametrize(("raw", "error"), [(b"", MalformedJson), (b"[]", WrongShape), (b'{"a":1,"a":2}', MalformedJson)])
def test_what_is_no_json_object_is_refused_with_the_files_name(raw, error):
    with pytest.raises(error) as caught:
        evidence_of_file(raw, "b.json", limits.DEFAULT)
    assert caught.value.place.source == "b.json"


def test_a_file_beyond_the_limit_is_refused_as_LIMIT():
    with pytest.raises(TooLarge):
        evidence_of_file(b"{" * 11, "b.json", Limits(bundle_bytes=10))


def test_a_detached_signature_keeps_what_came_with_it():
    assert detached_signature(b"c2ln\n", None, None, "s").parts == {SIGNATURE_PART: b"c2ln"}
    assert detached_signature(b"c2ln", b"pem", b"chain", "s").parts == {
        SIGNATURE_PART: b"c2ln",
        CERTIFICATE_PART: b"pem",
        CHAIN_PART: b"chain",
    }
