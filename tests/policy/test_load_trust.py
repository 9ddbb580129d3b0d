"""What a policy says of keys, roots, authorities and identities is read in one way, or refused with its line, column and caret."""

import re
from pathlib import Path

import pytest

from sigkit import limits
from sigkit.clock import SystemClock
from sigkit.digest import Digest
from sigkit.errors import (
    FileUnreadable,
    MalformedExpression,
    MalformedKey,
    MalformedOption,
    MalformedPolicy,
    MalformedTrustedRoot,
    Place,
    SameIdentityTwice,
    SameKeyTwice,
    SigkitError,
    TooLarge,
)
from sigkit.keys.private import generate
from sigkit.policy.identity import AnyText, Exactly, Expression
from sigkit.policy.load import load_policy, parse_policy
from sigkit.policy.model import KEYLESS_DEMANDS, NO_DEMANDS, AttestationRequirement, Demands, IdentityRequirement, KeyRequirement
from sigkit.tlog.cosignature import COSIGNATURE_TYPE
from sigkit.trust.bundled import load_public_good
from sigkit.trust.pins import Pins
from sigkit.trust.store import RootStore
from tests.simulators import verdicts
from tests.simulators.identities import chain_pem
from tests.simulators.note_keys import encode_note_key

PUBLIC_GOOD = (Path(__file__).resolve().parents[2] / "sigkit/trust/public_good.json").read_bytes()
OTHER_ROOT = PUBLIC_GOOD + b"\n"
HEAD = "apiVersion: sigkit.dev/v1alpha1\nkind: Policy\nkeys: {a: {file: a.pub}, b: {file: b.pub}}\n"
WHO = "{issuer: https://issuer.example, subject: x@y.example}"
RULE = "rules:\n  - images: reg.example/app\n    require: "
CHAIN = chain_pem("issuing", "anchor")
FILES = {
    "root.json": OTHER_ROOT,
    "broken.json": b"{}",
    "chain.pem": CHAIN,
    "reversed.pem": b"".join(reversed(re.findall(rb"-----BEGIN.+?END CERTIFICATE-----\n", CHAIN, re.DOTALL))),
    "leaf.pem": chain_pem("leaf", "anchor"),
    "big.pub": b"#" * (limits.KEY_FILE_BYTES + 1),
}


def read(name: str) -> bytes:
    if name == "nosuch":
        raise FileUnreadable("no such file", place=Place.operator(name))
    return FILES[name] if name in FILES else verdicts.read_key(name)


def load(text: str):
    return parse_policy(f"{HEAD}{text}".encode(), Place.operator("policy.yaml"), read)


def required(require: str, before: str = ""):
    return load(f"{before}{RULE}{require}\n").rules[0].require


def refused(text: str) -> SigkitError:
    with pytest.raises(SigkitError) as caught:
        load(text)
    assert caught.value.status() == 2
    return caught.value


def caret(err: SigkitError) -> str:
    line, below = err.__notes__[0].splitlines()
    return line[below.index("^") :]


def test_an_identity_in_a_rule_is_certified_by_the_public_good_instance_and_logged():
    found = required(f"{{identity: {WHO}}}")
    assert isinstance(found, IdentityRequirement)
    assert (found.identity.issuer, found.identity.subject) == (Exactly("https://issuer.example"), Exactly("x@y.example"))
    assert found.demands == KEYLESS_DEMANDS
    digest = load_public_good().digest
    assert (found.anchor.name, found.anchor.authorities, found.anchor.logs) == ("public-good", digest, digest)


def test_expressions_kinds_and_extensions_are_read():
    extensions = "{buildTrigger: push, tokenSubject: {regExp: 'repo:.+'}}"
    who = f"{{issuerRegExp: 'https://[a-z]+', subjectRegExp: '.+', subjectKind: uri, extensions: {extensions}}}"
    found = required(f"{{identity: {who}}}")
    assert found.identity.issuer == Expression("https://[a-z]+")
    assert found.identity.kind == "uri"
    assert found.identity.extensions == {"buildTrigger": Exactly("push"), "tokenSubject": Expression("repo:.+")}


def test_an_authority_stands_in_several_rules_with_its_demands():
    before = f"authorities:\n  ci: {{identity: {WHO}, logEntries: 2, logInclusions: 1, timestamps: 3, certificateLogs: 0}}\n"
    found = load(f"{before}{RULE}{{authority: ci}}\n  - images: other.example/x\n    require: {{authority: ci}}\n")
    assert found.rules[0].require == found.rules[1].require
    assert found.rules[0].require.demands == Demands(2, 1, 3, 0)
    assert found.rules[0].require.label == "ci"


def test_a_key_authority_asks_for_what_it_says_and_nothing_else():
    assert required("{authority: r}", "authorities: {r: {key: a}}\n").demands == NO_DEMANDS
    found = required("{authority: r}", "authorities: {r: {key: a, timestamps: 1}}\n")
    assert isinstance(found, KeyRequirement)
    assert found.demands == Demands(timestamps=1)
    assert found.anchor is not None
    assert found.anchor.logs == load_public_good().digest


def test_a_policy_hands_on_the_roots_on_which_its_rules_count_and_no_other():
    before = "trustedRoots: {ours: {file: root.json}}\nauthorities:\n"
    ours = f"  ours: {{identity: {WHO}, trustedRoot: ours}}\n  rest: {{identity: {WHO}}}\n"
    found = load(f"{before}{ours}{RULE}{{authority: ours}}\n")
    assert [root.certificate_authorities[0].source.digest for root in found.roots] == [Digest.of(OTHER_ROOT)]
    assert found.roots[0].keys == found.keys
    assert found.unnamed == ("key `a`", "key `b`", "authority `rest`")
    both = load(f"{before}{ours}{RULE}{{anyOf: [{{authority: ours}}, {{authority: rest}}]}}\n")
    assert len(both.roots) == 2
    (keys_alone,) = load(f"{before}{ours}{RULE}{{key: a}}\n").roots
    assert keys_alone.certificate_authorities == ()


def test_a_file_may_take_the_name_of_the_public_good_instance():
    found = required(f"{{identity: {WHO}}}", "trustedRoots: {public-good: {file: root.json}}\n")
    assert found.anchor.authorities == Digest.of(OTHER_ROOT)


def test_an_authority_of_ones_own_needs_no_issuer_and_brings_its_own_certificates():
    authority = "{identity: {subject: x@y.example}, certificateAuthority: pki}"
    before = f"certificateAuthorities: {{pki: {{file: chain.pem}}}}\nauthorities: {{r: {authority}}}\n"
    found = load(f"{before}{RULE}{{authority: r}}\n")
    require = found.rules[0].require
    assert require.identity.issuer == AnyText()
    assert require.demands == NO_DEMANDS
    assert require.anchor.authorities == Digest.of(FILES["chain.pem"])
    assert require.anchor.logs == load_public_good().digest
    (root,) = found.roots
    assert [authority.name for authority in root.certificate_authorities] == ["pki"]
    assert root.logs == load_public_good().logs


def test_attestations_take_cosigns_names_and_uris():
    found = required("{attestation: {type: spdxjson, by: {key: a}}}")
    assert isinstance(found, AttestationRequirement)
    assert found.predicate_type == "https://spdx.dev/Document"
    assert required("{attestation: {type: 'https://x.example/y', by: {key: a}}}").predicate_type == "https://x.example/y"


@pytest.mark.parametrize("field", ["trustedRoots", "certificateAuthorities"])
def test_another_file_is_another_policy(field):
    name = {"trustedRoots": "root.json", "certificateAuthorities": "chain.pem"}[field]
    beside = {"trustedRoots": "trustedRoot: r", "certificateAuthorities": "certificateAuthority: r"}[field]
    text = f"{field}: {{r: {{file: {name}}}}}\nauthorities: {{x: {{identity: {WHO}, {beside}}}}}\n{RULE}{{authority: x}}\n"
    before = load(text).digest
    kept = FILES[name]
    FILES[name] = OTHER_ROOT + b"\n" if field == "trustedRoots" else chain_pem("another", "anchor")
    try:
        assert load(text).digest != before
    finally:
        FILES[name] = kept
    assert load(text).digest == before


@pytest.mark.parametrize(
    ("text", "expected", "at"),
    [
        pytest.param(f"{RULE}{{identity: {{subject: x@y.example}}}}", MalformedPolicy, "{subject", id="no-issuer"),
        pytest.param(f"{RULE}{{identity: {{issuer: x}}}}", MalformedPolicy, "{issuer", id="no-subject"),
        pytest.param(
            f"{RULE}{{identity: {{issuer: x, subject: y, subjectRegExp: z}}}}", MalformedPolicy, "{issuer", id="exact-and-expression"
        ),
        pytest.param(f"{RULE}{{identity: {{issuer: x, subject: y, subjectRegexp: z}}}}", MalformedPolicy, "subjectRegexp", id="misspelt"),
        pytest.param(f"{RULE}{{identity: {{issuer: x, subjectRegExp: 'a(b'}}}}", MalformedExpression, "(b'", id="expression"),
        pytest.param(f"{RULE}{{identity: {{issuer: x, subjectRegExp: a**}}}}", MalformedExpression, "**}", id="expression-in-plain-text"),
        pytest.param(
            f'{RULE}{{identity: {{issuer: x, subjectRegExp: "a\\\\.(b"}}}}', MalformedExpression, '(b"', id="expression-in-double-quotes"
        ),
        pytest.param(
            f"{RULE}{{identity: {{issuer: x, subjectRegExp: 'it''s(b'}}}}", MalformedExpression, "(b'", id="expression-with-a-quote"
        ),
        pytest.param(f"{RULE}{{identity: {{issuer: x, subject: y, subjectKind: mail}}}}", MalformedPolicy, "mail", id="kind"),
        pytest.param(f"{RULE}{{identity: {{issuer: x, subject: y, extensions: {{}}}}}}", MalformedPolicy, "{}", id="no-extension"),
        pytest.param(
            f"{RULE}{{identity: {{issuer: x, subject: y, extensions: {{buildtrigger: z}}}}}}",
            MalformedPolicy,
            "buildtrigger",
            id="extension",
        ),
        pytest.param(
            f"{RULE}{{identity: {{issuer: x, subject: y, extensions: {{issuer: z}}}}}}", MalformedPolicy, "issuer: z", id="issuer-twice"
        ),
        pytest.param(
            f"{RULE}{{identity: {{issuer: x, subject: y, extensions: {{buildTrigger: {{exact: z}}}}}}}}",
            MalformedPolicy,
            "exact",
            id="extension-form",
        ),
        pytest.param(f"{RULE}{{authority: nosuch}}", MalformedPolicy, "nosuch", id="no-such-authority"),
        pytest.param(f"authorities: {{}}\n{RULE}{{key: a}}", MalformedPolicy, "{}", id="no-authorities"),
        pytest.param(f"authorities: {{x: {{key: a, identity: {WHO}}}}}\n{RULE}{{key: a}}", MalformedPolicy, "{key", id="key-and-identity"),
        pytest.param(f"authorities: {{x: {{logEntries: 1}}}}\n{RULE}{{key: a}}", MalformedPolicy, "{logEntries", id="nobody"),
        pytest.param(f"authorities: {{x: {{key: a, logEntries: 33}}}}\n{RULE}{{key: a}}", MalformedPolicy, "33", id="too-many-logs"),
        pytest.param(f"authorities: {{x: {{key: a, logEntries: -1}}}}\n{RULE}{{key: a}}", MalformedPolicy, "-1", id="negative"),
        pytest.param(f"authorities: {{x: {{key: a, logEntries: yes}}}}\n{RULE}{{key: a}}", MalformedPolicy, "yes", id="no-number"),
        pytest.param(
            f"authorities: {{x: {{key: a, certificateLogs: 1}}}}\n{RULE}{{key: a}}", MalformedPolicy, "1}", id="key-in-a-certificate-log"
        ),
        pytest.param(
            f"authorities: {{x: {{key: a, trustedRoot: public-good}}}}\n{RULE}{{key: a}}",
            MalformedPolicy,
            "public-good",
            id="root-for-nothing",
        ),
        pytest.param(
            f"authorities: {{x: {{key: a, timestamps: 1, trustedRoot: no}}}}\n{RULE}{{key: a}}", MalformedPolicy, "no}", id="no-such-root"
        ),
        pytest.param(
            f"authorities: {{x: {{key: a, certificateAuthority: no}}}}\n{RULE}{{key: a}}", MalformedPolicy, "no}", id="key-of-an-authority"
        ),
        pytest.param(
            f"authorities: {{x: {{identity: {WHO}, certificateAuthority: no}}}}\n{RULE}{{key: a}}", MalformedPolicy, "no}", id="no-such-ca"
        ),
        pytest.param(
            f"certificateAuthorities: {{p: {{file: chain.pem}}}}\n"
            f"authorities: {{x: {{identity: {WHO}, certificateAuthority: p, trustedRoot: public-good}}}}\n{RULE}{{key: a}}",
            MalformedPolicy,
            "p,",
            id="two-anchors",
        ),
        pytest.param(f"authorities: {{'x y': {{key: a}}}}\n{RULE}{{key: a}}", MalformedPolicy, "{key", id="name"),
        pytest.param(f"trustedRoots: {{r: {{file: broken.json}}}}\n{RULE}{{key: a}}", SigkitError, "broken.json", id="broken-root"),
        pytest.param(f"trustedRoots: {{r: {{file: nosuch}}}}\n{RULE}{{key: a}}", FileUnreadable, "nosuch", id="no-root-file"),
        pytest.param(f"trustedRoots: {{r: {{url: 'https://x'}}}}\n{RULE}{{key: a}}", MalformedPolicy, "url", id="root-by-url"),
        pytest.param(f"trustedRoots: {{r: {{}}}}\n{RULE}{{key: a}}", MalformedPolicy, "{}", id="root-of-nothing"),
        pytest.param(
            f"certificateAuthorities: {{r: {{file: reversed.pem}}}}\n{RULE}{{key: a}}",
            MalformedTrustedRoot,
            "reversed.pem",
            id="reversed-chain",
        ),
        pytest.param(
            f"certificateAuthorities: {{r: {{file: leaf.pem}}}}\n{RULE}{{key: a}}", MalformedTrustedRoot, "leaf.pem", id="leaf-in-chain"
        ),
        pytest.param(
            f"certificateAuthorities: {{r: {{file: root.json}}}}\n{RULE}{{key: a}}", MalformedTrustedRoot, "root.json", id="no-pem"
        ),
        pytest.param(
            f"certificateAuthorities: {{r: {{trustedRoot: public-good}}}}\n{RULE}{{key: a}}",
            MalformedPolicy,
            "{trustedRoot",
            id="chain-of-nothing",
        ),
        pytest.param(f"{RULE}{{attestation: {{type: nosuch, by: {{key: a}}}}}}", MalformedPolicy, "nosuch", id="type"),
        pytest.param(
            f"{RULE}{{attestation: {{type: 'https://sigstore.dev/cosign/sign/v1', by: {{key: a}}}}}}",
            MalformedPolicy,
            "'https",
            id="type-of-signatures",
        ),
        pytest.param(f"{RULE}{{attestation: {{type: vuln}}}}", MalformedPolicy, "{type", id="attestation-by-nobody"),
        pytest.param(
            f"{RULE}{{attestation: {{type: vuln, by: {{attestation: {{type: vuln, by: {{key: a}}}}}}}}}}",
            MalformedPolicy,
            "{attestation",
            id="attestation-in-attestation",
        ),
        pytest.param(f"{RULE}{{anyOf: [{{identity: {WHO}}}, {{identity: {WHO}}}]}}", SameIdentityTwice, "{identity", id="identity-twice"),
        pytest.param(
            f"{RULE}{{atLeast: {{n: 1, of: [{{identity: {WHO}}}, {{anyOf: [{{key: a}}, {{identity: {WHO}}}]}}]}}}}",
            SameIdentityTwice,
            "{anyOf",
            id="identity-twice-in-a-threshold",
        ),
        pytest.param(
            f"{RULE}{{atLeast: {{n: 1, of: [{{key: a}}, {{attestation: {{type: vuln, by: {{key: a}}}}}}]}}}}",
            SameKeyTwice,
            "{attestation",
            id="key-twice-in-a-threshold",
        ),
        pytest.param(
            f"{RULE}{{atLeast: {{n: 1, of: [{{key: a}}, {{allOf: [{{identity: {WHO}}}, {{key: b}}]}}]}}}}",
            MalformedPolicy,
            "{allOf",
            id="several-with-an-identity",
        ),
        pytest.param(
            f"{RULE}{{atLeast: {{n: 1, of: [{{key: a}}, {{attestation: {{type: vuln, by: {{allOf: [{{identity: {WHO}}}]}}}}}}]}}}}",
            MalformedPolicy,
            "{attestation",
            id="several-in-an-attestation",
        ),
        pytest.param(
            f"trustedRoots: {{r: {{file: root.json}}}}\nauthorities: {{x: {{identity: {WHO}, trustedRoot: r}}}}\n"
            f"{RULE}{{atLeast: {{n: 1, of: [{{identity: {WHO}}}, {{authority: x}}]}}}}",
            SameIdentityTwice,
            "{authority",
            id="identity-twice-by-two-roots",
        ),
        pytest.param(f"{RULE}{{key: a}}\n    annotations: {{}}", MalformedPolicy, "{}", id="no-annotations"),
        pytest.param(f"{RULE}{{key: a}}\n    annotations: [x]", MalformedPolicy, "[x]", id="annotations-as-a-list"),
    ],
)
def test_what_could_mean_two_things_or_nothing_is_refused_where_it_stands(text, expected, at):
    err = refused(f"{text}\n")
    assert isinstance(err, expected)
    assert caret(err).startswith(at)


def test_a_key_file_has_a_limit_of_its_own():
    with pytest.raises(TooLarge) as caught:
        parse_policy(HEAD.replace("a.pub", "big.pub").encode() + f"{RULE}{{key: b}}\n".encode(), Place.operator("p"), read)
    assert caret(caught.value).startswith("big.pub")


def test_a_key_and_an_attestation_by_it_may_stand_in_one_list():
    assert required("{allOf: [{key: a}, {attestation: {type: vuln, by: {key: a}}}]}").of[1].by.key.name == "a"


def test_files_lie_beside_the_policy(tmp_path):
    for name in ("root.json", "chain.pem"):
        (tmp_path / name).write_bytes(FILES[name])
    text = (
        f"apiVersion: sigkit.dev/v1alpha1\nkind: Policy\ntrustedRoots: {{r: {{file: root.json}}}}\n"
        f"certificateAuthorities: {{c: {{file: chain.pem, trustedRoot: r}}}}\n"
        f"authorities: {{x: {{identity: {WHO}, certificateAuthority: c}}}}\n{RULE}{{authority: x}}\n"
    )
    (tmp_path / "policy.yaml").write_text(text)
    require = load_policy(tmp_path / "policy.yaml").rules[0].require
    assert isinstance(require, IdentityRequirement)
    assert require.anchor.logs == Digest.of(OTHER_ROOT)
    (tmp_path / "root.json").unlink()
    with pytest.raises(FileUnreadable) as caught:
        load_policy(tmp_path / "policy.yaml")
    assert caught.value.place.inside.startswith("3:")
    assert "relative to the policy file" in caught.value.remedy


@pytest.mark.attack("an age that nobody knows")
@pytest.mark.parametrize("limit", ["maxAge: 0d", "maxAge: 30d", "maxExpired: 1d"])
def test_no_limit_is_set_to_the_age_of_a_file_that_was_pinned(tmp_path, limit):
    roots = RootStore(Pins(str(tmp_path / "trust")), SystemClock(), None)
    roots.pin_trusted_root("plain", PUBLIC_GOOD, Place("test"))
    require = f"authorities: {{x: {{identity: {WHO}, trustedRoot: r}}}}\n{RULE}{{authority: x}}\n"

    def parse(text):
        return parse_policy(f"{HEAD}{text}".encode(), Place.operator("policy.yaml"), read, roots)

    assert parse(f"trustedRoots: {{r: {{pinned: plain}}}}\n{require}")
    with pytest.raises(MalformedOption) as caught:
        parse(f"trustedRoots: {{r: {{pinned: plain, {limit}}}}}\n{require}")
    assert caught.value.status() == 2
    assert caught.value.place.inside.startswith("4:")


WITNESS = encode_note_key("w.example", COSIGNATURE_TYPE, generate("ed25519").public)
SAME_KEY = generate("ed25519").public
TWICE = ", ".join(encode_note_key(name, COSIGNATURE_TYPE, SAME_KEY) for name in ("a.example", "b.example"))


def test_witnesses_are_counted_all_or_as_many_as_are_asked_for():
    for wanted, number in (("", 1), ("atLeast: 1, ", 1)):
        found = required("{authority: r}", f"authorities: {{r: {{key: a, witnesses: {{{wanted}of: [{WITNESS}]}}}}}}\n")
        assert found.demands.witnesses == number
        assert [witness.name for witness in found.demands.witnessed_by] == ["w.example"]


@pytest.mark.parametrize(
    ("witnesses", "refusal"),
    [
        pytest.param(f"{{of: [{WITNESS}], atLeast: 2}}", MalformedPolicy, id="more than there are"),
        pytest.param(f"{{of: [{WITNESS}], atLeast: 0}}", MalformedPolicy, id="none of them"),
        pytest.param("{of: []}", MalformedPolicy, id="an empty list"),
        pytest.param("{atLeast: 1}", MalformedPolicy, id="no list"),
        pytest.param("{of: [junk]}", MalformedKey, id="no key"),
        pytest.param(f"{{of: [{encode_note_key('l.example', 1, SAME_KEY)}]}}", MalformedKey, id="a log's key"),
        pytest.param(f"{{of: [{TWICE}]}}", SameKeyTwice, id="one key under two names"),
    ],
)
def test_witnesses_that_cannot_be_meant_are_refused(witnesses, refusal):
    with pytest.raises(refusal) as caught:
        required("{authority: r}", f"authorities: {{r: {{key: a, witnesses: {witnesses}}}}}\n")
    assert caught.value.status() == 2
