"""The verify commands' flags are a policy of one rule: the same matcher, and nothing that switches a binding off."""

import json
from pathlib import Path

import pytest

from sigkit.errors import (
    DuplicateTrustedKey,
    MalformedExpression,
    MalformedOption,
    NameNotSigned,
    NoneMet,
    NotLogged,
    Place,
    SigkitError,
    ThresholdNotMet,
    Unsigned,
    WrongAnnotation,
    WrongIdentity,
    WrongName,
)
from sigkit.limits import DEFAULT
from sigkit.policy.decide import decide
from sigkit.policy.decision import Allow, Deny
from sigkit.policy.flags import (
    EXTENSION_FLAGS,
    Wanted,
    WantedIdentity,
    WantedKeys,
    WantedRoot,
    WantedText,
    anchor_of,
    policy_for_flags,
    policy_for_keys,
    text_match,
)
from sigkit.policy.identity import Exactly, Expression
from sigkit.policy.model import KEYLESS_DEMANDS, Demands, NameRule
from sigkit.trust.bundled import load_public_good
from sigkit.trust.trusted_root import parse_trusted_root
from sigkit.verify.extensions import NAMES
from tests.simulators.altered import altered
from tests.simulators.identities import ISSUER, SUBJECT, keyless
from tests.simulators.verdicts import NOW, facts, request, trusted

PUBLIC_GOOD = Path(__file__).resolve().parents[2] / "sigkit/trust/public_good.json"
ROOT = load_public_good()
SBOM = "https://spdx.dev/Document"


def identity(subject=SUBJECT, subject_regexp="", issuer=ISSUER, issuer_regexp="", extensions=None) -> WantedIdentity:
    return WantedIdentity(
        WantedText("--certificate-identity", subject, subject_regexp),
        WantedText("--certificate-oidc-issuer", issuer, issuer_regexp),
        extensions or {},
    )


def verdict(wanted: Wanted, *found):
    return decide(found, [], request(), policy_for_flags(wanted), NOW)


def code(decision) -> str:
    assert isinstance(decision, Deny)
    return decision.reasons[0].code


def by_identity(**more) -> Wanted:
    return Wanted(identity(), KEYLESS_DEMANDS, roots=(WantedRoot(ROOT),), **more)


def by_keys(*names, **more) -> Wanted:
    threshold = more.pop("threshold", 1)
    return Wanted(WantedKeys(tuple(trusted(name) for name in names), threshold), **more)


def test_an_identity_is_asked_for_with_its_issuer_in_the_root_that_is_given():
    assert isinstance(verdict(by_identity(), keyless(ROOT)), Allow)
    assert code(verdict(by_identity(), keyless(ROOT, issuer="https://other.example"))) == WrongIdentity.code
    assert code(verdict(by_identity(), keyless(ROOT, logs=()))) == NotLogged.code
    assert isinstance(verdict(altered(by_identity(), demands=Demands()), keyless(ROOT, logs=(), certificate_logs=())), Allow)


def test_an_expression_fits_whole_and_may_stand_for_either_text():
    wanted = altered(by_identity(), signer=identity(subject="", subject_regexp="https://git[.]example/.+", issuer="", issuer_regexp=".*"))
    assert isinstance(verdict(wanted, keyless(ROOT)), Allow)
    assert code(verdict(wanted, keyless(ROOT, subject=f"https://evil.example/?x={SUBJECT}"))) == WrongIdentity.code


@pytest.mark.parametrize("flag", EXTENSION_FLAGS)
def test_each_of_cosigns_extension_flags_names_an_extension_that_is_read(flag):
    name = EXTENSION_FLAGS[flag]
    assert name in NAMES.values()
    wanted = altered(by_identity(), signer=identity(extensions={name: "push"}))
    assert isinstance(verdict(wanted, keyless(ROOT, extensions={name: "push"})), Allow)
    assert code(verdict(wanted, keyless(ROOT, extensions={name: "push "}))) == WrongIdentity.code
    assert code(verdict(wanted, keyless(ROOT))) == WrongIdentity.code


def test_several_roots_each_count_by_themselves():
    other = parse_trusted_root(json.dumps(json.loads(PUBLIC_GOOD.read_bytes())).encode(), "other", Place("other"), DEFAULT)
    policy = policy_for_flags(altered(by_identity(), roots=(WantedRoot(ROOT), WantedRoot(other))))
    assert len(policy.roots) == 2
    for root in (ROOT, other):
        assert isinstance(decide([keyless(root)], [], request(), policy, NOW), Allow)
    mixed = altered(keyless(ROOT), inclusions=keyless(other).inclusions)
    assert code(decide([mixed], [], request(), policy, NOW)) == NoneMet.code


def test_keys_are_counted_by_the_threshold():
    assert isinstance(verdict(by_keys("a", "b"), facts("b")), Allow)
    two = by_keys("a", "b", "c", threshold=2)
    assert code(verdict(two, facts("a"), facts("a", number=2))) == ThresholdNotMet.code
    assert isinstance(verdict(two, facts("a"), facts("c")), Allow)


def test_the_names_rule_annotations_and_type_are_those_of_the_flags():
    assert isinstance(verdict(by_keys("a"), facts("a", repository=None)), Allow)
    assert code(verdict(by_keys("a"), facts("a", repository="registry.example/other"))) == WrongName.code
    assert code(verdict(by_keys("a", name_rule=NameRule.REPOSITORY), facts("a", repository=None))) == NameNotSigned.code
    assert code(verdict(by_keys("a", annotations={"env": "prod"}), facts("a"))) == WrongAnnotation.code
    assert isinstance(verdict(by_keys("a", attestation_type="spdxjson"), facts("a", predicate=SBOM)), Allow)
    assert isinstance(verdict(by_keys("a", attestation_type="spdxjson"), facts("a")), Deny)
    assert code(verdict(by_keys("a"))) == Unsigned.code


def test_every_root_holds_the_keys_and_keys_alone_are_a_root():
    (alone,) = policy_for_keys((trusted("a"),)).roots
    assert alone.keys == (trusted("a"),)
    (both,) = policy_for_flags(by_keys("a", roots=(WantedRoot(ROOT),))).roots
    assert both.keys == (trusted("a"),)
    assert both.logs == ROOT.logs
    assert anchor_of(both).logs == ROOT.digest


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param(by_keys("a", threshold=2), MalformedOption, id="threshold-beyond-keys"),
        pytest.param(by_keys("a", threshold=0), MalformedOption, id="threshold-of-none"),
        pytest.param(by_keys(), MalformedOption, id="no-key"),
        pytest.param(by_keys("a", "a"), DuplicateTrustedKey, id="one-key-twice"),
        pytest.param(by_keys("a", attestation_type="spdxjson", annotations={"env": "prod"}), MalformedOption, id="annotated-attestation"),
        pytest.param(by_keys("a", attestation_type="nosuch"), MalformedOption, id="unknown-type"),
        pytest.param(by_keys("a", attestation_type="https://sigstore.dev/cosign/sign/v1"), MalformedOption, id="type-of-signatures"),
        pytest.param(Wanted(identity(), KEYLESS_DEMANDS), MalformedOption, id="identity-without-a-root"),
        pytest.param(altered(by_identity(), signer=identity(issuer="")), MalformedOption, id="identity-without-an-issuer"),
        pytest.param(altered(by_identity(), signer=identity(subject="")), MalformedOption, id="issuer-alone"),
        pytest.param(altered(by_identity(), signer=identity(subject_regexp="x")), MalformedOption, id="exact-and-expression"),
        pytest.param(altered(by_identity(), signer=identity(subject="", subject_regexp="a(b")), MalformedExpression, id="malformed"),
    ],
)
def test_flags_that_mean_nothing_or_two_things_are_usage_errors(wanted, expected):
    with pytest.raises(SigkitError) as caught:
        policy_for_flags(wanted)
    assert type(caught.value) is expected
    assert caught.value.status() == 2


def test_other_flags_are_another_policy():
    policies = [
        by_keys("a"),
        by_keys("a", name_rule=NameRule.ANY),
        by_keys("a", annotations={"x": "y"}),
        by_keys("b"),
        by_keys("a", "b"),
        by_keys("a", "b", threshold=2),
        by_identity(),
        altered(by_identity(), demands=Demands()),
        altered(by_identity(), signer=identity(subject="x")),
        altered(by_identity(), signer=identity(subject="", subject_regexp=SUBJECT)),
        by_identity(attestation_type="vuln"),
    ]
    digests = [policy_for_flags(wanted).digest for wanted in policies]
    assert len(set(digests)) == len(digests)
    assert digests == [policy_for_flags(wanted).digest for wanted in policies]


def test_a_text_is_exact_unless_it_is_said_to_be_an_expression():
    assert text_match(WantedText("--certificate-identity", "a.b")) == Exactly("a.b")
    assert text_match(WantedText("--certificate-identity", "", "a.b")) == Expression("a.b")


@pytest.mark.parametrize(
    ("wanted", "found", "flag"),
    [
        pytest.param(
            Wanted(identity(), KEYLESS_DEMANDS, roots=(WantedRoot(ROOT),)), keyless(ROOT, logs=()), "--insecure-ignore-tlog", id="log"
        ),
        pytest.param(
            Wanted(identity(), KEYLESS_DEMANDS, roots=(WantedRoot(ROOT),)),
            keyless(ROOT, certificate_logs=()),
            "--insecure-ignore-sct",
            id="sct",
        ),
        pytest.param(
            Wanted(identity(), Demands(timestamps=1), roots=(WantedRoot(ROOT),)), keyless(ROOT), "--use-signed-timestamps", id="timestamp"
        ),
        pytest.param(Wanted(WantedKeys((trusted("a"),))), facts("a", repository="other.example/x"), "--name any", id="name"),
        pytest.param(
            Wanted(WantedKeys((trusted("a"),)), name_rule=NameRule.REPOSITORY),
            facts("a", repository=None),
            "leave out --name",
            id="no-name",
        ),
    ],
)
def test_what_would_make_it_pass_is_said_in_flags_and_not_in_fields_that_no_file_has(wanted, found, flag):
    (reason,) = verdict(wanted, found).reasons
    assert flag in reason.remedy
    assert "rule" not in reason.remedy
    assert "`" not in reason.remedy
