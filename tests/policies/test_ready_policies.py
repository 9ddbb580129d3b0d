"""The policies that a user may copy do what their comments say."""

import shutil
from pathlib import Path

import pytest

from sigkit.errors import (
    CertificateNotLogged,
    NameNotSigned,
    NoneMet,
    NoRule,
    NotAllMet,
    NotLogged,
    NotTimestamped,
    ThresholdNotMet,
    WrongAnnotation,
    WrongAuthority,
    WrongIdentity,
    WrongKey,
    WrongName,
)
from sigkit.policy.decide import decide
from sigkit.policy.decision import Allow, Deny
from sigkit.policy.lint import check_policy
from sigkit.policy.load import load_policy
from sigkit.policy.model import Access, ImageOwn, Network
from sigkit.trust.bundled import load_public_good
from sigkit.verify.facts import Facts
from tests.simulators.altered import altered
from tests.simulators.identities import chain_pem, keyless
from tests.simulators.verdicts import NOW, facts, private, request

PUBLIC_GOOD = Path(__file__).resolve().parents[2] / "sigkit/trust/public_good.json"
GITHUB = "https://token.actions.githubusercontent.com"
POLICIES = Path(__file__).resolve().parents[2] / "policies"
KEYS = {
    "one-key": ["release"],
    "two-of-three": ["alice", "bob", "carol", "upstream"],
    "keyless": [],
    "authorities": ["archive"],
    "attestations": ["release", "security"],
    "distinct-signers": ["carol"],
    "own-instance": [],
    "own-authority": [],
    "annotations": ["release"],
}


def test_every_ready_policy_is_tested_here():
    assert {path.stem for path in POLICIES.iterdir()} == set(KEYS)


@pytest.fixture
def ready(tmp_path):
    def install(name):
        shutil.copy(POLICIES / f"{name}.yaml", tmp_path)
        for key in KEYS[name]:
            (tmp_path / f"{key}.pub").write_bytes(private(key).public.encode_pem())
        (tmp_path / "trusted_root.json").write_bytes(PUBLIC_GOOD.read_bytes() + b"\n")  # another file, so another root
        (tmp_path / "chain.pem").write_bytes(chain_pem("issuing", "anchor"))
        return tmp_path / f"{name}.yaml"

    return install


def verdict(path: Path, reference: str, *found):
    decision = decide(found, [], request(reference), load_policy(path), NOW)
    return decision.reasons[0].code if isinstance(decision, Deny) else type(decision)


@pytest.mark.parametrize("name", KEYS)
def test_it_loads_and_names_itself(ready, name):
    summary = check_policy(ready(name))
    assert summary.policy.name == name
    assert not [warning for warning in summary.warnings if "named by no rule" in warning.text or "expression" in warning.text]


def test_one_key_asks_for_the_release_key_under_the_repositorys_own_name(ready):
    path = ready("one-key")
    app = "registry.example/acme/app"
    assert verdict(path, f"{app}:v1", facts("release", repository=app)) is Allow
    assert verdict(path, "registry.example/acme/web/front", facts("release", repository="registry.example/acme/web/front")) is Allow
    assert verdict(path, f"{app}:v1", facts("other", repository=app)) == WrongKey.code
    assert verdict(path, f"{app}:v1", facts("release", repository="registry.example/acme/copy")) == WrongName.code
    assert verdict(path, f"{app}:v1", facts("release", repository=None)) == NameNotSigned.code
    assert verdict(path, "registry.example/other/app", facts("release", repository="registry.example/other/app")) == NoRule.code


def test_two_of_three_counts_distinct_maintainers(ready):
    path = ready("two-of-three")
    app = "registry.example/prod/app"
    alice, again, bob, upstream = (
        facts("alice", repository=app),
        facts("alice", repository=app, number=2),
        facts("bob", repository=app),
        facts("upstream", repository=app),
    )
    assert verdict(path, app, alice, bob) is Allow
    assert verdict(path, app, alice, again) == ThresholdNotMet.code
    assert verdict(path, app, alice, upstream) == ThresholdNotMet.code


def test_two_of_three_maps_the_mirrors_names(ready):
    path = ready("two-of-three")
    asked = "mirror.example/base/debian"
    assert verdict(path, asked, facts("upstream", repository="upstream.example/library/debian")) is Allow
    assert verdict(path, asked, facts("upstream", repository=asked)) == WrongName.code


def test_two_of_three_excepts_one_tool_and_nothing_else(ready):
    path = ready("two-of-three")
    assert verdict(path, "registry.example/prod/legacy-importer:2") is Allow
    assert verdict(path, "registry.example/prod/legacy-importer2:2") == ThresholdNotMet.code


def test_two_of_three_grants_what_it_lists(ready):
    rule = load_policy(ready("two-of-three")).rules[0]
    assert isinstance(rule.run.command, ImageOwn)
    assert rule.run.network is Network.HOST
    assert rule.run.root is Access.READ_ONLY
    assert rule.run.capabilities == ("CAP_NET_BIND_SERVICE",)
    assert (rule.run.memory_bytes, rule.run.pids, rule.run.cpus) == (2**30, 256, 2.0)


APP = "registry.example/acme/app"
WORKFLOW = "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main"
RUNNER = {"runnerEnvironment": "github-hosted", "sourceRepositoryURI": "https://github.com/acme/app"}


def test_keyless_asks_for_the_workflow_its_issuer_the_runner_and_both_logs(ready):
    path, root = ready("keyless"), load_public_good()
    tag = WORKFLOW.replace("heads/main", "tags/v1.2")

    def signed(subject=WORKFLOW, issuer=GITHUB, **other):
        return verdict(path, APP, keyless(root, subject, issuer, repository=APP, **{"extensions": RUNNER, **other}))

    assert signed() is Allow
    assert signed(tag) is Allow
    assert signed(WORKFLOW.replace("main", "feature")) == WrongIdentity.code
    assert signed(WORKFLOW.replace("github.com", "githubXcom")) == WrongIdentity.code
    assert signed(issuer="https://issuer.example") == WrongIdentity.code
    assert signed(kind="email") == WrongIdentity.code
    assert signed(extensions={**RUNNER, "runnerEnvironment": "self-hosted"}) == WrongIdentity.code
    assert signed(extensions={}) == WrongIdentity.code
    assert signed(logs=()) == NotLogged.code
    assert signed(certificate_logs=()) == CertificateNotLogged.code


def test_authorities_bring_their_demands_into_every_rule(ready):
    path, root = ready("authorities"), load_public_good()
    pay = "registry.example/acme/payment/api"

    def ci(repository, **other):
        return keyless(root, WORKFLOW, GITHUB, repository=repository, **{"stamps": ("tsa",), **other})

    def archive(repository, *logs: str) -> Facts:
        inclusions = keyless(root, logs=logs).inclusions
        return altered(facts("archive", repository=repository), inclusions=inclusions)

    assert verdict(path, APP, ci(APP)) is Allow
    assert verdict(path, APP, archive(APP, "log")) is Allow
    assert verdict(path, APP, archive(APP)) == NoneMet.code
    assert verdict(path, pay, ci(pay)) == NotAllMet.code
    assert verdict(path, pay, ci(pay), archive(pay, "log")) is Allow
    assert verdict(path, pay, ci(pay, stamps=()), archive(pay, "log")) == NotAllMet.code
    assert verdict(path, pay, ci(pay, logs=(), promises=("log",)), archive(pay, "log")) == NotAllMet.code


def test_a_demand_that_is_not_met_has_its_own_code(ready):
    path, root = ready("authorities"), load_public_good()
    decision = decide([keyless(root, WORKFLOW, GITHUB, repository=APP)], [], request(APP), load_policy(path), NOW)
    assert isinstance(decision, Deny)
    assert NotTimestamped.code in {reason.code for reason in decision.reasons[0].children}


def test_attestations_need_each_type_by_its_signer_and_the_signature(ready):
    path, root = ready("attestations"), load_public_good()
    build = WORKFLOW.replace("release", "build")
    signature = facts("release", repository=APP)

    def attested(predicate, subject=build):
        return keyless(root, subject, GITHUB, repository=APP, predicate=predicate)

    provenance, sbom = attested("https://slsa.dev/provenance/v1"), attested("https://spdx.dev/Document")
    by_security = facts("security", repository=APP, predicate="https://spdx.dev/Document")
    assert verdict(path, APP, signature, provenance, sbom) is Allow
    assert verdict(path, APP, signature, provenance, by_security) is Allow
    assert verdict(path, APP, signature, provenance) == NotAllMet.code
    assert verdict(path, APP, provenance, sbom) == NotAllMet.code
    assert verdict(path, APP, signature, sbom, attested("https://slsa.dev/provenance/v0.2")) == NotAllMet.code
    assert verdict(path, APP, signature, sbom, attested("https://slsa.dev/provenance/v1", WORKFLOW)) == NotAllMet.code


def test_distinct_signers_counts_people(ready):
    path, root = ready("distinct-signers"), load_public_good()

    def signed(name, number=1):
        return keyless(root, f"{name}@acme.example", "https://accounts.google.com", kind="email", repository=APP, number=number)

    carol = facts("carol", repository=APP)
    assert verdict(path, APP, signed("alice"), signed("alice", 2)) == ThresholdNotMet.code
    assert verdict(path, APP, signed("alice"), signed("bob")) is Allow
    assert verdict(path, APP, signed("bob"), signed("dave")) == ThresholdNotMet.code
    assert verdict(path, APP, signed("alice"), carol) is Allow
    assert verdict(path, APP, carol) == ThresholdNotMet.code


def test_own_instance_takes_nobody_elses_word(ready):
    path = ready("own-instance")
    (root,) = load_policy(path).roots
    own = altered(load_public_good(), digest=root.certificate_authorities[0].source.digest)
    app = "registry.acme.example/team/app"
    subject = "https://git.acme.example/team/app//.gitlab-ci.yml@refs/heads/main"

    def signed(by, **other):
        return verdict(path, app, keyless(by, subject, "https://git.acme.example", repository=app, **other))

    assert signed(own) is Allow
    assert signed(load_public_good()) == WrongAuthority.code
    assert signed(load_public_good(), certified_by=own.digest) == WrongAuthority.code  # by the times of another
    assert signed(own, certified_by=load_public_good().digest) == WrongAuthority.code
    assert verdict(path, app, keyless(own, subject.replace("//.", "/."), "https://git.acme.example", repository=app)) == WrongIdentity.code


def test_own_authority_counts_its_own_certificates_at_times_that_others_attest(ready):
    path = ready("own-authority")
    (root,) = load_policy(path).roots
    app = "registry.acme.example/team/app"
    own = root.certificate_authorities[0].source.digest
    assert len(root.certificate_authorities) == 1
    assert root.timestamp_authorities == load_public_good().timestamp_authorities

    def signed(certified_by=own, stamps=("tsa",), issuer=""):
        found = keyless(
            load_public_good(), "release@acme.example", issuer, kind="email", repository=app, certified_by=certified_by, stamps=stamps
        )
        return verdict(path, app, found)

    assert signed() is Allow
    assert signed(stamps=()) == NotTimestamped.code
    assert signed(certified_by=load_public_good().digest) == WrongAuthority.code


def test_annotations_must_be_signed(ready):
    path, app = ready("annotations"), "registry.example/prod/app"
    plain = facts("release", repository=app)

    def signed(annotations):
        return altered(plain, signature=altered(plain.signature, annotations=annotations))

    assert verdict(path, app, signed({"env": "production", "more": "x"})) is Allow
    assert verdict(path, app, signed({"env": "staging"})) == WrongAnnotation.code
    assert verdict(path, app, plain) == WrongAnnotation.code
