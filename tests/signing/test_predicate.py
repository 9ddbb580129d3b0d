"""What an attestation says is read and checked before it is signed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sigkit import limits
from sigkit.errors import MalformedJson, MalformedOption, NotUtf8, Place, TooLarge, WrongShape
from sigkit.evidence.predicate_types import PREDICATE_TYPES, predicate_type_of
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.limits import Limits
from sigkit.signing.predicate import Predicate, parse_predicate

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HERE = Place.operator("p.json")


def parse(raw: bytes, name: str, within: Limits = limits.DEFAULT) -> Predicate:
    return parse_predicate(raw, name, NOW, within, HERE)


def test_custom_holds_any_text_with_the_time_as_cosign_does():
    assert parse(b"any\ntext", "custom") == Predicate(
        "https://cosign.sigstore.dev/attestation/v1", {"Data": "any\ntext", "Timestamp": "2026-11-25T12:00:00Z"}
    )
    with pytest.raises(NotUtf8):
        parse(b"\xff", "custom")


def test_the_uri_of_custom_takes_the_object_as_it_is():
    assert parse(b'{"Data":"x"}', PREDICATE_TYPES["custom"]).members == {"Data": "x"}


def test_a_uri_is_its_own_type():
    assert parse(b'{"a":[1]}', "https://example.com/t") == Predicate("https://example.com/t", {"a": [1]})
    assert predicate_type_of("urn:x:y") == "urn:x:y"


@pytest.mark.parametrize("name", ["", "sbom", "https:", ":x", "https://a b", "1:x", "é:x", PREDICATE_SIGNATURE])
def test_what_is_no_type_of_attestation_is_a_usage_error(name):
    with pytest.raises(MalformedOption) as caught:
        parse(b"{}", name)
    assert caught.value.status() == 2


@pytest.mark.parametrize(
    ("name", "raw", "error"),
    [
        pytest.param("spdx", b'"SPDXVersion: SPDX-2.3"', WrongShape, id="text as a predicate, which cosign signs and cannot verify"),
        pytest.param("spdx", b"SPDXVersion: SPDX-2.3", MalformedJson, id="tag-value"),
        pytest.param("cyclonedx", b"[]", WrongShape, id="a list"),
        pytest.param("cyclonedx", b'{"a":1,"a":2}', MalformedJson, id="a member twice"),
        pytest.param("cyclonedx", b'{"specVersion":"1.5"}', WrongShape, id="no bomFormat"),
        pytest.param("cyclonedx", b'{"bomFormat":"CycloneDX"}', WrongShape, id="no specVersion"),
        pytest.param("cyclonedx", b'{"bomFormat":"SPDX","specVersion":"1.5"}', WrongShape, id="another bomFormat"),
        pytest.param("spdxjson", b'{"name":"x"}', WrongShape, id="no spdxVersion"),
        pytest.param("spdxjson", b'{"spdxVersion":"CycloneDX"}', WrongShape, id="another spdxVersion"),
        pytest.param("openvex", b'{"statements":[]}', WrongShape, id="no @context"),
        pytest.param("openvex", b'{"@context":"https://openvex.dev/ns"}', WrongShape, id="no statements"),
        pytest.param("slsaprovenance", b'{"builder":{}}', WrongShape, id="no buildType"),
        pytest.param("slsaprovenance02", b'{"buildType":"t"}', WrongShape, id="no builder"),
        pytest.param("slsaprovenance1", b'{"buildDefinition":{}}', WrongShape, id="no runDetails"),
        pytest.param("vuln", b'{"scanner":{},"metadata":{}}', WrongShape, id="no invocation"),
        pytest.param("custom", b" \n", WrongShape, id="nothing"),
        pytest.param("link", b"{}", WrongShape, id="no _type"),
        pytest.param("link", b'{"_type":"layout"}', WrongShape, id="another _type"),
    ],
)
def test_a_predicate_that_readers_of_its_type_cannot_read_is_a_usage_error(name, raw, error):
    with pytest.raises(error) as caught:
        parse(raw, name)
    assert caught.value.status() == 2
    assert caught.value.place.source == "p.json"


def test_SPDX_3_is_known_by_its_context():
    context = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
    assert parse(f'{{"@context":"{context}","@graph":[]}}'.encode(), "spdxjson").members["@context"] == context


def test_a_predicate_larger_than_evidence_may_be_is_refused_as_LIMIT():
    with pytest.raises(TooLarge):
        parse(b'{"a":"' + b"x" * 100 + b'"}', "https://example.com/t", Limits(bundle_bytes=100))


def test_text_as_a_predicate_is_refused_with_what_to_use_instead():
    with pytest.raises(WrongShape) as caught:
        parse(b'"SPDXVersion: SPDX-2.3"', "spdx")
    assert "spdxjson" in caught.value.expected
