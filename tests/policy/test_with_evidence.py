"""From a policy's own files to a verdict over evidence that is verified, not made up: what verification proves is what policies ask for."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import serialization

from sigkit import limits
from sigkit.digest import Digest, parse_digest
from sigkit.errors import (
    CertificateNotLogged,
    NoGoodSignature,
    NotLogged,
    NotWitnessed,
    Place,
    SigkitError,
    UntrustedCertificate,
    WrongAuthority,
    WrongIdentity,
)
from sigkit.evidence.form import Evidence, Form, Found
from sigkit.evidence.statement import PREDICATE_SIGNATURE
from sigkit.keys.private import generate
from sigkit.policy.decide import decide, decide_blob
from sigkit.policy.decision import Allow, Deny, Met, Reason, RefusedEvidence, encode_decision, encode_facts
from sigkit.policy.flags import Wanted, WantedIdentity, WantedRoot, WantedText, policy_for_flags, requirement_for_flags
from sigkit.policy.load import parse_policy
from sigkit.policy.model import KEYLESS_DEMANDS, Policy, Unverified
from sigkit.policy.record import parse_record
from sigkit.strict import encode_json
from sigkit.tlog.cosignature import COSIGNATURE_TYPE
from sigkit.tlog.note import encode_line, key_id_of
from sigkit.trust.trusted_root import parse_trusted_root
from sigkit.verify.bind import Artifact
from sigkit.verify.verify import verify
from tests.simulators.note_keys import encode_note_key
from tests.simulators.sigstore import IMAGE, Case, Simulator
from tests.simulators.sigstore_authorities import ISSUER, SUBJECT
from tests.simulators.verdicts import request

HERE = Place("policy.yaml")
DIGEST = parse_digest(f"sha256:{IMAGE}", HERE)
SIGNED = {"statement": lambda document: {**document, "predicateType": PREDICATE_SIGNATURE}}
WHO = f"{{issuer: {ISSUER}, subject: {SUBJECT}}}"
OURS = "trustedRoots: {ours: {file: root.json}}\n"


def chain(sim: Simulator) -> bytes:
    links = (sim.ca.intermediate, sim.ca.anchor)
    return b"".join(link.certificate.public_bytes(serialization.Encoding.PEM) for link in links)


def load(before: str, require: str, **files: bytes) -> Policy:
    head = f"apiVersion: sigkit.dev/v1alpha1\nkind: Policy\n{before}"
    text = f"{head}rules:\n  - images: registry.example/**\n    require: {require}\n"
    return parse_policy(text.encode(), Place.operator("policy.yaml"), lambda name: files[name.replace(".", "_")])


def by_authority(authority: str, sim: Simulator) -> Policy:
    return load(f"{OURS}authorities: {{ci: {authority}}}\n", "{authority: ci}", root_json=sim.root())


def judge(policy: Policy, *cases: Case, artifact: Artifact | None = None):
    """Verify each piece of evidence under each root, and decide."""
    facts, refused = [], []
    for case in cases:
        evidence = Evidence(Form(case.form), case.parts, Found("registry.example/acme/app", Digest.of(b"referrer"), "referrers"))
        errors, proved = [], False
        for root in policy.roots:
            try:
                facts.append(verify(evidence, artifact or Artifact.of(DIGEST), root, case.now, limits.DEFAULT))
                proved = True
            except SigkitError as err:
                errors.append(err)
        if not proved:
            refused.append(RefusedEvidence(evidence.place, Reason.of_error(errors[0])))
    now = cases[0].now
    if artifact:
        require = policy.rules[0].require
        assert not isinstance(require, Unverified)
        return decide_blob(facts, refused, artifact, require, now)
    return decide(facts, refused, request("registry.example/acme/app:v1", top=DIGEST, manifest=DIGEST), policy, now)


def code(decision) -> str:
    assert isinstance(decision, Deny)
    return decision.reasons[0].code


def test_an_instance_of_ones_own_with_everything_asked_for():
    sim = Simulator(change=dict(SIGNED))
    case = sim.make(logs=("dsse", "v2"))
    extensions = "{sourceRepositoryURI: https://git.example/acme/app}"
    who = f"{{issuer: {ISSUER}, subjectRegExp: '{SUBJECT[:12]}.+', subjectKind: uri, extensions: {extensions}}}"
    policy = by_authority(f"{{identity: {who}, trustedRoot: ours, logInclusions: 2, timestamps: 1, certificateLogs: 1}}", sim)
    assert isinstance(judge(policy, case), Allow)
    assert code(judge(policy, sim.make(logs=("dsse",)))) == NotLogged.code


def test_a_signature_of_the_older_form_is_promised_and_not_proved():
    sim = Simulator()
    case = sim.make("simple", logs=("hashedrekord",))
    assert isinstance(judge(by_authority(f"{{identity: {WHO}, trustedRoot: ours}}", sim), case), Allow)
    assert code(judge(by_authority(f"{{identity: {WHO}, trustedRoot: ours, logInclusions: 1}}", sim), case)) == NotLogged.code


def test_a_certificate_without_a_log_is_missed_only_where_one_is_asked_for():
    sim = Simulator(change=dict(SIGNED))
    sim.ca.logs = []
    case = sim.make()
    assert code(judge(by_authority(f"{{identity: {WHO}, trustedRoot: ours}}", sim), case)) == CertificateNotLogged.code
    assert isinstance(judge(by_authority(f"{{identity: {WHO}, trustedRoot: ours, certificateLogs: 0}}", sim), case), Allow)


def test_an_attestation_by_an_identity():
    sim = Simulator()
    case = sim.make()
    before = f"{OURS}authorities: {{ci: {{identity: {WHO}, trustedRoot: ours}}}}\n"
    require = "{attestation: {type: spdxjson, by: {authority: ci}}}"
    policy = load(before, require, root_json=sim.root())
    assert isinstance(judge(policy, case), Allow)
    other = load(before, require.replace("spdxjson", "vuln"), root_json=sim.root())
    assert isinstance(judge(other, case), Deny)
    assert isinstance(judge(policy, Simulator(change=dict(SIGNED)).make()), Deny)


@pytest.mark.attack("mixed evidence")
def test_another_instance_with_the_same_names_vouches_for_nothing():
    ours, theirs = Simulator(change=dict(SIGNED)), Simulator(change=dict(SIGNED))
    before = "trustedRoots: {ours: {file: root.json}, theirs: {file: other.json}}\nauthorities:\n"
    before += "".join(f"  {name}: {{identity: {WHO}, trustedRoot: {name}}}\n" for name in ("ours", "theirs"))
    both = load(before, "{anyOf: [{authority: ours}, {authority: theirs}]}", root_json=ours.root(), other_json=theirs.root())
    assert isinstance(judge(both, theirs.make()), Allow)
    assert isinstance(judge(both, ours.make()), Allow)
    one = load(before, "{authority: ours}", root_json=ours.root(), other_json=theirs.root())
    assert code(judge(one, theirs.make())) == NoGoodSignature.code
    # Under a policy that uses both, theirs still does not count where ours is asked for.
    all_of = load(before, "{allOf: [{authority: ours}, {authority: theirs}]}", root_json=ours.root(), other_json=theirs.root())
    decision = judge(all_of, theirs.make())
    assert isinstance(decision, Deny)
    assert [child.code for child in decision.reasons[0].children] == [WrongAuthority.code]
    assert isinstance(judge(all_of, theirs.make(), ours.make()), Allow)


def test_an_authority_of_ones_own_counts_at_times_that_a_root_attests():
    times, company = Simulator(), Simulator(change=dict(SIGNED))
    company.tsa, company.log1, company.log2, company.clock = times.tsa, times.log1, times.log2, times.clock
    company.ca.clock, company.ca.logs = times.clock, []
    before = (
        f"{OURS}certificateAuthorities: {{pki: {{file: chain.pem, trustedRoot: ours}}}}\n"
        f"authorities: {{r: {{identity: {{subject: {SUBJECT}}}, certificateAuthority: pki, timestamps: 1, logInclusions: 1}}}}\n"
    )
    case = company.make()
    assert isinstance(judge(load(before, "{authority: r}", root_json=times.root(), chain_pem=chain(company)), case), Allow)
    decision = judge(load(before, "{authority: r}", root_json=times.root(), chain_pem=chain(times)), case)
    assert code(decision) == NoGoodSignature.code
    assert decision.refused[0].reason.code == UntrustedCertificate.code


@pytest.mark.attack("another root's clocks")
def test_a_chain_that_is_listed_twice_counts_at_the_times_of_each_root_alone():
    dev, prod, company = Simulator(), Simulator(), Simulator(change=dict(SIGNED))
    company.tsa, company.log1, company.log2, company.clock = dev.tsa, dev.log1, dev.log2, dev.clock
    company.ca.clock, company.ca.logs = dev.clock, []
    names = ("dev", "prod")
    before = (
        "trustedRoots: {dev: {file: dev.json}, prod: {file: prod.json}}\ncertificateAuthorities:\n"
        + "".join(f"  pki-{name}: {{file: chain.pem, trustedRoot: {name}}}\n" for name in names)
        + "authorities:\n"
        + "".join(f"  {name}: {{identity: {{subject: {SUBJECT}}}, certificateAuthority: pki-{name}}}\n" for name in names)
    )
    files = {"dev_json": dev.root(), "prod_json": prod.root(), "chain_pem": chain(company)}
    case = company.make(logs=())
    assert isinstance(judge(load(before, "{anyOf: [{authority: dev}, {authority: prod}]}", **files), case), Allow)
    decision = judge(load(before, "{allOf: [{authority: dev}, {authority: prod}]}", **files), case)
    assert isinstance(decision, Deny)
    (reason,) = decision.reasons[0].children
    assert reason.code == WrongAuthority.code
    assert "at a time by" in reason.got
    assert reason.got.endswith(" of dev")


def test_a_key_with_a_log_and_a_timestamp():
    sim = Simulator(change=dict(SIGNED))
    case = sim.make(by="key")
    before = f"{OURS}keys: {{k: {{file: k.pub}}}}\nauthorities: {{k: {{key: k, logInclusions: 1, timestamps: 1, trustedRoot: ours}}}}\n"
    files = {"root_json": sim.root(), "k_pub": sim.public_pem()}
    assert isinstance(judge(load(before, "{authority: k}", **files), case), Allow)
    assert code(judge(load(before, "{authority: k}", **files), sim.make(by="key", logs=()))) == NotLogged.code
    assert isinstance(judge(load("keys: {k: {file: k.pub}}\n", "{key: k}", **files), sim.make(by="key", logs=())), Allow)


@pytest.mark.parametrize("form", ["message", "blob"])
def test_a_file_signed_by_an_identity(form):
    sim = Simulator()
    case = sim.make(form, logs=("hashedrekord",))
    root = parse_trusted_root(sim.root(), "ours", HERE, limits.DEFAULT)
    texts = (WantedText("--certificate-identity", SUBJECT), WantedText("--certificate-oidc-issuer", ISSUER))
    wanted = Wanted(WantedIdentity(*texts), KEYLESS_DEMANDS, roots=(WantedRoot(root),))
    assert case.content is not None
    decision = judge(policy_for_flags(wanted), case, artifact=Artifact.of_content(case.content))
    assert isinstance(decision.tree, Met)
    assert requirement_for_flags(wanted) == policy_for_flags(wanted).rules[0].require


def test_flags_name_the_identity_that_signed_instead():
    sim = Simulator(change=dict(SIGNED))
    root = parse_trusted_root(sim.root(), "ours", HERE, limits.DEFAULT)
    texts = (WantedText("--certificate-identity", "other@x.example"), WantedText("--certificate-oidc-issuer", ISSUER))
    wanted = Wanted(WantedIdentity(*texts), KEYLESS_DEMANDS, roots=(WantedRoot(root),))
    decision = judge(policy_for_flags(wanted), sim.make())
    assert code(decision) == WrongIdentity.code
    assert f"identity {SUBJECT} of {ISSUER}" in decision.reasons[0].got


WITNESSES = tuple(generate("ed25519") for _ in range(3))
NAMES = ("w0.example", "w1.example", "w2.example")
WITNESS_KEYS = tuple(encode_note_key(name, COSIGNATURE_TYPE, key.public) for name, key in zip(NAMES, WITNESSES, strict=True))


def cosigned(*numbers: int, over=lambda text: text):
    """Return a change of the log's notes: witnesses add their lines."""

    def change(note: str) -> str:
        text = over(note[: note.index("\n\n") + 1])
        for number in numbers:
            key_id = key_id_of(NAMES[number], COSIGNATURE_TYPE, WITNESSES[number].public.spki[-32:])
            signature = WITNESSES[number].sign(f"cosignature/v1\ntime 1700000000\n{text}".encode())
            note += encode_line(NAMES[number], key_id, (1_700_000_000).to_bytes(8, "big") + signature)
        return note

    return change


def witnessed(change, at_least: int | None = None, witnesses=WITNESS_KEYS):
    sim = Simulator(change=dict(SIGNED))
    sim.log2.change["note"] = change
    wanted = f"atLeast: {at_least}, " if at_least is not None else ""
    policy = by_authority(f"{{identity: {WHO}, trustedRoot: ours, witnesses: {{{wanted}of: [{', '.join(witnesses)}]}}}}", sim)
    return judge(policy, sim.make(logs=("v2",)))


@pytest.mark.attack("split view")
def test_k_of_n_witnesses_must_have_signed_the_tree():
    assert isinstance(witnessed(cosigned(0, 2), 2), Allow)
    assert isinstance(witnessed(cosigned(0, 1, 2)), Allow)
    for change, at_least in ((cosigned(1), 2), (cosigned(), 1), (cosigned(0, 1), None)):
        assert code(witnessed(change, at_least)) == NotWitnessed.code


def test_the_advice_about_witnesses_is_valid_policy():
    for change, at_least, enough in ((cosigned(1), 2, "`atLeast: 1` of the `witnesses`"), (cosigned(), 1, "no `witnesses`")):
        decision = witnessed(change, at_least)
        assert isinstance(decision, Deny)
        told = json.dumps(json.loads(encode_json(encode_decision(decision))))
        assert enough in told
        assert f"{at_least} of the policy's witnesses" in told


def test_one_witness_counts_once_and_strangers_never():
    assert code(witnessed(cosigned(0, 0), 2)) == NotWitnessed.code
    assert code(witnessed(cosigned(0, 1, 2), 1, witnesses=(OTHER_WITNESS,))) == NotWitnessed.code


OTHER_WITNESS = encode_note_key("w0.example", COSIGNATURE_TYPE, generate("ed25519").public)


def test_a_witness_whose_line_is_of_another_tree_refuses_the_evidence():
    assert isinstance(witnessed(cosigned(0, 1, over=lambda text: f"{text}more\n"), 1), Deny)


def test_who_witnessed_stands_in_the_decision_and_is_read_back():
    decision = witnessed(cosigned(0, 2), 2)
    (inclusion,) = decision.facts[0].inclusions
    assert [witness.partition("+")[0] for witness in inclusion.witnesses] == ["w0.example", "w2.example"]
    document = json.loads(encode_json(encode_facts(decision.facts[0])))
    assert document["inclusions"][0]["witnesses"] == list(inclusion.witnesses)
    assert parse_record(encode_json(encode_decision(decision)), HERE).facts == decision.facts
    assert not any("cosignature" in item.what for item in decision.facts[0].unchecked)
