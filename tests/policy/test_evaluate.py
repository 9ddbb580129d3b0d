"""What counts for an identity, an attestation and a demand, each way to miss it, and what is found within one piece of evidence only."""

import pytest

from sigkit.digest import Digest
from sigkit.errors import (
    CertificateNotLogged,
    NoAttestation,
    NoGoodSignature,
    NotASignature,
    NotLogged,
    NotTimestamped,
    Place,
    ThresholdNotMet,
    TooMany,
    Unsigned,
    WrongAnnotation,
    WrongAuthority,
    WrongIdentity,
    WrongName,
)
from sigkit.policy.decide import decide, decide_blob
from sigkit.policy.decision import Allow, Deny, Met, Reason, RefusedEvidence, Standing
from sigkit.policy.flags import anchor_of, signed_or_attested
from sigkit.policy.identity import Exactly, Expression, IdentityPattern
from sigkit.policy.model import AtLeast, AttestationRequirement, Demands, IdentityRequirement, KeyRequirement
from sigkit.trust.bundled import load_public_good
from sigkit.verify.bind import Artifact
from tests.simulators.altered import altered
from tests.simulators.identities import ISSUER, SUBJECT, keyless
from tests.simulators.verdicts import IMAGE, NOW, facts, policy, request, trusted

ROOT = load_public_good()
SBOM = "https://spdx.dev/Document"
IDENTITY = f"{{issuer: {ISSUER}, subject: {SUBJECT}}}"
HERE = Place("policy.yaml")


def rules(require: str, more: str = "") -> str:
    return f"  - images: registry.example/**\n    require: {require}\n{more}"


def verdict(require: str, *found, refused=(), more=""):
    return decide(found, refused, request(), policy(rules(require, more), "a", "b"), NOW)


def code(decision) -> str:
    assert isinstance(decision, Deny)
    return decision.reasons[0].code


def signed(**other):
    return keyless(ROOT, **other)


def test_an_identity_needs_its_issuer_a_log_entry_and_a_logged_certificate():
    decision = verdict(f"{{identity: {IDENTITY}}}", signed())
    assert isinstance(decision, Allow)
    assert isinstance(decision.tree, Met)
    assert decision.tree.by == (signed().signer.signer,)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param([], Unsigned, id="nothing"),
        pytest.param([signed(subject=f"{SUBJECT}x")], WrongIdentity, id="subject-that-goes-on"),
        pytest.param([signed(issuer=f"{ISSUER}/")], WrongIdentity, id="another-issuer"),
        pytest.param([facts("a")], WrongIdentity, id="a-key"),
        pytest.param([signed(certified_by=Digest.of(b"mine"))], WrongAuthority, id="another-authority"),
        pytest.param([signed(predicate=SBOM)], NotASignature, id="attestation"),
        pytest.param([signed(predicate=None)], NotASignature, id="signature-over-a-file"),
        pytest.param([signed(repository="registry.example/x")], WrongName, id="another-name"),
        pytest.param([signed(logs=())], NotLogged, id="no-log"),
        pytest.param([signed(certificate_logs=())], CertificateNotLogged, id="no-certificate-log"),
        pytest.param([signed(artifact=Digest.of(b"other"))], Unsigned, id="another-image"),
    ],
)
def test_each_way_to_miss_an_identity_has_its_own_code(found, expected):
    assert code(verdict(f"{{identity: {IDENTITY}}}", *found)) == expected.code


def test_the_identities_that_signed_instead_are_named_with_their_issuers():
    others = [signed(subject="https://evil.example/\x1b[2J"), signed(subject="mallory@evil.example", issuer="https://idp.example")]
    reason = verdict(f"{{identity: {IDENTITY}}}", *others).reasons[0]
    assert "identity https://evil.example/\x1b[2J of https://token.actions.example" in reason.got
    assert "identity mallory@evil.example of https://idp.example" in reason.got


def test_an_extension_that_differs_is_named():
    wanted = (
        f"{{identity: {{issuer: {ISSUER}, subject: {SUBJECT}, extensions: {{runnerEnvironment: github-hosted, sourceRepositoryRef: x}}}}}}"
    )
    found = signed(extensions={"runnerEnvironment": "self-hosted"})
    reason = verdict(wanted, found).reasons[0]
    assert reason.code == WrongIdentity.code
    assert "runnerEnvironment self-hosted" in reason.got
    assert "sourceRepositoryRef (absent)" in reason.got


def test_an_absent_extension_fits_no_expression_not_even_one_that_fits_the_empty_text():
    wanted = f"{{identity: {{issuer: {ISSUER}, subject: {SUBJECT}, extensions: {{runnerEnvironment: {{regExp: '.*'}}}}}}}}"
    assert code(verdict(wanted, signed())) == WrongIdentity.code
    assert isinstance(verdict(wanted, signed(extensions={"runnerEnvironment": ""})), Allow)


@pytest.mark.attack("mixed evidence")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(signed(logs=()), signed(certificate_logs=()), id="log-and-certificate-log"),
        pytest.param(signed(repository="registry.example/x"), signed(logs=()), id="name-and-log"),
        pytest.param(signed(predicate=SBOM), signed(subject="x@y.example"), id="kind-and-signer"),
        pytest.param(signed(certified_by=Digest.of(b"mine")), signed(logs=()), id="authority-and-log"),
    ],
)
def test_what_is_asked_for_together_is_met_by_one_piece_of_evidence(one, other):
    assert isinstance(verdict(f"{{identity: {IDENTITY}}}", one, other), Deny)


def leaf(**demands) -> IdentityRequirement:
    pattern = IdentityPattern(Exactly(ISSUER), Expression(".*"))
    return IdentityRequirement(pattern, anchor_of(ROOT), HERE, Demands(**demands))


def about_file(require, *found):
    return decide_blob(found, (), Artifact.of(IMAGE), require, NOW).tree


@pytest.mark.attack("CVE-2026-49834, sigstore-js#1702")
def test_demands_count_distinct_operators_and_logs_of_the_root_alone():
    assert isinstance(about_file(leaf(log_entries=2), signed(logs=("one", "two"))), Met)
    assert about_file(leaf(log_entries=2), signed(logs=("one", "one"))).reason.code == NotLogged.code
    assert about_file(leaf(log_entries=2), signed(logs=("one", "two"), operator="same")).reason.code == NotLogged.code
    foreign = altered(ROOT, digest=Digest.of(b"other"))
    mixed = altered(signed(logs=("one",)), promises=keyless(foreign, promises=("two",)).promises)
    assert about_file(leaf(log_entries=2), mixed).reason.code == NotLogged.code
    assert about_file(leaf(timestamps=2), signed(stamps=("one", "one"))).reason.code == NotTimestamped.code
    assert isinstance(about_file(leaf(timestamps=2), signed(stamps=("one", "two"))), Met)
    assert about_file(leaf(certificate_logs=2), signed()).reason.code == CertificateNotLogged.code


def test_a_promise_is_a_log_entry_and_no_proof_of_one():
    promised = signed(logs=(), promises=("log",))
    assert isinstance(about_file(leaf(log_entries=1), promised), Met)
    assert about_file(leaf(log_inclusions=1), promised).reason.code == NotLogged.code
    assert isinstance(about_file(leaf(log_inclusions=1), signed()), Met)
    # One log that promised and then proved is one log.
    both = altered(signed(), promises=signed(promises=("log",)).promises)
    assert about_file(leaf(log_entries=2), both).reason.code == NotLogged.code


def test_a_logs_own_time_is_no_timestamp():
    assert about_file(leaf(timestamps=1), signed(promises=("log",))).reason.code == NotTimestamped.code


def test_a_demand_that_is_short_says_by_how_much_and_which_field_asks_for_it():
    reason = about_file(leaf(log_entries=3), signed(logs=("one",))).reason
    assert reason.got == "1 transparency logs"
    assert reason.expected.startswith("3 transparency logs")
    assert "logEntries" in reason.remedy


ATTESTED = f"{{attestation: {{type: spdxjson, by: {{anyOf: [{{key: a}}, {{identity: {IDENTITY}}}]}}}}}}"


def test_an_attestation_counts_by_type_and_signer():
    assert isinstance(verdict(ATTESTED, facts("a", predicate=SBOM)), Allow)
    assert isinstance(verdict(ATTESTED, signed(predicate=SBOM)), Allow)


@pytest.mark.attack("CVE-2022-35929, CVE-2022-35930")
@pytest.mark.parametrize(
    "found",
    [
        [facts("a", predicate="https://cosign.sigstore.dev/attestation/vuln/v1")],
        [facts("a")],
        [signed(predicate=None)],
        [facts("b", predicate=SBOM)],
        [],
    ],
    ids=["another-type", "a-signature", "a-signature-over-a-file", "another-signer", "nothing"],
)
def test_an_attestation_of_another_type_or_by_another_satisfies_nothing(found):
    decision = verdict("{attestation: {type: spdxjson, by: {key: a}}}", *found)
    assert isinstance(decision, Deny)


def test_a_missing_attestation_names_the_types_that_are_there():
    reason = verdict("{attestation: {type: spdxjson, by: {key: a}}}", facts("a", predicate="https://slsa.dev/provenance/v1")).reasons[0]
    assert reason.code == NoAttestation.code
    assert reason.got == "https://slsa.dev/provenance/v1"
    assert "sigkit attest --type https://spdx.dev/Document" in reason.remedy


@pytest.mark.attack("one signer twice")
def test_c21_an_identity_that_signed_twice_with_two_certificates_is_one_signer():
    anybody = f"{{issuer: {ISSUER}, subjectRegExp: '.*'}}"
    require = f"{{atLeast: {{n: 2, of: [{{identity: {IDENTITY}}}, {{identity: {anybody}}}]}}}}"
    twice = [signed(), signed(number=2, extensions={"runInvocationURI": "https://git.example/runs/2"})]
    assert code(verdict(require, *twice)) == ThresholdNotMet.code
    assert "1 of 2 distinct" in verdict(require, *twice).reasons[0].problem
    assert isinstance(verdict(require, signed(), signed(subject="other@acme.example")), Allow)


def test_annotations_must_be_signed_whole():
    more = "    annotations: {env: prod}\n"

    def annotated(value):
        found = facts("a")
        return altered(found, signature=altered(found.signature, annotations=value))

    assert isinstance(verdict("{key: a}", annotated({"env": "prod", "x": "y"}), more=more), Allow)
    for value in ({}, {"env": "production"}, {"ENV": "prod"}):
        decision = verdict("{key: a}", annotated(value), more=more)
        assert code(decision) == WrongAnnotation.code
        assert decision.reasons[0].expected == "env=prod"


def test_evidence_that_could_not_be_read_leaves_it_open_for_identities_too():
    unread = RefusedEvidence(Place("x"), Reason.of_error(TooMany("more than 1000", place=Place("x"))))
    decision = verdict(f"{{identity: {IDENTITY}}}", refused=[unread])
    assert code(decision) == NoGoodSignature.code
    assert decision.reasons[0].standing is Standing.UNCHECKED


# --- files


def test_a_file_is_signed_by_a_signature_over_its_bytes():
    key = KeyRequirement(trusted("a"), HERE)
    assert isinstance(about_file(key, facts("a", predicate=None, repository=None)), Met)
    assert isinstance(about_file(key, facts("b", predicate=None, repository=None)), type(about_file(key)))
    assert about_file(key, facts("a", artifact=Digest.of(b"other"))).reason.code == Unsigned.code
    attested = about_file(key, facts("a", predicate=SBOM)).reason
    assert attested.code == NotASignature.code
    assert attested.remedy.endswith(f"sigkit verify-blob-attestation --type {SBOM}")


def test_any_statement_is_enough_only_where_that_is_said():
    key = KeyRequirement(trusted("a"), HERE)
    assert isinstance(about_file(signed_or_attested(key), facts("a", predicate=SBOM)), Met)
    assert isinstance(about_file(signed_or_attested(key), facts("a", predicate=None)), Met)
    assert not isinstance(about_file(AttestationRequirement(None, key, HERE), facts("a", predicate=None)), Met)


def test_a_decision_about_a_file_ends_as_verify_does():
    key = KeyRequirement(trusted("a"), HERE)
    unread = RefusedEvidence(Place("x"), Reason.of_error(TooMany("more than 1000", place=Place("x"))))
    artifact = Artifact.of(IMAGE)
    assert decide_blob([facts("a", predicate=None)], (), artifact, key, NOW).exit_status() == 0
    assert decide_blob([], (), artifact, key, NOW).exit_status() == 1
    assert decide_blob([], (unread,), artifact, key, NOW).exit_status() == 3


def test_a_threshold_of_files_counts_distinct_keys():
    both = AtLeast(2, (KeyRequirement(trusted("a"), HERE), KeyRequirement(trusted("b"), HERE)), HERE)
    one = facts("a", predicate=None)
    assert about_file(both, one, facts("a", predicate=None, number=2)).reason.code == ThresholdNotMet.code
    assert isinstance(about_file(both, one, facts("b", predicate=None)), Met)


def test_what_a_file_lacks_is_said_with_the_commands_for_files():
    key = KeyRequirement(trusted("a"), HERE)
    assert "sigkit sign-blob --key KEY" in about_file(key).reason.remedy
    assert "sigkit attest-blob --type" in about_file(AttestationRequirement(SBOM, key, HERE)).reason.remedy


def test_of_very_many_signers_a_reason_names_the_first():
    many = [signed(subject=f"{number:03}@x.example") for number in range(30)]
    got = verdict(f"{{identity: {IDENTITY}}}", *many).reasons[0].got
    assert got.count("@x.example") == 20
    assert got.endswith("and 10 more")


@pytest.mark.parametrize(
    ("wanted", "found", "subject", "says"),
    [
        ("https://a", "https://a/", SUBJECT, "https://a/"),
        ("https://a/", "https://a", SUBJECT, "https://a"),
        ("https://a", "https://a", SUBJECT, ""),
        ("https://a", "https://a//", SUBJECT, ""),
        ("https://a", "https://a/", "another", ""),
    ],
)
def test_issuers_are_said_to_differ_by_a_slash_where_nothing_else_differs(wanted, found, subject, says):
    pattern = IdentityPattern(Exactly(wanted), Exactly(SUBJECT))
    assert pattern.issuer_but_for_a_slash(signed(issuer=found, subject=subject).signer.signer) == says
