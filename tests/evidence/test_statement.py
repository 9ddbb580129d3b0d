"""in-toto statements."""

from __future__ import annotations

import json

import pytest

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import MalformedDigest, ParseError, Place, TooMany, WrongShape
from sigkit.evidence.statement import PREDICATE_SIGNATURE, STATEMENT_V01, Statement, Subject, parse_statement
from tests.simulators.evidence_maker import ARTIFACT, REPOSITORY, statement, subject

HERE = Place("payload")


def parse(document):
    return parse_statement(json.dumps(document).encode(), limits.DEFAULT, HERE)


def test_a_signatures_statement_reads_back_as_written():
    written = Statement((Subject((ARTIFACT,), REPOSITORY, {"b": "2", "a": "1"}),), PREDICATE_SIGNATURE)
    assert parse_statement(written.encode(), limits.DEFAULT, HERE) == written


def test_the_same_statement_has_the_same_bytes_whatever_the_order_of_its_annotations():
    one = Statement((Subject((ARTIFACT,), REPOSITORY, {"b": "2", "a": "1"}),), PREDICATE_SIGNATURE)
    two = Statement((Subject((ARTIFACT,), REPOSITORY, {"a": "1", "b": "2"}),), PREDICATE_SIGNATURE)
    assert one.encode() == two.encode()


def test_what_cosign_3_writes_is_read():
    raw = (
        b'{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"%s"},"annotations":{}}],'
        b'"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}' % ARTIFACT.hex.encode()
    )
    assert parse_statement(raw, limits.DEFAULT, HERE) == Statement((Subject((ARTIFACT,)),), PREDICATE_SIGNATURE)


def test_what_cosign_attest_writes_is_read():
    document = statement(_type=STATEMENT_V01, subject=[{"name": REPOSITORY, "digest": {"sha256": ARTIFACT.hex}}], predicateType="x:y")
    assert parse(document) == Statement((Subject((ARTIFACT,), REPOSITORY),), "x:y", STATEMENT_V01)


@pytest.mark.parametrize("change", [{"predicate": {"any": ["thing"]}}, {"predicate": None}])
def test_any_object_or_no_predicate_is_allowed(change):
    parse(statement(**change))


def test_digests_of_other_algorithms_are_passed_over():
    document = statement(subject=[subject(digest={"sha256": ARTIFACT.hex, "gitCommit": "ABC", "sha1": "x"})])
    assert parse(document).subjects[0].digests == (ARTIFACT,)


def test_every_accepted_algorithm_is_kept():
    digests = (ARTIFACT, Digest.of(b"x", "sha384"), Digest.of(b"x", "sha512"))
    assert parse(statement(subject=[subject(digest={d.algorithm: d.hex for d in digests})])).subjects[0].digests == digests


def test_an_annotation_that_is_no_text_is_named_and_not_kept():
    found = parse(statement(subject=[subject(annotations={"a": "1", "b": 2, "c": None, "d": {"x": []}})])).subjects[0]
    assert found.annotations == {"a": "1"}
    assert found.untold == ("b", "c", "d")


@pytest.mark.parametrize(
    ("document", "place"),
    [
        pytest.param(statement(_type="https://in-toto.io/Statement/v2"), "$._type", id="version"),
        pytest.param(statement(_type=None), "$", id="no version"),
        pytest.param(statement(predicateType=""), "$.predicateType", id="empty predicate type"),
        pytest.param(statement(predicateType=None), "$", id="no predicate type"),
        pytest.param(statement(predicate="text"), "$.predicate", id="predicate a string"),
        pytest.param(statement(predicate=[]), "$.predicate", id="predicate a list"),
        pytest.param(statement(subject=None), "$", id="no subject"),
        pytest.param(statement(subject={}), "$.subject", id="subject no list"),
        pytest.param(statement(subject=["x"]), "$.subject[0]", id="subject no object"),
        pytest.param(statement(subject=[subject(extra=1)]), "$.subject[0]", id="unknown member of a subject"),
        pytest.param(statement(subject=[subject(name=7)]), "$.subject[0].name", id="name no string"),
        pytest.param(statement(subject=[subject(uri=7)]), "$.subject[0].uri", id="uri no string"),
        pytest.param(statement(subject=[subject(digest=["x"])]), "$.subject[0].digest", id="digest no object"),
        pytest.param(statement(extra=1), "$", id="unknown member"),
    ],
)
def test_another_shape_is_refused_as_PARSE_with_its_path(document, place):
    with pytest.raises(WrongShape) as caught:
        parse(document)
    assert caught.value.place == Place("payload", place)


@pytest.mark.parametrize("encoded", [ARTIFACT.hex.upper(), ARTIFACT.hex[:-2], ARTIFACT.hex + "00", "", "zz" * 32])
def test_a_malformed_digest_of_an_accepted_algorithm_is_refused(encoded):
    with pytest.raises(MalformedDigest) as caught:
        parse(statement(subject=[subject(digest={"sha256": encoded})]))
    assert caught.value.place.inside == "$.subject[0].digest.sha256"


@pytest.mark.parametrize("raw", [b"", b"{}x", b'{"_type":1,"_type":2}', b"\xef\xbb\xbf{}", b"NaN"])
def test_what_two_readers_could_see_differently_is_refused_as_PARSE(raw):
    with pytest.raises(ParseError):
        parse_statement(raw, limits.DEFAULT, HERE)


def test_subjects_and_digests_beyond_the_limit_are_refused_as_LIMIT():
    with pytest.raises(TooMany):
        parse(statement(subject=[subject()] * 1025))
    with pytest.raises(TooMany):
        parse(statement(subject=[subject(digest={f"a{n}": "x" for n in range(33)})]))


def test_too_many_annotations_are_refused_as_LIMIT():
    several = {f"a{number}": "x" for number in range(limits.ANNOTATIONS)}
    assert len(parse(statement(subject=[subject(annotations=several)])).subjects[0].annotations) == limits.ANNOTATIONS
    with pytest.raises(TooMany):
        parse(statement(subject=[subject(annotations={**several, "one": "more"})]))
