"""Attacks on policies and the gate: each row of rows/policy_gate.toml, fed from the outside."""

from __future__ import annotations

import io
import subprocess

import pytest

from sigkit.errors import (
    EXIT_RUN_REFUSED,
    EXIT_RUN_UNCHECKED,
    EXIT_USAGE,
    AdmissionExpired,
    AdmissionUsed,
    EvidenceUnlistable,
    Kind,
    MalformedPolicy,
    NoRule,
    SameKeyTwice,
    SigkitError,
    ThresholdNotMet,
    Unsigned,
    WrongName,
    all_codes,
)
from sigkit.gate.admit import admit, redeemer
from sigkit.gate.confine import Asked
from sigkit.limits import ADMISSION_LIFETIME_S
from sigkit.oci.reference import parse_reference
from sigkit.oci.resolve import resolve
from sigkit.policy.decision import Allow, Deny
from sigkit.policy.load import load_policy
from sigkit.signing.keyed import KeySignatory
from sigkit.signing.session import sign_image
from tests.simulators import gatehouse
from tests.simulators.altered import altered
from tests.simulators.command import SIGKIT
from tests.simulators.gatehouse import APP, ONE_KEY
from tests.simulators.images import small_image
from tests.simulators.memory_registry import Referrers
from tests.simulators.verdicts import policy, private, request

HEAD = "apiVersion: sigkit.dev/v1alpha1\nkind: Policy\n"


@pytest.fixture
def host(tmp_path):
    yield from gatehouse.opened(tmp_path)


def refused_run(host, rules: str = ONE_KEY, reference: str = f"{APP}:v1") -> str:
    """Run, expect a refusal that leaves nothing, and return its code."""
    assert host.run(rules, reference) == EXIT_RUN_REFUSED
    decision = host.told[-1].decision
    assert isinstance(decision, Deny)
    assert (host.engine.pulled, host.engine.started) == ([], [])
    assert host.events()[-1] == "deny"
    assert b'"allow"' not in host.log.read_bytes()
    assert host.usable_admissions() == 0
    assert all_codes()[decision.reasons[0].code].kind is Kind.POLICY
    return decision.reasons[0].code


@pytest.mark.attack("policy-controller#235")
@pytest.mark.attack("Kyverno vacuous all()")
@pytest.mark.parametrize("reference", ["registry.example/other/app:v1", "mirror.example/acme/app:v1", "registry.example:5000/acme/app:v1"])
def test_an_image_that_no_rule_is_about_does_not_start(host, reference):
    host.push(reference)
    host.sign("a", reference)
    assert refused_run(host, reference=reference) == NoRule.code


@pytest.mark.attack("Kyverno vacuous all()")
@pytest.mark.parametrize("kind", ["allOf", "anyOf"])
def test_a_rule_that_asks_for_nothing_is_no_rule(kind):
    with pytest.raises(MalformedPolicy):
        policy(f"  - images: '**'\n    require: {{{kind}: []}}\n", "a")


@pytest.mark.attack("CVE-2026-22772, sigstore-go#558")
@pytest.mark.parametrize(
    "reference",
    [
        "evil.example/registry.example/acme/app:v1",
        "registry.example.evil.example/acme/app:v1",
        "xregistry.example/acme/app:v1",
        "registry-example/acme/app:v1",
        "registry.example/acmex/app:v1",
        "registry.example/x/acme/app:v1",
    ],
)
def test_a_name_that_contains_the_pattern_is_not_the_name(host, reference):
    host.push(reference)
    host.sign("a", reference)
    assert refused_run(host, reference=reference) == NoRule.code


@pytest.mark.attack("sigstore-rust#174")
def test_a_wildcard_does_not_cross_a_slash(host):
    reference = "registry.example/acme/web/app:v1"
    host.push(reference)
    host.sign("a", reference)
    assert refused_run(host, "  - images: registry.example/acme/*\n    require: {key: a}\n", reference) == NoRule.code


@pytest.mark.attack("CVE-2021-41087, GHSA-pmwq-pjrm-6p5r")
@pytest.mark.parametrize("pattern", ["reg.example/[!a]*", "reg.example/a**", "reg.example/{a,b}*", "reg.example/a?*", "!reg.example/*"])
def test_a_pattern_with_two_readings_is_refused_at_load(pattern):
    with pytest.raises(MalformedPolicy) as caught:
        policy(f"  - images: '{pattern}'\n    require: {{key: a}}\n", "a")
    assert caught.value.status() == EXIT_USAGE


@pytest.mark.attack("CVE-2024-48921")
def test_an_exception_that_the_image_makes_for_itself_changes_nothing(host):
    claims = {"sigkit.dev/unverified": "true", "policies.example/exclude": "true", "io.example.skip-verification": "yes"}
    host.push(image=small_image(annotations=claims))
    assert refused_run(host) == Unsigned.code


@pytest.mark.attack("CVE-2024-48921")
def test_an_exception_that_a_stranger_signs_changes_nothing(host):
    host.push()
    resolved = resolve(host.registry, parse_reference(f"{APP}:v1"))
    sign_image(host.registry, resolved, KeySignatory(private("stranger")), {"policy": "unverified", "mode": "warn"}, host.clock)
    refused_run(host)


@pytest.mark.attack("Connaisseur#2151")
def test_a_weaker_rule_is_not_asked_when_the_strict_one_fails(host):
    host.push()
    host.sign("b")
    strict = "  - images: registry.example/acme/app\n    require: {allOf: [{key: a}, {key: b}]}\n"
    weak = "  - images: registry.example/acme/*\n    require: {key: b}\n  - images: '**'\n    unverified: {reason: x}\n"
    for rules in (strict + weak, weak + strict):
        refused_run(host, rules)


@pytest.mark.attack("Connaisseur#1407")
def test_a_long_name_against_many_wildcards_ends():
    stars = "*a" * 120 + "*b"
    loaded = policy(f"  - images: registry.example/{stars}\n    require: {{key: a}}\n", "a")
    # Exponential matching would outlast the suite's time limit.
    assert loaded.rule_for(request(f"registry.example/{'a' * 250}").repository, None) is None


@pytest.mark.attack("containerd image-verifier directory")
@pytest.mark.parametrize("text", [None, "", "# nothing\n", HEAD, f"{HEAD}rules: []\n", f"{HEAD}rules:\n"], ids=range(6))
def test_a_policy_without_rules_allows_nothing_because_it_is_none(tmp_path, text):
    path = tmp_path / "policy.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SigkitError) as caught:
        load_policy(path)
    assert caught.value.status() == EXIT_USAGE


@pytest.mark.attack("CVE-2021-25743")
def test_nothing_from_outside_reaches_the_terminal_as_a_control(host):
    from sigkit.cli.decisions import decision_lines
    from sigkit.cli.output import Output

    evil = "\x1b[2J\x1b]0;owned\x07 line\nfeed \u202e reversed"
    host.push()
    resolved = resolve(host.registry, parse_reference(f"{APP}:v1"))
    sign_image(host.registry, resolved, KeySignatory(private("a")), {"note": evil, evil: "x"}, host.clock)
    for judgement in (host.judge(), host.judge(ONE_KEY.replace("key: a", "key: b"))):
        lines = decision_lines(Output(), judgement.decision, io.StringIO(), "allowed")
        assert any("owned" in line for line in lines) or not isinstance(judgement.decision, Allow)
        assert all(line.isprintable() for line in lines)


@pytest.mark.attack("CVE-2021-25743")
def test_a_policys_own_text_is_escaped_too(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(f'{HEAD}rules:\n  - images: reg.example/x\n    unverified: {{reason: "a\\e[2Jb"}}\n')
    done = subprocess.run([*SIGKIT, "policy", "check", str(path)], capture_output=True, text=True, timeout=60, check=True)
    assert "\x1b" not in done.stdout + done.stderr
    path.write_text(f'{HEAD}rules:\n  - images: reg.example/x\n    "a\\e[2Jb": x\n')
    done = subprocess.run([*SIGKIT, "policy", "check", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == EXIT_USAGE
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.attack("CVE-2026-50195, CVE-2024-24557")
def test_an_image_that_ran_under_a_tag_vouches_for_nothing_that_the_tag_names_later(host):
    host.push()
    host.sign("a")
    assert host.run() == 0
    host.engine.pulled.clear()
    host.engine.started.clear()
    host.log.unlink()
    host.push(image=small_image(b"tampered"))
    assert refused_run(host) == Unsigned.code


@pytest.mark.attack("CVE-2023-32076")
@pytest.mark.parametrize("command", ["verify", "run", "pull"])
def test_a_policy_in_the_working_directory_is_not_used(tmp_path, command):
    everything = f"{HEAD}rules:\n  - images: '**'\n    unverified: {{reason: planted}}\n"
    for name in ("policy.yaml", "sigkit.yaml", ".sigkit.yaml", ".sigkit", ".config/sigkit/policy.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(everything)
    done = subprocess.run([*SIGKIT, command, "127.0.0.1:1/x/y:v1"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (125 if command == "run" else EXIT_USAGE), done.stderr
    assert "--policy" in done.stderr


@pytest.mark.attack("containers/image#2950")
def test_image_and_signature_copied_together_do_not_start_elsewhere(host):
    host.push()
    host.sign("a")
    host.copy(f"{APP}:v1", "registry.example/acme/copy:v1")
    assert refused_run(host, reference="registry.example/acme/copy:v1") == WrongName.code


@pytest.mark.attack("another spelling")
@pytest.mark.parametrize(
    ("strict", "spelling"),
    [
        ("registry.example/acme/**", "registry.example:443/acme/app:v1"),
        ("registry.example/acme/**", "REGISTRY.example:443/acme/app:v1"),
        ("registry.example:443/acme/**", "registry.example/acme/app:v1"),
        ("docker.io/acme/**", "registry-1.docker.io/acme/app:v1"),
        ("docker.io/acme/**", "index.docker.io:443/acme/app:v1"),
        ("registry-1.docker.io/acme/*", "acme/app:v1"),
    ],
)
def test_a_laxer_rule_is_not_reached_by_another_spelling(host, strict, spelling):
    host.push(spelling)
    rules = f"  - images: {strict}\n    require: {{key: a}}\n  - images: '**'\n    unverified: {{reason: a test}}\n"
    assert refused_run(host, rules, spelling) == Unsigned.code


@pytest.mark.attack("stripped referrers")
@pytest.mark.parametrize("referrers", Referrers)
def test_an_image_without_its_signatures_does_not_start(host, referrers):
    host.registry.referrers = referrers
    host.push()
    host.sign("a")
    host.push("registry.example/acme/stripped:v1")
    assert refused_run(host, reference="registry.example/acme/stripped:v1") == Unsigned.code


@pytest.mark.attack("stripped referrers")
def test_a_list_that_cannot_be_read_is_not_an_empty_one(host):
    digest = host.push()
    host.sign("a")
    host.registry.lies[str(digest).replace(":", "-")] = b"<html>"
    with pytest.raises(EvidenceUnlistable):
        host.run(ONE_KEY + "    mode: warn\n")
    assert host.events() == ["unjudged"]
    assert (host.engine.pulled, host.engine.started) == ([], [])


@pytest.mark.attack("one signer twice")
def test_two_signatures_by_one_key_are_one_signer(host):
    host.push()
    host.sign("a")
    resolved = resolve(host.registry, parse_reference(f"{APP}:v1"))
    sign_image(host.registry, resolved, KeySignatory(private("a")), {"second": "signature"}, host.clock)
    rules = ONE_KEY.replace("{key: a}", "{atLeast: {n: 2, of: [{key: a}, {key: b}]}}")
    assert refused_run(host, rules) == ThresholdNotMet.code
    assert host.told[-1].decision.reasons[0].problem == "1 of 2 distinct"
    assert len(host.told[-1].decision.facts) == 2


@pytest.mark.attack("one signer twice")
def test_one_key_as_pem_and_as_der_is_one_key(tmp_path):
    key = private("a").public
    (tmp_path / "one.pub").write_bytes(key.encode_pem())
    (tmp_path / "two.pub").write_bytes(key.spki)
    (tmp_path / "policy.yaml").write_text(
        f"{HEAD}keys:\n  one: {{file: one.pub}}\n  two: {{file: two.pub}}\nrules:\n"
        "  - images: '**'\n    require: {atLeast: {n: 2, of: [{key: one}, {key: two}]}}\n"
    )
    with pytest.raises(SameKeyTwice):
        load_policy(tmp_path / "policy.yaml")


@pytest.mark.attack("forged admission")
def test_an_admission_is_worth_nothing_twice_late_or_changed(host):
    host.push()
    host.sign("a")
    redeem = redeemer(host.state, host.clock)
    admission = admit(host.judge(), Asked(), host.ports)
    with pytest.raises(AdmissionUsed):
        redeem(altered(admission, command=("/bin/sh",)))
    with pytest.raises(AdmissionUsed):
        redeem(altered(admission, expires_at=admission.expires_at.replace(year=2100)))
    redeem(admission)
    with pytest.raises(AdmissionUsed):
        redeem(admission)
    late = admit(host.judge(), Asked(), host.ports)
    host.later(seconds=ADMISSION_LIFETIME_S)
    with pytest.raises(AdmissionExpired):
        redeem(late)


@pytest.mark.attack("stripped referrers")
def test_lost_evidence_is_could_not_check_and_starts_nothing_even_under_warn(host):
    host.push()
    host.sign("a")
    image = {small_image().config, small_image().layer}
    for key in [key for key, blob in host.registry.blobs.items() if blob not in image]:
        del host.registry.blobs[key]
    assert host.run(ONE_KEY + "    mode: warn\n") == EXIT_RUN_UNCHECKED
    assert (host.engine.pulled, host.engine.started) == ([], [])
