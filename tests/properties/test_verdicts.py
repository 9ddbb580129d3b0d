"""Whatever a policy asks for: evidence that goes away takes no denial away, and order and strangers change nothing."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from sigkit.digest import Digest
from sigkit.errors import Place, SigkitError
from sigkit.policy.decide import decide, decide_blob
from sigkit.policy.decision import Allow, Deny, Met, Reason, RefusedEvidence, encode_decision
from sigkit.policy.load import parse_policy
from sigkit.policy.record import parse_record
from sigkit.policy.why import encode_why, explain_why
from sigkit.strict import encode_json
from sigkit.trust.bundled import load_public_good
from sigkit.verify.bind import Artifact
from sigkit.verify.facts import Facts
from tests.simulators.altered import altered
from tests.simulators.identities import ISSUER, SUBJECT, keyless
from tests.simulators.verdicts import IMAGE, NOW, facts, read_key, request

ROOT = load_public_good()
SBOM = "https://spdx.dev/Document"
SUBJECTS = [SUBJECT, "x@acme.example", "y@acme.example"]

leaves = st.one_of(
    st.sampled_from(["{key: a}", "{key: b}", "{key: c}", "{authority: log}", "{authority: strict}"]),
    st.sampled_from([f"{{identity: {{issuer: {ISSUER}, subject: {subject}}}}}" for subject in SUBJECTS]),
    st.sampled_from([f"{{identity: {{issuer: {ISSUER}, subjectRegExp: {text}}}}}" for text in ("'.+'", "'[xy]@acme[.]example'", "'x.*'")]),
)


def attested(require: str) -> str:
    return f"{{attestation: {{type: spdxjson, by: {require}}}}}"


def several(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.lists(parts, min_size=1, max_size=3)
    return st.one_of(
        lists.map(lambda of: f"{{allOf: [{', '.join(of)}]}}"),
        lists.map(lambda of: f"{{anyOf: [{', '.join(of)}]}}"),
        lists.flatmap(lambda of: st.integers(1, len(of)).map(lambda n: f"{{atLeast: {{n: {n}, of: [{', '.join(of)}]}}}}")),
    )


requirements = st.recursive(st.one_of(leaves, leaves.map(attested)), several, max_leaves=5)
names = st.lists(st.sampled_from(["one", "two"]), max_size=2, unique=True).map(tuple)


@st.composite
def evidence(draw) -> Facts:
    repository = draw(st.sampled_from(["registry.example/acme/app", "registry.example/other", None]))
    predicate = draw(st.sampled_from(["https://sigstore.dev/cosign/sign/v1", SBOM, None]))
    if draw(st.booleans()):
        found = facts(draw(st.sampled_from("abcd")), repository=repository, number=draw(st.integers(1, 2)))
        found = altered(found, signature=altered(found.signature, predicate_type=predicate))
        return altered(found, inclusions=keyless(ROOT, logs=draw(names)).inclusions)
    return keyless(
        ROOT,
        draw(st.sampled_from([*SUBJECTS, "evil@x.example"])),
        draw(st.sampled_from([ISSUER, "https://other.example"])),
        certified_by=draw(st.sampled_from([None, Digest.of(b"other")])),
        logs=draw(names),
        promises=draw(names),
        stamps=draw(names),
        certificate_logs=draw(names),
        repository=repository,
        predicate=predicate,
        number=draw(st.integers(1, 2)),
        operator=draw(st.sampled_from(["", "same"])),
    )


def load(require: str, name: str):
    head = (
        "apiVersion: sigkit.dev/v1alpha1\nkind: Policy\nkeys: {a: {file: a.pub}, b: {file: b.pub}, c: {file: c.pub}}\n"
        "authorities:\n  log: {key: c, logEntries: 1}\n"
        f"  strict: {{identity: {{issuer: {ISSUER}, subject: {SUBJECT}}}, logInclusions: 1, timestamps: 2, certificateLogs: 2}}\n"
    )
    rules = f"rules:\n  - images: registry.example/**\n    name: {name}\n    require: {require}\n"
    return parse_policy(f"{head}{rules}".encode(), Place.operator("policy.yaml"), read_key)


@st.composite
def judged(draw):
    """Give a policy that loads, and evidence."""
    require, name = draw(requirements), draw(st.sampled_from(["repository", "any"]))
    try:
        loaded = load(require, name)
    except SigkitError:  # a signer that would count twice, or several with an identity
        loaded = load(draw(leaves), name)
    return loaded, draw(st.lists(evidence(), max_size=4))


def allowed(loaded, found) -> bool:
    return isinstance(decide(found, [], request(), loaded, NOW), Allow)


def weaker(found: Facts) -> list[Facts]:
    """Give the same evidence with one fact less, in every way."""
    lists = ("inclusions", "promises", "times", "certificate_logs")
    return [
        altered(found, **{name: tuple(item for item in getattr(found, name) if item is not gone)})
        for name in lists
        for gone in getattr(found, name)
    ]


@given(judged())
def test_dropping_a_fact_never_turns_a_deny_into_an_allow(case):
    loaded, found = case
    if allowed(loaded, found):
        return
    for index, item in enumerate(found):
        assert not allowed(loaded, found[:index] + found[index + 1 :])
        for less in weaker(item):
            assert not allowed(loaded, [*found[:index], less, *found[index + 1 :]])


@given(judged())
def test_the_order_of_evidence_changes_nothing(case):
    loaded, found = case
    verdicts = set()
    for order in itertools.islice(itertools.permutations(found), 24):
        decision = decide(order, [], request(), loaded, NOW)
        reasons = tuple(reason.code for reason in decision.reasons) if isinstance(decision, Deny) else ()
        verdicts.add((type(decision), reasons, encode_json(encode_decision(decision)["tree"])))
    assert len(verdicts) == 1


@given(judged(), st.lists(evidence(), max_size=2))
def test_evidence_beside_what_is_enough_changes_nothing(case, strangers):
    loaded, found = case
    if allowed(loaded, found):
        assert allowed(loaded, [*strangers, *found])
        assert allowed(loaded, [*found, *strangers, *found])


@given(judged(), st.sampled_from(["SK-SIG-001", "SK-LIMIT-003"]))
def test_refused_evidence_never_helps_and_never_harms(case, code):
    loaded, found = case
    refused = [RefusedEvidence(Place("x"), Reason(code, "refused"))]
    assert isinstance(decide(found, refused, request(), loaded, NOW), Allow) is allowed(loaded, found)


@given(judged())
def test_what_is_met_was_met_by_somebody_who_is_named(case):
    loaded, found = case
    decision = decide(found, [], request(), loaded, NOW)
    if isinstance(decision, Allow):
        assert isinstance(decision.tree, Met)
        assert decision.tree.by
        assert set(decision.tree.by) <= {item.signer.signer for item in found}


@given(judged())
def test_every_decision_is_read_back_and_explained(case):
    loaded, found = case
    decision = decide(found, [], request(), loaded, NOW)
    why = explain_why(decision)
    assert parse_record(encode_json(encode_decision(decision)), Place("x")) == why.record
    assert encode_json(encode_why(why))
    assert bool(why.changes) is isinstance(decision, Deny)
    assert all(change.step for change in why.changes)
    assert list(why.lines())


@given(judged())
def test_a_file_is_judged_as_an_image_is(case):
    loaded, found = case
    statements = [item for item in found if item.signature.predicate_type is not None]
    require = loaded.rules[0].require
    any_name = altered(loaded, rules=(altered(loaded.rules[0], name=load("{key: a}", "any").rules[0].name),))
    decision = decide_blob(statements, [], Artifact.of(IMAGE), require, NOW)
    assert isinstance(decision.tree, Met) is allowed(any_name, statements)
