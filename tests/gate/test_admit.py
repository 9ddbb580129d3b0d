"""Judging walks the whole way once; an admission is durable before it exists, works once, and not for long."""

import base64
import json
import os

import pytest

from sigkit import strict
from sigkit.digest import Digest
from sigkit.errors import (
    EXIT_REFUSED,
    EXIT_UNCHECKED,
    AbsentReference,
    AdmissionExpired,
    AdmissionUsed,
    BadSignature,
    CommandNotGranted,
    EvidenceUnlistable,
    FileUnwritable,
    NoGoodSignature,
    NotAllowed,
    NotDecided,
    Place,
    TooDeep,
    TooMany,
    Unsigned,
    WrongKey,
    WrongName,
)
from sigkit.gate.admit import Covers, admit, judge, redeemer, withdraw
from sigkit.gate.confine import Asked
from sigkit.limits import ADMISSION_LIFETIME_S, DECISION_AGE_S, Limits
from sigkit.oci.manifest import Manifest, parse_manifest
from sigkit.oci.reference import parse_reference
from sigkit.policy.decision import Allow, Deny, Standing, Warn, record_of
from tests.simulators.altered import altered
from tests.simulators.gatehouse import APP, ONE_KEY
from tests.simulators.images import AMD64, ARM64, small_image
from tests.simulators.memory_registry import Referrers
from tests.simulators.verdicts import policy


def code(judgement) -> str:
    assert isinstance(judgement.decision, Deny)
    return judgement.decision.reasons[0].code


# --- judge


@pytest.mark.parametrize("referrers", Referrers)
def test_a_signed_image_is_allowed_by_the_facts_that_were_proved(host, referrers):
    host.registry.referrers = referrers
    digest = host.push()
    host.sign("a")
    decision = host.judge().decision
    assert isinstance(decision, Allow)
    assert decision.facts[0].signature.artifact == digest
    assert decision.facts[0].signature.repository == APP
    assert decision.facts[0].signer.source.root == "policy.yaml"


def test_an_unsigned_image_is_denied(host):
    host.push()
    assert code(host.judge()) == Unsigned.code


def test_an_image_signed_by_another_key_of_the_policy_is_denied(host):
    host.push()
    host.sign("b")
    assert code(host.judge()) == WrongKey.code


def test_an_image_signed_by_a_stranger_is_denied_as_signed_by_another(host):
    host.push()
    host.sign("stranger")
    assert code(host.judge()) == WrongKey.code


def test_evidence_that_was_altered_is_denied_with_its_own_reason(host):
    host.push()
    host.sign("a")
    damage_signature(host)
    judgement = host.judge()
    assert code(judgement) == NoGoodSignature.code
    assert [item.reason.code for item in judgement.decision.refused] == [BadSignature.code]


@pytest.mark.parametrize("depth", [0, 70])
def test_evidence_beyond_any_limit_is_refused_and_takes_no_allow_away(host, depth):
    """Too many and too deep count alike: that one piece was read whole, so nothing is unknown about it."""

    def grow(bundle):
        entries = "[" * depth + "]" * depth if depth else f"[{','.join(['{}'] * 33)}]"
        bundle["verificationMaterial"]["tlogEntries"] = json.loads(entries)

    host.push()
    host.sign("a")
    change_bundles(host, grow)
    denied = record_of(host.judge().decision)
    assert [item.reason.code for item in denied.refused] == [TooDeep.code if depth else TooMany.code]
    assert [item.reason.standing for item in denied.refused] == [Standing.REFUSED]
    assert denied.exit_status() == EXIT_REFUSED
    host.sign("a")
    assert isinstance(host.judge().decision, Allow)


def damage_signature(host):
    """Change one byte of the signed name inside the bundle."""

    def damage(bundle):
        payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
        bundle["dsseEnvelope"]["payload"] = strict.encode_base64(payload.replace(b"acme/app", b"acme/apq"))

    change_bundles(host, damage)


def change_bundles(host, change):
    """Change every bundle, and name its bytes anew: registries store what they get."""
    for (repository, digest), (raw, media_type) in list(host.registry.manifests.items()):
        manifest = parse_manifest(raw, digest, Place(""))
        if not isinstance(manifest, Manifest) or manifest.subject is None:
            continue
        layer = manifest.layers[0]
        bundle = json.loads(host.registry.blobs[repository, layer.digest])
        change(bundle)
        changed = json.dumps(bundle).encode()
        document = json.loads(raw)
        document["layers"][0].update(digest=str(Digest.of(changed)), size=len(changed))
        del host.registry.manifests[repository, digest]
        host.registry.push_blob(repository, Digest.of(changed), changed)
        renamed = json.dumps(document).encode()
        host.registry.push_manifest(repository, Digest.of(renamed), renamed, media_type)


@pytest.mark.attack("containers/image#2950")
def test_image_and_signature_copied_to_another_repository_are_denied(host):
    host.push()
    host.sign("a")
    host.copy(f"{APP}:v1", "registry.example/acme/copy:v1")
    judgement = host.judge(reference="registry.example/acme/copy:v1")
    assert code(judgement) == WrongName.code
    assert judgement.decision.reasons[0].got == APP


@pytest.mark.attack("stripped referrers")
@pytest.mark.parametrize("referrers", Referrers)
def test_an_image_whose_signatures_did_not_come_along_is_denied(host, referrers):
    host.registry.referrers = referrers
    host.push()
    host.sign("a")
    host.push("registry.example/acme/stripped:v1")
    assert code(host.judge(reference="registry.example/acme/stripped:v1")) == Unsigned.code


def test_a_tag_that_was_moved_is_judged_by_what_it_names_now(host):
    host.push()
    host.sign("a")
    host.push(image=small_image(b"tampered"))
    assert code(host.judge()) == Unsigned.code


def test_a_tag_is_asked_for_once(host):
    host.push()
    host.sign("a")
    host.registry.asked.clear()
    host.judge()
    assert host.registry.asked.count("v1") == 1


def test_no_evidence_is_asked_for_where_none_could_change_the_verdict(host):
    host.push()
    for rules in ("  - images: other.example/**\n    require: {key: a}\n", "  - images: '**'\n    unverified: {reason: OPS-1}\n"):
        host.registry.asked.clear()
        host.judge(rules)
        assert host.registry.asked == ["v1"]


def test_an_absent_tag_is_no_verdict(host):
    host.push()
    with pytest.raises(AbsentReference):
        host.judge(reference=f"{APP}:none")


def test_evidence_that_cannot_be_listed_whole_is_no_verdict(host):
    digest = host.push()
    host.sign("a")
    host.registry.referrers = Referrers.NONE
    host.registry.lies[str(digest).replace(":", "-")] = b"no index"
    with pytest.raises(EvidenceUnlistable) as caught:
        host.judge()
    assert caught.value.status() == 3


def test_a_signed_index_vouches_for_its_child(host):
    host.push_index()
    host.sign("a")
    judgement = host.judge()
    assert isinstance(judgement.decision, Allow)
    request = judgement.decision.request
    assert request.chain == (request.top, request.manifest)
    assert request.top != request.manifest


def test_a_childs_own_signature_counts_for_what_starts_and_not_for_the_index(host):
    child = small_image()
    host.push_index(images={AMD64: child, ARM64: small_image(b"arm", ARM64)})
    host.sign("a", f"{APP}@{child.digest}")
    assert code(host.judge()) == Unsigned.code
    assert isinstance(host.judge(covers=Covers.IMAGE).decision, Allow)


def test_a_warn_rule_does_not_hide_a_childs_own_signature(host):
    child = small_image()
    host.push_index(images={AMD64: child})
    host.sign("a", f"{APP}@{child.digest}")
    rules = ONE_KEY + "    mode: warn\n"
    assert isinstance(host.judge(rules).decision, Warn)
    assert isinstance(host.judge(rules, covers=Covers.IMAGE).decision, Allow)


def test_a_child_that_was_signed_is_not_asked_about_when_the_index_suffices(host):
    child = small_image()
    host.push_index(images={AMD64: child})
    host.sign("a")
    host.registry.asked.clear()
    host.judge(covers=Covers.IMAGE)
    assert not [asked for asked in host.registry.asked if child.digest.hex in asked and ":" not in asked]


def test_signers_of_index_and_child_count_together(host):
    child = small_image()
    host.push_index(images={AMD64: child})
    host.sign("a")
    host.sign("b", f"{APP}@{child.digest}")
    both = ONE_KEY.replace("{key: a}", "{atLeast: {n: 2, of: [{key: a}, {key: b}, {key: c}]}}")
    assert isinstance(host.judge(both).decision, Deny)
    assert isinstance(host.judge(both, covers=Covers.IMAGE).decision, Allow)


# --- admit


@pytest.fixture
def allowed(host):
    host.push()
    host.sign("a")
    return host.judge()


def test_an_admission_names_what_was_decided_and_nothing_else(host, allowed):
    admission = admit(allowed, Asked(), host.ports)
    request = allowed.decision.request
    assert (admission.top, admission.manifest, admission.config) == (request.top, request.manifest, request.config)
    assert admission.platform == allowed.pinned.platform
    assert admission.policy_digest == allowed.decision.policy.digest
    assert (admission.command, admission.entrypoint, admission.environment) == (None, None, ())
    assert (admission.expires_at - host.clock.now()).total_seconds() == ADMISSION_LIFETIME_S


def test_the_audit_line_is_there_before_the_admission(host, allowed):
    admission = admit(allowed, Asked(), host.ports)
    entry = host.entries()[-1]
    assert entry.event == "admit"
    assert str(entry.digest) == admission.audit_id
    assert entry.body["decision"]["outcome"] == "allow"
    assert entry.body["decision"]["request"]["manifest"] == str(admission.manifest)


def test_values_of_variables_stay_out_of_the_log(host):
    host.push()
    host.sign("a")
    judgement = host.judge(ONE_KEY + "    run: {environment: [TOKEN]}\n")
    admission = admit(judgement, Asked(environment=(("TOKEN", "hunter2"),)), host.ports)
    assert admission.environment == (("TOKEN", "hunter2"),)
    assert host.entries()[-1].body["environment"] == ["TOKEN"]
    assert b"hunter2" not in host.log.read_bytes()


def test_without_an_audit_line_there_is_no_admission(host, allowed):
    os.mkdir(host.log)
    with pytest.raises(FileUnwritable):
        admit(allowed, Asked(), host.ports)
    assert host.usable_admissions() == 0


def test_a_denied_image_gets_a_line_and_no_admission(host):
    host.push()
    with pytest.raises(NotAllowed):
        admit(host.judge(), Asked(), host.ports)
    assert host.events() == ["deny"]
    assert host.usable_admissions() == 0


def test_a_denial_of_what_could_not_be_checked_is_no_refusal(host):
    host.push()
    host.sign("a")
    kept = {small_image().config, small_image().layer}
    for key, blob in list(host.registry.blobs.items()):
        if blob not in kept:
            del host.registry.blobs[key]
    with pytest.raises(NotDecided) as caught:
        admit(host.judge(), Asked(), host.ports)
    assert caught.value.status() == EXIT_UNCHECKED
    assert host.events() == ["deny"]
    assert host.usable_admissions() == 0


def test_an_image_that_no_rule_is_about_is_refused_and_no_usage_error(host):
    host.push()
    with pytest.raises(NotAllowed) as caught:
        admit(host.judge(ONE_KEY.replace("registry.example/acme", "other.example/acme")), Asked(), host.ports)
    assert caught.value.status() == EXIT_REFUSED


def test_a_warned_image_is_admitted_and_recorded_as_such(host):
    host.push()
    judgement = host.judge(ONE_KEY + "    mode: warn\n")
    assert isinstance(judgement.decision, Warn)
    admit(judgement, Asked(), host.ports)
    assert host.entries()[-1].body["decision"]["outcome"] == "warn"


def test_more_than_is_granted_is_refused_without_an_allow_in_the_log(host, allowed):
    with pytest.raises(CommandNotGranted):
        admit(allowed, Asked(command=("sh",)), host.ports)
    assert host.events() == ["deny"]
    assert b'"allow"' not in host.log.read_bytes()
    assert host.entries()[-1].body["reasons"][0]["code"] == CommandNotGranted.code


def test_a_listed_command_is_compared_with_the_images_own_entry_point(host):
    host.push()  # its Cmd is /bin/true, without an entry point
    host.sign("a")
    judgement = host.judge(ONE_KEY + "    run: {command: [[/bin/true, -v]]}\n")
    admit(judgement, Asked(command=("/bin/true", "-v")), host.ports)
    with pytest.raises(CommandNotGranted):
        admit(judgement, Asked(command=("/bin/true",)), host.ports)


@pytest.mark.parametrize("seconds", [DECISION_AGE_S + 1, -1])
def test_an_old_decision_and_one_of_the_future_admit_nothing(host, allowed, seconds):
    host.later(seconds=seconds)
    with pytest.raises(AdmissionExpired):
        admit(allowed, Asked(), host.ports)
    assert host.events() == []


# --- redeem


def test_an_admission_works_once(host, allowed):
    admission = admit(allowed, Asked(), host.ports)
    redeem = redeemer(host.state, host.clock)
    redeem(admission)
    with pytest.raises(AdmissionUsed):
        redeem(admission)


def test_an_admission_expires(host, allowed):
    admission = admit(allowed, Asked(), host.ports)
    host.later(seconds=ADMISSION_LIFETIME_S)
    with pytest.raises(AdmissionExpired):
        redeemer(host.state, host.clock)(admission)
    host.later(seconds=-10)
    with pytest.raises(AdmissionUsed):
        redeemer(host.state, host.clock)(admission)


def test_what_a_killed_run_left_is_forgotten_once_it_has_expired(host, allowed):
    left = admit(allowed, Asked(), host.ports)
    admit(allowed, Asked(), host.ports)
    assert host.usable_admissions() == 2
    host.later(seconds=ADMISSION_LIFETIME_S + 1)
    admitted = admit(host.judge(), Asked(), host.ports)
    assert host.usable_admissions() == 1
    with pytest.raises(AdmissionExpired):
        redeemer(host.state, host.clock)(left)
    redeemer(host.state, host.clock)(admitted)


def test_a_withdrawn_admission_is_worthless(host, allowed):
    admission = admit(allowed, Asked(), host.ports)
    withdraw(admission, host.state)
    with pytest.raises(AdmissionUsed):
        redeemer(host.state, host.clock)(admission)


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": "0" * 32},
        {"manifest": Digest.of(b"other")},
        {"command": ("sh",)},
        {"environment": (("A", "b"),)},
        {"repository": parse_reference("evil.example/x").repository},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_admission_that_the_gate_did_not_give_is_worthless(host, allowed, change):
    admission = admit(allowed, Asked(), host.ports)
    with pytest.raises(AdmissionUsed):
        redeemer(host.state, host.clock)(altered(admission, **change))
    redeemer(host.state, host.clock)(admission)


def test_a_wider_confinement_is_another_admission(host, allowed):
    admission = admit(allowed, Asked(), host.ports)
    wider = altered(admission.confinement, capabilities=("CAP_SYS_ADMIN",))
    with pytest.raises(AdmissionUsed):
        redeemer(host.state, host.clock)(altered(admission, confinement=wider))


def test_the_record_of_a_judgement_has_the_exit_status(host):
    host.push()
    assert record_of(host.judge().decision).exit_status() == 1
    host.sign("a")
    assert record_of(host.judge().decision).exit_status() == 0


def test_too_many_referrers_are_no_verdict(host):
    host.push()
    host.sign("a")
    host.sign("b")
    with pytest.raises(EvidenceUnlistable, match="more than 1 items"):
        judge(parse_reference(f"{APP}:v1"), AMD64, policy(ONE_KEY, "a"), host.registry, host.clock, Limits(evidence_items=1))
