"""An explanation says what was proved, what was not, why, and what to do: from the decision, or from its stored record."""

import pytest

from sigkit.digest import Digest
from sigkit.errors import BadSignature, Place, TooMany, Unsigned, all_codes
from sigkit.policy.decide import decide
from sigkit.policy.decision import Hint, Reason, RefusedEvidence, encode_decision
from sigkit.policy.explain import explain, explain_record
from sigkit.policy.record import parse_record
from sigkit.strict import encode_json
from sigkit.trust.bundled import load_public_good
from tests.simulators.identities import ISSUER, SUBJECT, keyless
from tests.simulators.verdicts import IMAGE, NOW, REPOSITORY, facts, policy, private, request

ONE_KEY = "  - images: registry.example/acme/**\n    require: {key: a}\n"
BAD = RefusedEvidence(Place("x"), Reason.of_error(BadSignature("bad", place=Place("x"))))
UNREAD = RefusedEvidence(Place("y"), Reason.of_unread(TooMany("more", place=Place("y"))))


def explained(*found, rules=ONE_KEY, refused=(), **asked):
    return explain(decide(found, refused, request(**asked), policy(rules, "a", "b"), NOW))


def labelled(lines, label):
    return [line.text for line in lines if line.label == label]


def test_an_allow_shows_image_policy_signer_and_who_stands_behind_it():
    found = explained(facts("a"))
    assert found.word == "allowed"
    assert found.subject == f"{REPOSITORY}@{IMAGE}"
    assert labelled(found.facts, "signed by") == [f"key a (ecdsa-p256, {private('a').public.fingerprint})"]
    assert labelled(found.facts, "name") == [REPOSITORY]
    assert "trust root test" in labelled(found.facts, "trusted by")[0]
    assert labelled(found.unchecked, "unchecked")[0].startswith("tag v1")
    assert found.reasons == ()
    assert found.next == ()


@pytest.mark.parametrize(
    ("decided", "word"),
    [
        pytest.param({"rules": ONE_KEY + "    mode: warn\n"}, "warned", id="warned"),
        pytest.param({}, "refused", id="refused"),
        pytest.param({"refused": [UNREAD]}, "could not check", id="could-not-check"),
    ],
)
def test_the_headline_tells_the_outcomes_apart(decided, word):
    assert explained(**decided).word == word


def test_a_refusal_shows_code_place_wanted_found_and_the_command_that_would_make_it_pass():
    found = explained(facts("b"))
    assert found.reasons[0].code in all_codes()
    assert labelled(found.reasons, "where") == ["policy.yaml: 8:20"]
    assert labelled(found.reasons, "wanted") == ["a signature by key a"]
    assert labelled(found.reasons, "found")[0].startswith("key b")
    assert found.next[0].startswith(f"sigkit sign --key KEY {REPOSITORY}@{IMAGE}  # ")
    assert found.next[-1].startswith("sigkit why SK-POLICY-")


def test_evidence_that_was_passed_over_is_told_once():
    assert explained(facts("a"), refused=[BAD]).reasons[0].label == "passed over"
    told = [line for line in explained(refused=[BAD]).reasons if line.code == BadSignature.code]
    assert len(told) == 1


def test_a_stored_record_is_explained_as_the_decision_was():
    decision = decide([facts("b")], [BAD, UNREAD], request(), policy(ONE_KEY, "a", "b"), NOW)
    record = parse_record(encode_json(encode_decision(decision)), Place("stored"))
    assert explain_record(record) == explain(decision)


def test_a_platform_is_shown_where_it_was_read():
    assert labelled(explained(facts("a"), platform=None).facts, "manifest") == [str(IMAGE)]
    of_index = explained(facts("a", artifact=Digest.of(b"index")), top=Digest.of(b"index"))
    assert labelled(of_index.facts, "manifest") == [f"{IMAGE} (linux/amd64)"]


def test_of_very_much_refused_evidence_the_first_is_told_and_the_rest_counted():
    many = [RefusedEvidence(Place(f"x{n}"), Reason.of_error(BadSignature("bad", place=Place(f"x{n}")))) for n in range(1_000)]
    for told in (explained(facts("a"), refused=many).reasons, explained(refused=many).reasons):
        assert len(told) < 100
        assert any("980 more" in line.text for line in told)


def test_who_counted_is_told_first():
    told = explained(facts("b"), facts("c"), facts("a")).facts
    (counted,) = labelled(told, "signed by")
    assert counted.startswith("key a ")
    assert len(labelled(told, "not needed")) == 2


def test_of_one_signers_evidence_what_counted_is_told_and_the_rest_is_not_needed():
    other = facts("a", number=2, predicate="https://spdx.dev/Document")
    told = explained(other, facts("a")).facts
    assert len(labelled(told, "signed by")) == 1
    assert labelled(told, "not needed") == [f"attested by key a (ecdsa-p256, {private('a').public.fingerprint}), at {other.place}"]


def test_who_met_one_of_several_is_named():
    rules = "  - images: registry.example/acme/**\n    require: {anyOf: [{key: a}, {key: b}]}\n"
    (met,) = labelled(explained(facts("b"), rules=rules).facts, "met")
    assert met.startswith("any of 2, by key b ")


def test_a_promise_that_is_proved_kept_is_not_told_as_unproved():
    root = load_public_good()
    rules = f"  - images: registry.example/acme/**\n    require: {{identity: {{issuer: {ISSUER}, subject: {SUBJECT}}}}}\n"
    both = explained(keyless(root, logs=("log",), promises=("log",)), rules=rules).facts
    assert (labelled(both, "in log"), labelled(both, "promised")) == (["log at index 0"], [])
    assert len(labelled(explained(keyless(root, logs=(), promises=("log",)), rules=rules).facts, "promised")) == 1


def test_an_index_that_vouches_for_the_image_is_told():
    index = Digest.of(b"index")
    told = labelled(explained(facts("a", artifact=index), top=index).facts, "by index")
    assert len(told) == 1
    assert f"the index {index} is signed and names the image {IMAGE}" in told[0]
    assert labelled(explained(facts("a")).facts, "by index") == []


def test_an_image_by_its_own_digest_without_evidence_may_be_part_of_an_index():
    by_digest = {"reference": f"{REPOSITORY}@{IMAGE}"}
    assert explained(**by_digest).reasons[0].code == Unsigned.code
    assert explained(**by_digest).hints == (Hint.NAME_THE_INDEX,)
    assert "--index INDEX" in explained(**by_digest).lines()[-1].text
    for other in (explained(), explained(facts("b"), **by_digest), explained(facts("a"), **by_digest)):
        assert other.hints == ()
