"""`policy explain` leaves nothing out: what was tried, what it proved, who signed instead, and the smallest change that makes it pass."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit.errors import BadSignature, NoRule, NotLogged, Place, WrongIdentity
from sigkit.policy.decide import decide
from sigkit.policy.decision import Allow, Met, Reason, RefusedEvidence
from sigkit.policy.record import parse_record
from sigkit.policy.why import encode_why, explain_why
from sigkit.strict import encode_json
from sigkit.trust.bundled import load_public_good
from sigkit.verify.facts import KeySigner
from tests.simulators.identities import ISSUER, SUBJECT, keyless
from tests.simulators.verdicts import NOW, facts, policy, private, request

ROOT = load_public_good()
IDENTITY = f"{{identity: {{issuer: {ISSUER}, subject: {SUBJECT}}}}}"
BOTH = "{allOf: [{key: a}, {attestation: {type: vuln, by: {key: b}}}]}"
BAD = RefusedEvidence(Place("x@sha256:1"), Reason.of_error(BadSignature("bad", place=Place("x@sha256:1"))))


def decided(require: str, *found, refused=(), images="registry.example/**"):
    rules = f"  - images: {images}\n    require: {require}\n"
    return decide(found, refused, request(), policy(rules, "a", "b", "c"), NOW)


def text(decision) -> str:
    return "\n".join(f"{line.label} {line.text} {line.code}" for line in explain_why(decision).lines())


def steps(decision) -> list[str]:
    return [change.step for change in explain_why(decision).changes]


def test_everything_that_was_tried_is_there_with_what_it_proved_or_why_it_was_refused():
    told = text(decided(IDENTITY, keyless(ROOT, subject="other@x.example", extensions={"buildTrigger": "push"}), facts("a"), refused=[BAD]))
    assert "identity other@x.example of https://token.actions.example" in told
    assert "buildTrigger=push" in told
    assert "in log log at index 0" in told
    assert "cert log ct at" in told
    assert "log time by log" in told
    assert str(private("a").public.fingerprint) in told
    assert BadSignature.code in told


def test_who_signed_instead_is_listed_without_those_who_were_wanted():
    found = explain_why(decided("{anyOf: [{key: a}, {key: b}]}", facts("c"), facts("a"), keyless(ROOT)))
    assert [signer.name if isinstance(signer, KeySigner) else signer.subject for signer in found.instead] == [SUBJECT, "c"]


@pytest.mark.parametrize(
    ("require", "found", "expected"),
    [
        # A good signature that lacks a log is nearer than a key that never signed.
        pytest.param(f"{{anyOf: [{{key: a}}, {IDENTITY}]}}", [keyless(ROOT, logs=())], ["logEntries"], id="demand-before-signature"),
        # One more signer of those that are missing, not all of them.
        pytest.param("{atLeast: {n: 2, of: [{key: a}, {key: b}, {key: c}]}}", [facts("a")], ["sigkit sign --key"], id="one-of-two-missing"),
        pytest.param(
            "{allOf: [{key: a}, {attestation: {type: vuln, by: {key: b}}}]}", [facts("a")], ["sigkit attest"], id="what-is-missing"
        ),
        pytest.param(BOTH, [], ["sigkit sign", "sigkit attest"], id="both"),
        pytest.param("{anyOf: [{allOf: [{key: a}, {key: b}]}, {key: c}]}", [], ["sigkit sign"], id="the-shorter-way"),
        pytest.param("{key: a}", [facts("a", repository="registry.example/x")], ["map the name"], id="name"),
    ],
)
def test_the_smallest_change_is_the_nearest_and_the_fewest(require, found, expected):
    told = steps(decided(require, *found))
    assert len(told) == len(expected)
    for part in expected:
        assert any(part in step for step in told), told


def test_a_part_that_is_met_needs_no_change():
    assert steps(decided("{key: a}", facts("a"))) == []


def test_elements_that_one_signer_meets_need_another_signer():
    anybody = f"{{identity: {{issuer: {ISSUER}, subjectRegExp: '.+'}}}}"
    decision = decided(f"{{atLeast: {{n: 2, of: [{IDENTITY}, {anybody}]}}}}", keyless(ROOT))
    assert "another signer" in steps(decision)[0]


def test_an_image_that_no_rule_matches_needs_a_rule():
    decision = decided("{key: a}", facts("a"), images="other.example/**")
    assert NoRule.code in text(decision)
    assert "add a rule" in steps(decision)[0]


def test_an_edit_that_would_accept_who_signed_is_offered_as_data_that_cannot_leave_its_quotes():
    hostile = 'x", issuer: "y'
    told = text(decided(IDENTITY, keyless(ROOT, subject=hostile)))
    assert json.dumps(hostile) in told
    assert "may vouch for it, let the rule say so: identity: {" in told


def test_the_document_holds_the_decision_and_the_same_as_the_lines():
    decision = decided(f"{{anyOf: [{{key: a}}, {IDENTITY}]}}", facts("c"), keyless(ROOT, logs=()), refused=[BAD])
    document = json.loads(encode_json(encode_why(explain_why(decision))))
    assert document["schema"] == "sigkit.explanation/1"
    assert parse_record(encode_json(document["decision"]), Place("x")) == explain_why(decision).record
    assert [("proved" in item) for item in document["tried"]] == [True, True, False]
    assert document["tried"][0]["isSignature"] is True
    assert document["tried"][2]["refused"]["reason"]["code"] == BadSignature.code
    assert [signer["type"] for signer in document["signedInstead"]] == ["identity", "key"]
    assert len(document["smallestChange"]) == 1
    codes = {child["reason"]["code"] for child in document["decision"]["tree"]["children"]}
    assert NotLogged.code in codes


def test_each_part_of_the_rule_is_there_met_or_not():
    told = text(decided(f"{{allOf: [{{key: a}}, {IDENTITY}]}}", facts("a")))
    assert "met a signature by key a, by key a" in told
    assert f"not met a signature by identity {SUBJECT}" in told
    assert WrongIdentity.code in told


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=3), st.integers(1, 3))
def test_what_is_said_to_be_missing_of_a_threshold_is_enough(signers, needed):
    require = f"{{atLeast: {{n: {needed}, of: [{{key: a}}, {{key: b}}, {{key: c}}]}}}}"
    decision = decided(require, *(facts(name) for name in signers))
    if isinstance(decision, Allow):
        assert isinstance(decision.tree, Met)
        assert len(set(signers)) >= needed
    else:
        assert decision.tree.short == needed - len(set(signers))


def test_another_signer_is_offered_only_where_the_right_one_did_not_sign():
    assert "let the rule say so" in text(decided("{key: a}", facts("b")))
    attested = facts("a", predicate="https://spdx.dev/Document")
    assert "let the rule say so" not in text(decided("{key: a}", attested))
