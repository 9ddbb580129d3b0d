"""Facts and a policy give a verdict, and every way to miss it has its own code and its own remedy."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit.digest import Digest
from sigkit.errors import (
    BadSignature,
    NameNotSigned,
    NoGoodSignature,
    NoneMet,
    NoRule,
    NotAllMet,
    NotASignature,
    OtherKey,
    Place,
    ThresholdNotMet,
    TooMany,
    Unsigned,
    WrongKey,
    WrongName,
    all_codes,
)
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.policy.decide import decide
from sigkit.policy.decision import Allow, Deny, Met, Reason, RefusedEvidence, Standing, Unmet, Warn, record_of
from sigkit.policy.flags import policy_for_keys
from sigkit.policy.model import AllOf, AnyOf, NameRule, Policy, Rule
from sigkit.policy.scope import Scope, parse_image_pattern
from sigkit.trust.bundled import load_public_good
from sigkit.verify.facts import InclusionFact, TimeFact
from tests.simulators.altered import altered
from tests.simulators.identities import ISSUER, SUBJECT, keyless
from tests.simulators.verdicts import IMAGE, NOW, REPOSITORY, facts, policy, request, trusted

SBOM = "https://spdx.dev/Document"
ONE_KEY = "  - images: registry.example/acme/**\n    require: {key: a}\n"


def verdict(rules: str | Policy, *found, refused=(), reference=None, **asked) -> Any:
    loaded = policy(rules, "a", "b", "c") if isinstance(rules, str) else rules
    return decide(found, refused, request(reference, **asked) if reference else request(**asked), loaded, NOW)


def code(decision) -> str:
    assert isinstance(decision, Deny)
    assert len(decision.reasons) == 1
    return decision.reasons[0].code


def refused_evidence(error) -> RefusedEvidence:
    return RefusedEvidence(error.place, Reason.of_error(error))


BAD = refused_evidence(BadSignature("bad", place=Place("registry.example/acme/app@sha256:1")))
FOREIGN = refused_evidence(OtherKey("no trusted key", place=Place("x"), got="a key whose hint is abc"))
UNREAD = refused_evidence(TooMany("more than 1000", place=Place("y")))


def test_a_signature_by_the_required_key_under_the_repositorys_name_is_allowed():
    decision = verdict(ONE_KEY, facts("a"))
    assert isinstance(decision, Allow)
    assert isinstance(decision.tree, Met)
    assert decision.tree.by == (facts("a").signer.signer,)
    assert decision.rule == "registry.example/acme/**"
    assert decision.rule_place.inside == "8:5"
    assert decision.request.manifest == IMAGE
    assert decision.decided_at == NOW


@pytest.mark.attack("policy-controller#235")
def test_an_image_that_no_rule_matches_is_denied_though_it_is_signed():
    decision = verdict(ONE_KEY, facts("a", repository="registry.example/other/app"), reference="registry.example/other/app:v1")
    assert code(decision) == NoRule.code
    assert decision.rule is None
    assert "registry.example/other/app" in decision.reasons[0].remedy


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param([], Unsigned, id="nothing"),
        pytest.param([facts("b")], WrongKey, id="another-key"),
        pytest.param([facts("a", repository="registry.example/acme/other")], WrongName, id="another-name"),
        pytest.param([facts("a", repository=None)], NameNotSigned, id="no-name"),
        pytest.param([facts("a", predicate=SBOM)], NotASignature, id="attestation-only"),
        pytest.param([facts("b", predicate=SBOM)], Unsigned, id="attestation-by-another-key"),
        pytest.param([facts("a", artifact=Digest.of(b"other"))], Unsigned, id="about-another-image"),
    ],
)
def test_each_way_to_miss_has_its_own_code_and_a_command_that_makes_it_pass(found, expected):
    decision = verdict(ONE_KEY, *found)
    assert code(decision) == expected.code
    reason = decision.reasons[0]
    assert f"sigkit sign --key KEY {REPOSITORY}@{IMAGE}" in reason.remedy
    assert reason.standing is Standing.REFUSED
    assert reason.place.inside == "9:20"
    assert record_of(decision).exit_status() == 1


@pytest.mark.parametrize("key", ["a", "b"])
def test_of_an_image_that_was_attested_and_not_signed_it_is_said_how_the_attestation_is_asked_for(key):
    reason = verdict(ONE_KEY, facts(key, predicate=f"{SBOM}; rm")).reasons[0]
    assert reason.remedy.endswith(f"sigkit verify-attestation --type '{SBOM}; rm'")
    assert "verify-attestation" not in verdict(ONE_KEY).reasons[0].remedy


def test_the_signers_that_were_found_instead_are_named():
    reason = verdict(ONE_KEY, facts("b"), facts("c"), facts("c", number=2)).reasons[0]
    assert reason.got.count("key b") == 1
    assert reason.got.count("key c") == 1
    assert str(trusted("b").key.fingerprint) in reason.got


def test_a_key_outside_the_policy_is_a_wrong_key_too():
    assert code(verdict(ONE_KEY, refused=[FOREIGN])) == WrongKey.code


def test_evidence_that_was_refused_is_kept_with_its_reason():
    decision = verdict(ONE_KEY, refused=[BAD])
    assert code(decision) == NoGoodSignature.code
    assert decision.reasons[0].children == (BAD.reason,)
    assert decision.refused == (BAD,)


def test_refused_evidence_beside_a_good_signature_changes_nothing():
    decision = verdict(ONE_KEY, facts("a"), refused=[BAD, FOREIGN, UNREAD])
    assert isinstance(decision, Allow)
    assert len(decision.refused) == 3


def test_evidence_that_could_not_be_read_makes_the_verdict_could_not_check():
    decision = verdict(ONE_KEY, facts("b"), refused=[UNREAD])
    assert decision.reasons[0].standing is Standing.UNCHECKED
    assert record_of(decision).exit_status() == 3


@pytest.mark.attack("containers/image#2950")
def test_a_signature_for_one_repository_counts_for_no_other():
    elsewhere = "registry.example/acme/copy"
    decision = verdict(ONE_KEY, facts("a", repository=REPOSITORY), reference=f"{elsewhere}:v1")
    assert code(decision) == WrongName.code
    assert decision.reasons[0].expected == f"the name {elsewhere}"
    assert decision.reasons[0].got == REPOSITORY


@pytest.mark.parametrize(
    ("signed", "passes"),
    [
        pytest.param("docker.io/library/busybox", True, id="canonical"),
        pytest.param("index.docker.io/library/busybox", True, id="as-cosign-2-writes-it"),
        pytest.param("registry-1.docker.io:443/library/busybox", True, id="the-registry-itself"),
        pytest.param("busybox", True, id="short"),
        pytest.param("busybox:1", True, id="with-a-tag"),
        pytest.param("docker.io/library/busybox2", False, id="longer"),
        pytest.param("DOCKER.IO/library/Busybox", False, id="not-a-name"),
        pytest.param("", False, id="empty"),
    ],
)
def test_a_signed_name_is_compared_in_canonical_form(signed, passes):
    decision = verdict("  - images: busybox\n    require: {key: a}\n", facts("a", repository=signed), reference="busybox")
    assert isinstance(decision, Allow) is passes


def test_a_mapped_name_is_the_one_that_must_be_signed():
    rules = "  - images: mirror.example/**\n    require: {key: a}\n    name: {remap: [{from: mirror.example/acme, to: up.example}]}\n"
    good = facts("a", repository="up.example/app")
    assert isinstance(verdict(rules, good, reference="mirror.example/acme/app"), Allow)
    assert code(verdict(rules, facts("a", repository="mirror.example/acme/app"), reference="mirror.example/acme/app")) == WrongName.code
    assert isinstance(verdict(rules, facts("a", repository="mirror.example/x"), reference="mirror.example/x"), Allow)
    assert code(verdict(rules, facts("a", repository=None), reference="mirror.example/acme/app")) == NameNotSigned.code


def test_only_a_written_any_lets_evidence_without_a_name_pass_and_lists_it():
    rules = ONE_KEY + "    name: any\n"
    decision = verdict(rules, facts("a", repository=None))
    assert isinstance(decision, Allow)
    assert "repository name" in [item.what for item in decision.unchecked]
    foreign = verdict(rules, facts("a", repository="evil.example/app"))
    assert isinstance(foreign, Allow)
    assert "repository name evil.example/app" in [item.what for item in foreign.unchecked]


def test_flags_compare_a_name_if_there_is_one():
    compiled = policy_for_keys((trusted("a"),), name_rule=NameRule.IF_SIGNED)
    without = verdict(compiled, facts("a", repository=None))
    assert isinstance(without, Allow)
    assert "repository name" in [item.what for item in without.unchecked]
    assert isinstance(verdict(compiled, facts("a")), Allow)
    assert code(verdict(compiled, facts("a", repository="registry.example/acme/other"))) == WrongName.code


def test_of_several_keys_given_by_flags_one_is_enough():
    compiled = policy_for_keys((trusted("a"), trusted("b")))
    assert isinstance(verdict(compiled, facts("b")), Allow)
    assert code(verdict(compiled, facts("c"))) == NoneMet.code


def unchecked(decision) -> dict[str, str]:
    return {item.what: item.why for item in decision.unchecked}


def test_a_tag_is_listed_as_unchecked():
    assert "not signed" in unchecked(verdict(ONE_KEY, facts("a")))["tag v1"]


def test_a_tag_beside_a_digest_is_listed_as_never_looked_up():
    assert "never looked up" in unchecked(verdict(ONE_KEY, facts("a"), reference=f"{REPOSITORY}:v9@{IMAGE}"))["tag v9"]
    assert not [what for what in unchecked(verdict(ONE_KEY, facts("a"), reference=f"{REPOSITORY}@{IMAGE}")) if what.startswith("tag")]


def test_what_a_log_and_a_time_would_prove_is_listed_as_unchecked_until_they_do():
    assert {"transparency log", "time of signing"} <= set(unchecked(verdict(ONE_KEY, facts("a"))))
    source = facts("a").signer.source
    logged = altered(facts("a"), inclusions=(InclusionFact("log.example", 7, source),))
    assert "transparency log" not in unchecked(verdict(ONE_KEY, logged))
    timed = altered(facts("a"), times=(TimeFact(NOW, "tsa.example", source),))
    assert "time of signing" not in unchecked(verdict(ONE_KEY, timed))


def test_what_vouches_for_one_piece_of_evidence_closes_no_open_end_of_another():
    logged = keyless(load_public_good())
    found = verdict(ONE_KEY, facts("a"), logged).unchecked
    why = {item.what: item.why for item in found}
    assert "the signature by key a (" in why["transparency log"]
    assert "the signature by key a (" in why["time of signing"]
    assert [item.what for item in verdict(ONE_KEY, logged).unchecked] == ["tag v1"]


def test_without_a_signature_nothing_is_said_about_log_and_time():
    assert set(unchecked(verdict(ONE_KEY))) == {"tag v1"}


def test_rules_with_tags_decide_about_tags_only():
    rules = ONE_KEY.replace("require", "tags: 'v*'\n    require")
    assert isinstance(verdict(rules, facts("a")), Allow)
    assert code(verdict(rules, facts("a"), reference=f"{REPOSITORY}:v1@{IMAGE}")) == NoRule.code
    assert code(verdict(rules, facts("a"), reference=f"{REPOSITORY}:latest")) == NoRule.code


@pytest.mark.parametrize(
    "mode", ["key: a", "allOf: [{key: a}, {key: b}]", "anyOf: [{key: a}]", "atLeast: {n: 1, of: [{key: a}, {key: c}]}"]
)
def test_a_warn_rule_lets_pass_what_was_refused_and_never_what_could_not_be_checked(mode):
    rules = ONE_KEY.replace("key: a", mode) + "    mode: warn\n"
    warned = verdict(rules, facts("c", repository="registry.example/acme/other"))
    assert isinstance(warned, Warn)
    assert warned.reasons == (warned.tree.reason,)
    assert record_of(warned).exit_status() == 0
    unread = verdict(rules, refused=[UNREAD])
    assert isinstance(unread, Deny)
    assert record_of(unread).exit_status() == 3


def test_an_unverified_rule_allows_and_says_why():
    decision = verdict("  - images: registry.example/**\n    unverified: {reason: OPS-1}\n")
    assert isinstance(decision, Allow)
    assert decision.unchecked[0].what == "signatures"
    assert "OPS-1" in decision.unchecked[0].why


def threshold(n: int) -> str:
    return ONE_KEY.replace("{key: a}", f"{{atLeast: {{n: {n}, of: [{{key: a}}, {{key: b}}, {{key: c}}]}}}}")


def test_two_signatures_by_one_key_are_one_of_two():
    decision = verdict(threshold(2), facts("a"), facts("a", number=2))
    assert code(decision) == ThresholdNotMet.code
    assert decision.reasons[0].problem == "1 of 2 distinct"
    assert isinstance(decision.tree, Unmet)
    assert [isinstance(child, Met) for child in decision.tree.children] == [True, False, False]
    assert isinstance(verdict(threshold(2), facts("a"), facts("b")), Allow)


def test_all_of_and_any_of_say_what_is_missing():
    every = ONE_KEY.replace("{key: a}", "{allOf: [{key: a}, {key: b}]}")
    decision = verdict(every, facts("a"))
    assert code(decision) == NotAllMet.code
    assert [reason.code for reason in decision.reasons[0].children] == [WrongKey.code]
    some = ONE_KEY.replace("{key: a}", "{anyOf: [{key: a}, {key: b}]}")
    assert code(verdict(some)) == NoneMet.code
    assert isinstance(verdict(some, facts("b")), Allow)


@pytest.mark.attack("Kyverno vacuous all()")
@pytest.mark.parametrize("kind", [AllOf, AnyOf])
def test_an_empty_list_is_met_by_nothing_even_if_a_policy_had_one(kind):
    here = Place("policy.yaml")
    rule = Rule(Scope((parse_image_pattern("**", here),)), kind((), here), NameRule.ANY, here)
    decision = verdict(Policy("p", Digest.of(b""), here, (rule,), (), ()), facts("a"))
    assert isinstance(decision, Deny)


def test_a_threshold_could_not_be_checked_only_if_what_is_unread_might_have_been_enough():
    def standing(n: int, *found):
        return verdict(threshold(n), *found, refused=[UNREAD]).reasons[0].standing

    assert standing(2, facts("a")) is Standing.UNCHECKED
    assert standing(3, facts("a"), facts("b", artifact=Digest.of(b"other"))) is Standing.UNCHECKED
    assert verdict(threshold(2), facts("a", repository=None)).reasons[0].standing is Standing.REFUSED


def test_a_signed_index_vouches_for_the_manifest_it_leads_to():
    index = Digest.of(b"index")
    decision = verdict(ONE_KEY, facts("a", artifact=index), top=index)
    assert isinstance(decision, Allow)
    assert decision.request.chain == (index, IMAGE)


@pytest.mark.attack("CVE-2022-35929, CVE-2022-35930")
def test_an_attestation_of_any_type_is_no_signature():
    for predicate in (SBOM, "https://slsa.dev/provenance/v1", "https://cosign.sigstore.dev/attestation/vuln/v1", PREDICATE_SIGNATURE + "x"):
        assert code(verdict(ONE_KEY, facts("a", predicate=predicate))) == NotASignature.code


def test_every_code_in_a_decision_is_listed():
    decision = verdict(threshold(3), facts("a", repository=None), facts("b", predicate=SBOM), refused=[BAD, FOREIGN])

    def codes(reason):
        return {reason.code}.union(*(codes(child) for child in reason.children))

    assert codes(decision.reasons[0]) <= set(all_codes())


POOL = [
    *(facts(key, repository=name) for key in "abc" for name in (REPOSITORY, None, "registry.example/acme/other")),
    *(facts(key, predicate=SBOM) for key in "abc"),
]
LEAVES = [f"{{key: {key}}}" for key in "abc"]
REQUIREMENTS = [
    "{key: a}",
    "{allOf: [{key: a}, {key: b}]}",
    "{anyOf: [{key: a}, {key: b}]}",
    "{atLeast: {n: 2, of: [{key: a}, {key: b}, {key: c}]}}",
    "{atLeast: {n: 2, of: [{anyOf: [{key: a}, {key: b}]}, {key: c}]}}",
    "{anyOf: [{allOf: [{key: a}, {key: b}]}, {allOf: [{key: a}, {key: c}]}]}",
]
NAME_RULES = ["repository", "any"]


@given(st.sampled_from(REQUIREMENTS), st.sampled_from(NAME_RULES), st.sets(st.integers(0, len(POOL) - 1)), st.data())
def test_removing_evidence_never_turns_a_deny_into_an_allow(require, name, chosen, data):
    rules = ONE_KEY.replace("{key: a}", require) + f"    name: {name}\n"
    fewer = data.draw(st.sets(st.sampled_from(sorted(chosen)))) if chosen else set()
    loaded = policy(rules, "a", "b", "c")
    asked = request()
    if isinstance(decide([POOL[i] for i in fewer], [], asked, loaded, NOW), Allow):
        assert isinstance(decide([POOL[i] for i in chosen], [BAD, UNREAD], asked, loaded, NOW), Allow)


def test_of_several_signatures_by_one_signer_the_verdict_names_all_in_one_order():
    first, second = facts("a", number=1), facts("a", number=2)
    decided = verdict(ONE_KEY, first, second), verdict(ONE_KEY, second, first)
    assert all(isinstance(decision, Allow) for decision in decided)
    assert decided[0].tree == decided[1].tree


def test_of_signatures_that_lack_as_much_the_verdict_tells_of_one_whichever_was_listed_first():
    root = load_public_good()
    asked = f"  - images: registry.example/**\n    require: {{identity: {{issuer: {ISSUER}, subject: {SUBJECT}}}}}\n"
    unlogged, uncertified = keyless(root, logs=()), keyless(root, certificate_logs=())
    one, other = verdict(asked, unlogged, uncertified), verdict(asked, uncertified, unlogged)
    assert isinstance(one, Deny)
    assert isinstance(other, Deny)
    assert one.tree == other.tree


def test_the_order_of_evidence_changes_no_verdict():
    found = [facts("a", repository=None), facts("a"), facts("b", predicate=SBOM)]
    verdicts = {type(verdict(threshold(1), *order)) for order in itertools.permutations(found)}
    assert verdicts == {Allow}
