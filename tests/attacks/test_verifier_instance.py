"""Attacks on certificates, log entries and timestamps: on good evidence of a simulated instance, changed where the attack does."""

from __future__ import annotations

import base64
import copy
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from sigkit import limits
from sigkit.cli.conformance import run
from sigkit.errors import (
    AmbiguousIdentity,
    BadInclusionProof,
    BadPromise,
    BadSct,
    BadTimestamp,
    DigestNotCompared,
    MalformedCertificate,
    MalformedCheckpoint,
    NoAttestedTime,
    OtherArtifact,
    OtherEntry,
    OutsideAuthority,
    OutsideCertificate,
    Place,
    TimeInFuture,
    TooLarge,
    UntrustedCertificate,
    WrongShape,
)
from sigkit.policy.decide import decide_blob
from sigkit.policy.flags import Wanted, WantedIdentity, WantedRoot, WantedText, requirement_for_flags, signed_or_attested
from sigkit.policy.model import Demands
from sigkit.trust.trusted_root import parse_trusted_root
from sigkit.verify.bind import Artifact
from sigkit.verify.facts import TimeKind
from tests.simulators import der
from tests.simulators.sigstore import FILE, Simulator
from tests.simulators.sigstore_authorities import (
    DAY,
    ISSUER,
    SUBJECT,
    Link,
    Tsa,
    certify,
    certify_authority,
    key_usage,
    new_key,
)
from tests.simulators.sigstore_logs import b64

CHAIN_PART = "dev.sigstore.cosign/chain"
PROMISE_PART = "dev.sigstore.cosign/bundle"
# Every way on which a log entry comes beside a signature: the form, and the kind of the entry.
PATHS = [
    *(("dsse", kind) for kind in ("dsse", "intoto", "v2")),
    *(("message", kind) for kind in ("hashedrekord", "rekord", "v2")),
    ("simple", "hashedrekord"),
    ("simple", "rekord"),
    ("att", "dsse"),
    ("att", "intoto"),
    ("blob", "hashedrekord"),
]
every_path = pytest.mark.parametrize(("form", "kind"), PATHS, ids=["-".join(path) for path in PATHS])
by_both = pytest.mark.parametrize("by", ["identity", "key"])


@pytest.fixture
def sim() -> Simulator:
    return Simulator()


def refused(case, error):
    with pytest.raises(error) as caught:
        case.judge()
    return caught.value


def material(case):
    return json.loads(case.parts["bundle"])["verificationMaterial"]


def with_entry_of(case, other):
    """Give the evidence the log entry of other evidence."""
    if case.form != "bundle":
        return replace(case, parts={**case.parts, PROMISE_PART: other.parts[PROMISE_PART]})
    return case.with_bundle(lambda bundle: bundle["verificationMaterial"].update(tlogEntries=material(other)["tlogEntries"]))


def with_timestamps(case, *stamps):
    signed = [{"signedTimestamp": b64(stamp)} for stamp in stamps]
    return case.with_bundle(lambda bundle: bundle["verificationMaterial"].update(timestampVerificationData={"rfc3161Timestamps": signed}))


def signature_of(case):
    bundle = json.loads(case.parts["bundle"])
    if "messageSignature" in bundle:
        return base64.b64decode(bundle["messageSignature"]["signature"])
    return base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])


def entries_changed(case, change):
    return case.with_bundle(lambda bundle: [change(entry) for entry in bundle["verificationMaterial"]["tlogEntries"]])


@pytest.mark.attack("CVE-2022-23649")
@by_both
@every_path
def test_a_genuine_entry_of_another_signature_by_the_same_key_is_refused_as_BIND(sim, form, kind, by):
    other = sim.make(form, (kind,), by)
    refused(with_entry_of(sim.make(form, (kind,), by), other), OtherEntry)


@pytest.mark.attack("CVE-2026-22703")
@by_both
@every_path
def test_a_genuine_entry_of_the_same_identity_s_other_key_is_refused_as_BIND(sim, form, kind, by):
    other = sim.make(form, (kind,), by)
    sim.key = new_key()
    refused(with_entry_of(sim.make(form, (kind,), by), other), OtherEntry)


@pytest.mark.attack("CVE-2026-22703")
@every_path
def test_an_entry_that_names_another_certificate_for_the_same_key_is_refused_as_BIND(sim, form, kind):
    other = sim.ca.issue(sim.key).public_bytes(serialization.Encoding.PEM)
    sim.change["verifier"] = lambda _: other
    refused(sim.make(form, (kind,)), OtherEntry)


@pytest.mark.attack("CVE-2024-51746")
@pytest.mark.parametrize("kind", ["dsse", "intoto", "v2"])
def test_of_several_entries_by_one_key_each_must_be_of_this_signature(sim, kind):
    first, second = sim.make("dsse", (kind,)), sim.make("dsse", (kind,))
    both = material(second)["tlogEntries"] + material(first)["tlogEntries"]
    for order in (both, both[::-1]):
        refused(second.with_bundle(lambda bundle, order=order: bundle["verificationMaterial"].update(tlogEntries=order)), OtherEntry)


@pytest.mark.attack("sigstore-rust#160")
@by_both
@pytest.mark.parametrize("form", ["dsse", "message"])
def test_an_entry_is_bound_even_where_another_time_is_enough_and_nobody_demands_a_log(sim, form, by):
    """A timestamp is there, and verification demands no log: a foreign entry is refused all the same."""
    sim.make(form, (), by).judge()
    refused(with_entry_of(sim.make(form, ("v2",), by), sim.make(form, ("v2",), by)), OtherEntry)


@pytest.fixture
def files(sim, tmp_path):
    """Return a function that writes a case to files and gives it to the command line, as the identity that signed it."""

    def judge(case, identity=SUBJECT, issuer=ISSUER):
        for name, content in (("bundle", case.parts["bundle"]), ("root", case.root), ("artifact", FILE)):
            (tmp_path / name).write_bytes(content)
        who = ["--certificate-identity", identity, "--certificate-oidc-issuer", issuer]
        words = ["--bundle", tmp_path / "bundle", "--trusted-root", tmp_path / "root", *who, tmp_path / "artifact"]
        return run(["verify-bundle", *map(str, words)])

    return judge


@pytest.mark.attack("CVE-2022-36056")
def test_the_four_variants_each_end_with_1(sim, files):
    sim.clock.now = datetime(2024, 1, 1, tzinfo=UTC)  # the command line has this machine's clock
    sim = Simulator(clock=sim.clock)
    good, other = sim.make("message", ("hashedrekord",)), sim.make("message", ("hashedrekord",))
    assert files(good) == 0
    assert files(with_entry_of(good, other)) == 1  # the log entry of another signature
    assert files(good, identity="somebody@else.example") == 1  # the identity is compared with a bundle too
    assert files(good, issuer="https://else.example") == 1
    assert files(entries_changed(good, lambda entry: entry["inclusionPromise"].update(signedEntryTimestamp=b64(b"0")))) == 1
    assert files(entries_changed(good, lambda entry: entry["kindVersion"].update(kind="unknown"))) == 1


@pytest.mark.attack("CVE-2026-44310")
@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_a_chain_without_certificates_is_refused_as_PARSE_and_ends_with_1(sim, files, version):
    case = sim.make("message", ("hashedrekord",), version=version)
    empty = case.with_bundle(lambda bundle: bundle["verificationMaterial"]["x509CertificateChain"].update(certificates=[]))
    refused(empty, WrongShape)
    assert files(empty) == 1


@pytest.mark.attack("CVE-2026-39984")
@pytest.mark.parametrize("order", [1, -1], ids=["forged first", "forged last"])
def test_a_token_is_verified_by_the_known_signer_and_not_by_a_certificate_in_its_bag(sim, order):
    forger = Tsa(sim.clock)
    case = sim.make("dsse", ("v2",))
    genuine = sim.tsa.leaf
    # The forger signs, names the genuine certificate, and brings both certificates along.
    sim.tsa.embedded = [forger.leaf.certificate, genuine.certificate][::order]
    sim.tsa.signers = lambda info: [der.signer_info(info, genuine.certificate, forger.leaf.key)]
    refused(with_timestamps(case, sim.tsa.stamp(signature_of(case))), BadTimestamp)
    sim.tsa.signers = lambda info: [der.signer_info(info, forger.leaf.certificate, forger.leaf.key)]
    refused(with_timestamps(case, sim.tsa.stamp(signature_of(case))), (BadTimestamp, NoAttestedTime))


@pytest.mark.attack("CVE-2025-52556")
def test_a_self_made_authority_of_the_same_name_is_refused_as_TIME(sim):
    case = sim.make("dsse", ("v2",))
    forger = Tsa(sim.clock)
    forger.embedded = [forger.leaf.certificate, forger.anchor.certificate]
    refused(with_timestamps(case, forger.stamp(signature_of(case))), NoAttestedTime)
    serial = sim.tsa.leaf.certificate.serial_number
    twin = certify("tsa", forger.leaf.key, forger.anchor, forger.valid, [], serial)
    forger.leaf = Link(twin, forger.leaf.key)  # same issuer, same serial number: it passes for the known signer
    forger.embedded = [twin]
    refused(with_timestamps(case, forger.stamp(signature_of(case))), BadTimestamp)


@pytest.mark.attack("timestamp-authority#1416")
def test_a_timestamp_by_a_certificate_that_is_an_authority_s_is_refused_as_TIME(sim):
    sim.tsa.more = [(x509.BasicConstraints(ca=True, path_length=None), True)]
    sim.tsa.certify(sim.clock.now + DAY)
    refused(sim.make("dsse", ("v2",)), BadTimestamp)


@pytest.mark.attack("CVE-2026-24122")
@every_path
def test_a_leaf_that_outlives_its_intermediate_is_refused_as_TIME(sim, form, kind):
    short = (sim.clock.now - DAY, sim.clock.now + timedelta(minutes=2))
    sim.ca.intermediate = certify_authority("short", sim.ca.anchor, short)
    sim.ca.lifetime = timedelta(days=30)
    sim.make(form, (kind,)).judge()
    # The certificate is of a time when its issuer was valid; the signature is not.
    issued = sim.ca.issue(sim.key)
    sim.clock.advance(180)
    sim.ca.issue = lambda _: issued
    refused(sim.make(form, (kind,)), OutsideCertificate)


@pytest.mark.attack("CVE-2026-54787")
@pytest.mark.parametrize("kind", ["dsse", "v2"])
@pytest.mark.parametrize("window", [(-3600, -60), (60, 3600)], ids=["before", "after"])
def test_a_signature_outside_the_key_s_window_is_refused_as_TIME(sim, kind, window):
    start, end = (sim.clock.now + timedelta(seconds=offset) for offset in window)
    sim.key_window = (start - DAY, end + DAY)
    sim.make("dsse", (kind,), "key").judge()
    sim.key_window = (start, end)
    refused(sim.make("dsse", (kind,), "key"), OutsideAuthority)


@pytest.mark.attack("CVE-2026-54787")
def test_a_key_with_a_window_is_not_trusted_where_nothing_says_when_it_signed(sim):
    sim.key_window = (sim.clock.now - DAY, sim.clock.now + DAY)
    case = sim.make("dsse", (), "key")
    refused(with_timestamps(case), NoAttestedTime)


@pytest.mark.attack("TOB-SIGSTORE-3")
def test_a_time_that_no_promise_signs_is_no_time(sim):
    """The log includes the entry, and the time beside it is invented."""
    case = with_timestamps(sim.make("dsse", ("dsse",)))
    refused(entries_changed(case, lambda entry: entry.pop("inclusionPromise")), NoAttestedTime)
    refused(entries_changed(case, lambda entry: entry.update(integratedTime=str(int(entry["integratedTime"]) - 1))), BadPromise)


@pytest.mark.attack("TOB-SIGSTORE-3")
def test_a_time_beside_an_entry_of_the_second_generation_is_no_time(sim):
    case = with_timestamps(sim.make("dsse", ("v2",)))
    now = str(int(sim.clock.now.timestamp()))
    refused(entries_changed(case, lambda entry: entry.update(integratedTime=now)), NoAttestedTime)


@pytest.mark.attack("TOB-SIGSTORE-4")
@pytest.mark.parametrize("order", [1, -1], ids=["good first", "good last"])
def test_a_good_time_does_not_hide_one_that_does_not_fit(sim, order):
    case = sim.make("dsse", ("v2",))
    good, again = sim.tsa.stamp(signature_of(case)), sim.tsa.stamp(signature_of(case))
    sim.clock.advance(-86400)
    backdated = sim.tsa.stamp(signature_of(case))
    with_timestamps(case, good, again).judge()
    refused(with_timestamps(case, *[good, backdated][::order]), OutsideCertificate)


@pytest.mark.attack("TOB-SIGSTORE-4")
@pytest.mark.parametrize("order", [1, -1], ids=["good first", "good last"])
def test_a_good_timestamp_does_not_hide_a_bad_one_of_a_known_authority(sim, order):
    case = sim.make("dsse", ("v2",))
    stamps = [sim.tsa.stamp(signature_of(case)), sim.tsa.stamp(b"another signature")]
    refused(with_timestamps(case, *stamps[::order]), BadTimestamp)


def two_authorities(sim, window):
    """List a second timestamp authority, which was in use in another window."""
    second = Tsa(sim.clock)
    second.window = window
    sim.change["root"] = lambda root: {**root, "timestampAuthorities": [*root["timestampAuthorities"], second.trusted()]}
    return second


@pytest.mark.attack("TOB-SIGSTORE-11")
def test_a_retired_authority_s_token_is_not_judged_by_the_window_of_another(sim):
    retired = two_authorities(sim, ("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"))
    case = sim.make("dsse", ("v2",))
    case.judge()
    refused(with_timestamps(case, retired.stamp(signature_of(case))), OutsideAuthority)


@pytest.mark.attack("TOB-SIGSTORE-7")
@pytest.mark.parametrize("kind", ["dsse", "v2"])
@pytest.mark.parametrize("ahead", [1, 30, 3600])
def test_a_time_that_has_not_come_is_refused_as_TIME(sim, kind, ahead):
    case = sim.make("dsse", (kind,))
    replace(case, now=sim.clock.now).judge()
    refused(replace(case, now=sim.clock.now - timedelta(seconds=ahead)), TimeInFuture)


@pytest.mark.attack("sigstore-rust#108")
@pytest.mark.parametrize("number", [8, 9, 12, 24])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"https://issuer.example", id="not DER"),
        pytest.param(b"\x0c\x05https", id="good, for the comparison"),
        pytest.param(b"\x0c\x06https", id="too long"),
        pytest.param(b"\x0c\x04https", id="trailing"),
        pytest.param(b"\x0c\x81\x05https", id="not DER's length"),
        pytest.param(b"\x0c\x80https\0\0", id="indefinite"),
        pytest.param(b"\x16\x05https", id="another type"),
        pytest.param(b"\x0c\x85\xff\xff\xff\xff\xffhttps", id="a length of five bytes"),
    ],
)
def test_an_extension_of_a_known_number_that_is_malformed_is_refused(sim, number, content):
    sim.ca.extensions = {number: content}
    if content == b"\x0c\x05https":
        assert "https" in sim.make("dsse", ("v2",)).judge().signer.signer.extensions.values()
    else:
        refused(sim.make("dsse", ("v2",)), MalformedCertificate)


@pytest.mark.attack("sigstore-rust#154")
@pytest.mark.parametrize("order", [1, -1], ids=["twin last", "twin first"])
def test_the_issuer_of_an_sct_is_the_one_that_was_verified_not_one_of_its_name(sim, order):
    twin = certify_authority("sim intermediate", sim.ca.anchor, (sim.clock.now - 9 * DAY, sim.clock.now + 9 * DAY))
    own = copy.copy(sim.ca)
    own.intermediate = twin
    sim.change["root"] = lambda root: {**root, "certificateAuthorities": [sim.ca.trusted(), own.trusted()][::order]}
    assert len(sim.make("dsse", ("v2",)).judge().certificate_logs) == 1
    # The log saw a certificate by the twin, and not this one.
    by_twin, genuine = own.intermediate.key.public_key(), sim.ct.promise
    other = by_twin.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    sim.ct.promise = lambda precertificate, _: genuine(precertificate, other)
    refused(sim.make("dsse", ("v2",)), BadSct)


@pytest.mark.attack("sigstore-go#609")
def test_a_statement_without_a_subject_is_about_nothing(sim):
    sim.change["statement"] = lambda statement: {**statement, "subject": []}
    refused(sim.make("dsse", ("v2",)), OtherArtifact)


@pytest.mark.attack("CVE-2023-25656")
def test_an_issuer_with_a_name_of_two_hundred_parts_is_refused_like_any_other(sim):
    long = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "=#" + "+" * 60)] * 200)
    builder = x509.CertificateBuilder().subject_name(long).issuer_name(long).public_key(sim.key.public_key()).serial_number(1)
    builder = builder.not_valid_before(sim.clock.now - DAY).not_valid_after(sim.clock.now + DAY)
    certificate = builder.sign(sim.key, hashes.SHA256())
    sim.ca.issue = lambda _: certificate
    for form, kind in PATHS:
        refused(sim.make(form, (kind,)), UntrustedCertificate)
    case, pem = sim.make("simple", ("hashedrekord",)), certificate.public_bytes(serialization.Encoding.PEM)
    refused(replace(case, parts={**case.parts, CHAIN_PART: pem * 200}), TooLarge)


@pytest.mark.attack("GHSA-m2h6-j472-rp4c")
@pytest.mark.parametrize(
    ("name", "error"),
    [
        pytest.param(x509.DNSName("ci.acme.example"), None, id="inside"),
        pytest.param(x509.DNSName("*.acme.example"), None, id="wildcard inside"),
        pytest.param(x509.DNSName("*.example"), UntrustedCertificate, id="wildcard outside"),
        pytest.param(x509.DNSName("ci.evil.example"), UntrustedCertificate, id="outside"),
    ],
)
def test_a_wildcard_does_not_escape_an_authority_s_name_constraint(sim, name, error):
    constraint = x509.NameConstraints([x509.DNSName("acme.example")], None)
    extensions = [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (key_usage("key_cert_sign"), True),
        (constraint, True),
    ]
    key = new_key()
    valid = (sim.clock.now - DAY, sim.clock.now + DAY)
    sim.ca.intermediate = Link(certify("constrained", key, sim.ca.anchor, valid, extensions), key)
    sim.ca.names = [name]
    case = sim.make("dsse", ("v2",))
    if error:
        refused(case, error)
    else:
        signer = case.judge().signer.signer
        assert (signer.kind, signer.subject) == ("dns", name.value)  # the text itself: a `*` is no pattern here


@pytest.mark.attack("sigstore-python#1826")
@pytest.mark.parametrize("kind", ["dsse", "v2"])
@pytest.mark.parametrize(
    "note",
    [
        pytest.param(lambda _: "\n\n", id="blank lines"),
        pytest.param(lambda note: note.replace("\n\n", "\n"), id="no blank line"),
        pytest.param(lambda note: note.rstrip("\n"), id="no newline"),
        pytest.param(lambda note: note + "junk\n", id="junk line"),
        pytest.param(lambda note: note + "\u2014 name !!!!\n", id="signature that is no base64"),
        pytest.param(lambda note: note + "\u2014 name AAAA\n", id="signature of three bytes"),
        pytest.param(lambda note: note.replace("\n8\n", "\n08\n"), id="leading zero"),
        pytest.param(lambda note: note.replace("\n8\n", "\n-8\n"), id="negative"),
        pytest.param(lambda note: note.replace("\n8\n", f"\n{10**30}\n"), id="huge"),
        pytest.param(lambda note: note.replace("\n", "\r\n"), id="carriage returns"),
        pytest.param(lambda note: "\0" + note, id="NUL"),
    ],
)
def test_a_checkpoint_that_is_junk_is_refused_and_raises_nothing_else(sim, kind, note):
    sim.log1.change["note"] = sim.log2.change["note"] = note
    refused(sim.make("dsse", (kind,)), MalformedCheckpoint)


def decide(case, entries):
    """Verify, and decide as the command for files does, with this many log entries demanded."""
    root = parse_trusted_root(case.root, "sim", Place("sim"), limits.DEFAULT)
    signer = WantedIdentity(WantedText("--certificate-identity", SUBJECT), WantedText("--certificate-oidc-issuer", ISSUER))
    require = signed_or_attested(requirement_for_flags(Wanted(signer, Demands(log_entries=entries), roots=(WantedRoot(root),))))
    facts = case.judge()
    return decide_blob((facts,), (), Artifact.of(facts.signature.artifact), require, case.now).exit_status()


@pytest.mark.attack("CVE-2026-49834")
@pytest.mark.parametrize("kind", ["dsse", "v2"])
def test_two_entries_in_one_log_are_one_log(sim, kind):
    case = sim.make("dsse", (kind, kind))
    assert len(case.judge().inclusions) == 2
    assert (decide(case, 1), decide(case, 2)) == (0, 1)
    refused(
        case.with_bundle(lambda bundle: bundle["verificationMaterial"]["tlogEntries"].__setitem__(1, material(case)["tlogEntries"][0])),
        WrongShape,
    )


@pytest.mark.attack("CVE-2026-49834")
def test_two_logs_of_one_operator_are_one_log(sim):
    case = sim.make("dsse", ("dsse", "v2"))
    assert (decide(case, 2), decide(case, 3)) == (0, 1)
    sim.log2.operator = sim.log1.operator
    assert decide(sim.make("dsse", ("dsse", "v2")), 2) == 1


@pytest.mark.attack("a log that was given up")
def test_a_log_that_was_given_up_proves_nothing_unless_a_time_within_its_window_is_attested(sim):
    def given_up(document):
        document["tlogs"][1]["publicKey"]["validFor"]["end"] = f"{sim.clock.now + DAY:%Y-%m-%dT%H:%M:%SZ}"
        return document

    sim.change["root"] = given_up
    timed = sim.make("dsse", ("v2",), "key")
    untimed = timed.with_bundle(lambda bundle: bundle["verificationMaterial"].pop("timestampVerificationData"))
    assert untimed.judge().inclusions
    later = untimed.now + 2 * DAY
    facts = replace(untimed, now=later).judge()
    assert not facts.inclusions
    assert [item.what for item in facts.unchecked] == ["inclusion in the log https://log2.example"]
    assert replace(timed, now=later).judge().inclusions


@pytest.mark.attack("sigstore-go#611")
def test_a_proof_beside_a_body_proves_the_evidence_and_not_the_body(sim):
    """The leaf is made of the evidence: a body that is left out hides nothing, and a proof of another leaf proves nothing."""
    case = sim.make("dsse", ("v2",))
    entries_changed(case, lambda entry: entry.pop("canonicalizedBody")).judge()
    other = material(sim.make("dsse", ("v2",)))["tlogEntries"][0]

    def foreign(entry):
        del entry["canonicalizedBody"]
        entry.update(inclusionProof=other["inclusionProof"], logIndex=other["logIndex"])

    refused(entries_changed(case, foreign), BadInclusionProof)


@pytest.mark.attack("two identities in a certificate")
@pytest.mark.parametrize(
    "names",
    [
        pytest.param([x509.UniformResourceIdentifier(SUBJECT), x509.RFC822Name("ci@acme.example")], id="two"),
        pytest.param([x509.UniformResourceIdentifier(SUBJECT)] * 2, id="the same twice"),
        pytest.param([x509.DirectoryName(x509.Name([]))], id="a name of a directory"),
        pytest.param([x509.OtherName(x509.ObjectIdentifier("1.2.3"), der.utf8("a"))], id="another name of an unknown kind"),
    ],
)
def test_a_certificate_that_does_not_name_one_identity_is_refused_as_IDENT(sim, names):
    sim.ca.names = names
    refused(sim.make("dsse", ("v2",)), AmbiguousIdentity)


def test_without_an_attack_each_path_proves_its_times(sim):
    for form, kind in PATHS:
        kinds = [time.kind for time in sim.make(form, (kind,)).judge().times]
        assert kinds == ([TimeKind.TIMESTAMP] if kind == "v2" else [TimeKind.TIMESTAMP, TimeKind.INTEGRATED])


@pytest.mark.parametrize("turn", [1, -1], ids=["first", "last"])
def test_a_key_that_signs_no_digest_does_not_stand_before_one_that_does(sim, turn):
    case = sim.make("message", (), "key")
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    other = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(*form)
    hintless = case.with_bundle(lambda bundle: bundle["verificationMaterial"].update(publicKey={}))
    assert replace(hintless, content=None, keys=(other, *case.keys)[::turn]).judge().signature.predicate_type is None
    refused(replace(hintless, content=None, keys=(other,)), DigestNotCompared)
