"""Run and pull: what may start starts once; what fails leaves a line in the log and nothing to use."""

import contextlib
import sqlite3

import pytest

from sigkit.errors import (
    EXIT_RUN_REFUSED,
    EXIT_RUN_UNCHECKED,
    EXIT_UNCHECKED,
    AbsentReference,
    AdmissionExpired,
    AdmissionUsed,
    CommandNotGranted,
    DatabaseUnusable,
    DigestMismatch,
    Place,
)
from sigkit.gate.admit import redeemer
from sigkit.gate.confine import Asked
from sigkit.gate.run import Pulled
from sigkit.limits import ADMISSION_LIFETIME_S
from sigkit.policy.decision import Allow, Deny
from tests.simulators.gatehouse import APP, ONE_KEY, FakeEngine
from tests.simulators.images import AMD64, small_image


@pytest.fixture
def signed(host):
    host.push()
    host.sign("a")
    return host


def test_a_signed_image_runs_and_gives_its_own_status(signed):
    signed.engine.status = 7
    assert signed.run() == 7
    assert signed.events() == ["admit", "ended"]
    assert signed.entries()[1].body == {"admission": signed.engine.started[0].audit_id, "status": 7}
    assert signed.usable_admissions() == 0


def test_the_judgement_is_told_before_anything_is_pulled(signed):
    pulled_when_told = []
    signed.run(tell=lambda _judgement: pulled_when_told.append(len(signed.engine.pulled)))
    assert pulled_when_told == [0]


def test_a_refused_image_is_neither_pulled_nor_started(host):
    host.push()
    assert host.run() == EXIT_RUN_REFUSED
    assert (host.engine.pulled, host.engine.started) == ([], [])
    assert host.events() == ["deny"]
    assert isinstance(host.told[0].decision, Deny)
    assert b'"allow"' not in host.log.read_bytes()


def test_a_refusal_that_nobody_can_be_told_of_is_in_the_log(host):
    """Whoever closes the terminal must not be able to try images without a line."""
    host.push()

    def tell(_judgement):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        host.run(tell=tell)
    assert host.events() == ["deny"]


def test_evidence_that_could_not_be_read_is_no_refusal(host):
    host.push()
    host.sign("a")
    forget_bundles(host)
    assert host.run() == EXIT_RUN_UNCHECKED
    assert host.engine.started == []
    assert host.events() == ["deny"]


def forget_bundles(host):
    """Lose the blobs of the evidence, not the list of it."""
    image = {small_image().config, small_image().layer}
    for key, blob in list(host.registry.blobs.items()):
        if blob not in image:
            del host.registry.blobs[key]


def test_a_warn_rule_does_not_start_what_could_not_be_checked(host):
    host.push()
    host.sign("a")
    forget_bundles(host)
    assert host.run(ONE_KEY + "    mode: warn\n") == EXIT_RUN_UNCHECKED
    assert host.engine.started == []


def test_a_warn_rule_starts_what_was_refused(host):
    host.push()
    assert host.run(ONE_KEY + "    mode: warn\n") == 0
    assert len(host.engine.started) == 1


def test_an_image_that_is_not_there_leaves_a_line_and_nothing_else(host):
    with pytest.raises(AbsentReference):
        host.run()
    assert host.events() == ["unjudged"]
    assert host.entries()[0].body["reference"] == f"{APP}:v1"


def test_a_pull_that_fails_leaves_no_admission_to_use(signed):
    signed.engine.pull_fails = DigestMismatch("changed", place=Place("layer"))
    with pytest.raises(DigestMismatch):
        signed.run()
    assert signed.events() == ["admit", "failed"]
    assert signed.entries()[1].body["reason"]["code"] == DigestMismatch.code
    assert signed.usable_admissions() == 0
    assert signed.engine.started == []


def test_a_start_that_fails_leaves_no_admission_to_use(signed):
    signed.engine.start_fails = DigestMismatch("changed", place=Place("layer"))
    with pytest.raises(DigestMismatch):
        signed.run()
    assert signed.events() == ["admit", "failed"]
    assert signed.usable_admissions() == 0


def test_an_interrupted_pull_leaves_no_admission_to_use(signed):
    signed.engine.pull_fails = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        signed.run()
    assert signed.events() == ["admit", "failed"]
    assert signed.usable_admissions() == 0


def test_a_bug_while_it_starts_leaves_a_line_and_no_admission_to_use(signed):
    signed.engine.start_fails = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        signed.run()
    assert signed.events() == ["admit", "failed"]
    assert signed.entries()[1].body["reason"]["problem"] == "ZeroDivisionError"
    assert signed.usable_admissions() == 0


def test_an_admission_that_cannot_be_kept_is_said_to_have_failed(signed):
    with contextlib.closing(sqlite3.connect(signed.home / "state.db")) as database:
        database.execute("DROP TABLE state")
    with pytest.raises(DatabaseUnusable):
        signed.run()
    assert signed.events() == ["admit", "failed"]
    assert (signed.engine.pulled, signed.engine.started) == ([], [])


def test_a_pull_that_outlasts_its_admission_starts_nothing_and_is_worth_another_try(signed):
    class Slow(FakeEngine):
        def pull(self, admission, registry):
            signed.later(seconds=ADMISSION_LIFETIME_S)
            return super().pull(admission, registry)

    signed.engine = Slow()
    with pytest.raises(AdmissionExpired) as caught:
        signed.run()
    assert caught.value.status() == EXIT_UNCHECKED
    assert signed.engine.started == []
    assert signed.events() == ["admit", "failed"]
    assert signed.usable_admissions() == 0


def test_running_again_after_a_failure_works_without_cleaning(signed):
    signed.engine.pull_fails = DigestMismatch("changed", place=Place("layer"))
    with pytest.raises(DigestMismatch):
        signed.run()
    signed.engine.pull_fails = None
    assert signed.run() == 0


def test_what_is_asked_beyond_the_grant_starts_nothing(signed):
    with pytest.raises(CommandNotGranted):
        signed.run(asked=Asked(command=("sh",)))
    assert signed.engine.pulled == []
    assert signed.events() == ["deny"]


def test_what_is_granted_reaches_the_engine(signed):
    signed.run(ONE_KEY + "    run: {command: any, environment: [TZ]}\n", asked=Asked(command=("sh",), environment=(("TZ", "UTC"),)))
    assert signed.engine.started[0].command == ("sh",)
    assert signed.engine.started[0].environment == (("TZ", "UTC"),)


@pytest.mark.attack("CVE-2023-33959, GHSA-wfqx-gjrf-g28r, CVE-2022-47633")
def test_a_tag_that_moves_after_the_decision_changes_nothing(signed):
    asked_before = len(signed.registry.asked)
    moved = []

    assert signed.run(tell=lambda _judgement: moved.append(signed.push(image=small_image(b"tampered")))) == 0
    assert signed.engine.started[0].manifest == small_image().digest != moved[0]
    assert signed.registry.asked[asked_before:].count("v1") == 1


def test_a_child_with_its_own_signature_runs(host):
    child = small_image()
    host.push_index(images={AMD64: child})
    host.sign("a", f"{APP}@{child.digest}")
    assert host.run() == 0
    assert host.engine.started[0].manifest == child.digest


def test_a_pull_uses_its_admission_up(signed):
    pulled = signed.pull()
    assert isinstance(pulled, Pulled)
    assert isinstance(pulled.judgement.decision, Allow)
    assert signed.events() == ["admit", "pulled"]
    with pytest.raises(AdmissionUsed):
        redeemer(signed.state, signed.clock)(signed.engine.pulled[0])


def test_a_pull_alone_leaves_nothing_to_start_even_while_it_runs(signed):
    class Starter(FakeEngine):
        def pull(self, admission, registry):
            with pytest.raises(AdmissionUsed):
                self.start(admission, "an image", redeemer(signed.state, signed.clock))
            return super().pull(admission, registry)

    signed.engine = Starter()
    assert isinstance(signed.pull(), Pulled)
    assert signed.engine.started == []


def test_a_refused_pull_brings_nothing(host):
    host.push()
    assert isinstance(host.pull(), Deny)
    assert host.engine.pulled == []
    assert host.events() == ["deny"]


def test_starting_unverified_needs_a_policy_that_says_so_and_the_log_has_the_reason(host):
    host.push()
    assert host.run("  - images: registry.example/**\n    unverified: {reason: OPS-1}\n") == 0
    assert b"OPS-1" in host.log.read_bytes()
