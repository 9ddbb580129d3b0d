"""An explanation says what was proved, what was not, why, and what to do: from the decision, or from its stored record."""

import pytest

from sigkit.digest import Digest
from sigkit.errors import BadSignature, Place, TooMany, all_codes
from sigkit.policy.decide import decide
from sigkit.policy.decision import Reason, RefusedEvidence, encode_decision
from sigkit.policy.explain import explain, explain_record
from sigkit.policy.record import parse_record
from sigkit.strict import encode_json
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
    assert found.next[0] == f"sigkit sign --key KEY {REPOSITORY}@{IMAGE}"
    assert found.next[-1].startswith("sigkit why SK-POLICY-")


def test_evidence_that_was_passed_over_is_told_once():
    assert explained(facts("a"), refused=[BAD]).reasons[0].label == "passed over"
    told = [line for line in explained(refused=[BAD]).reasons if line.code == BadSignature.code]
    assert len(told) == 1


def test_a_stored_record_is_explained_as_the_decision_was():
    decision = decide([facts("b")], [BAD, UNREAD], request(), policy(ONE_KEY, "a", "b"), NOW)
    record = parse_record(encode_json(encode_decision(decision)), Place("stored"))
    assert explain_record(record) == explain(decision)


def test_a_platform_is_shown_only_where_an_index_names_it():
    assert labelled(explained(facts("a")).facts, "manifest") == [str(IMAGE)]
    of_index = explained(facts("a", artifact=Digest.of(b"index")), top=Digest.of(b"index"))
    assert labelled(of_index.facts, "manifest") == [f"{IMAGE} (linux/amd64)"]
