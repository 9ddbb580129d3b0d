"""What good evidence of each form proves, with each kind of log entry, by key and by identity."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sigkit.verify.facts import IdentitySigner, KeySigner, TimeKind
from tests.simulators.sigstore import REPOSITORY, Simulator
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT

BUNDLES = [
    *(("dsse", logs) for logs in (("dsse",), ("intoto",), ("v2",), ("dsse", "v2"), ())),
    *(("message", logs) for logs in (("hashedrekord",), ("rekord",), ("v2",), ("rekord", "v2"), ())),
]
# A bundle of version 0.1 needs a promise, which logs of the second generation do not give.
VERSIONED = [(form, logs, v) for form, logs in BUNDLES for v in ("0.1", "0.2", "0.3") if (v, logs[-1:]) != ("0.1", ("v2",))]
OLDER = [
    *(("simple", logs) for logs in (("hashedrekord",), ("rekord",), ())),
    *(("att", logs) for logs in (("dsse",), ("intoto",), ())),
    *(("blob", logs) for logs in (("hashedrekord",), ("rekord",), ())),
]


def check(sim, facts, logs, by, *, promised_only):
    old, new = [kind for kind in logs if kind != "v2"], [kind for kind in logs if kind == "v2"]
    included = [] if promised_only else [*(sim.log1.host for _ in old), *(sim.log2.host for _ in new)]
    assert [fact.log for fact in facts.inclusions] == [f"https://{host}" for host in included]
    assert [fact.log for fact in facts.promises] == [f"https://{sim.log1.host}"] * len(old)
    assert [time.kind for time in facts.times] == [TimeKind.TIMESTAMP, *(TimeKind.INTEGRATED for _ in old)]
    assert {time.when for time in facts.times} == {sim.clock.now}
    if by == "key":
        assert isinstance(facts.signer.signer, KeySigner)
        assert facts.certificate_logs == ()
    else:
        signer = facts.signer.signer
        assert isinstance(signer, IdentitySigner)
        assert (signer.issuer, signer.subject, signer.kind) == (ISSUER, SUBJECT, "uri")
        assert signer.extensions["sourceRepositoryURI"] == "https://git.example/acme/app"
        assert [fact.when for fact in facts.certificate_logs] == [sim.clock.now - timedelta(seconds=5)]
    assert facts.unchecked == ()


@pytest.mark.parametrize("by", ["identity", "key"])
@pytest.mark.parametrize(
    ("form", "logs", "version"), VERSIONED, ids=[f"{form}-{'+'.join(logs) or 'none'}-{v}" for form, logs, v in VERSIONED]
)
def test_a_bundle_proves_signer_logs_and_times(form, logs, version, by):
    sim = Simulator()
    facts = sim.make(form, logs, by, version).judge()
    check(sim, facts, logs, by, promised_only=False)
    assert (facts.signature.predicate_type is None) == (form == "message")
    assert facts.signature.repository == (None if form == "message" else REPOSITORY)


@pytest.mark.parametrize("by", ["identity", "key"])
@pytest.mark.parametrize(("form", "logs"), OLDER, ids=[f"{form}-{'+'.join(logs) or 'none'}" for form, logs in OLDER])
def test_older_forms_prove_the_same_but_a_promise_is_no_inclusion(form, logs, by):
    sim = Simulator()
    facts = sim.make(form, logs, by).judge()
    check(sim, facts, logs, by, promised_only=True)
    assert (facts.signature.predicate_type is None) == (form == "blob")


def test_a_file_is_verified_by_its_digest_too():
    case = Simulator().make("message", ("v2",))
    assert replace(case, content=None).judge() == case.judge()
