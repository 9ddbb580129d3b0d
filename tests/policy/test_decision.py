"""A decision is a versioned document: pinned, complete, and read back to the very same bytes."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigkit.digest import Digest
from sigkit.errors import BadSignature, ParseError, Place, SigkitError, UnsupportedKey
from sigkit.policy.decide import decide
from sigkit.policy.decision import Allow, Deny, Reason, Record, RefusedEvidence, Warn, encode_decision, encode_record, record_of
from sigkit.policy.record import parse_record
from sigkit.strict import encode_json
from sigkit.verify.facts import Facts, IdentitySigner, InclusionFact, SignerFact, Source, TimeFact, Unchecked
from tests.simulators.altered import altered
from tests.simulators.verdicts import IMAGE, NOW, facts, policy, private, request

GRANT = (
    "    run: {command: [[/bin/app, --x]], environment: [TZ], mounts: [{from: /srv, to: /data}], network: host, capabilities: [CHOWN], "
    "user: ['1000'], readOnly: true, memory: 64MiB, pids: 5, cpus: 0.5}\n"
)
RULES = "  - images: registry.example/acme/**\n    require: {atLeast: {n: 1, of: [{key: a}, {anyOf: [{key: b}]}]}}\n"
HERE = Place("somewhere", "$.x")


def full_facts() -> Facts:
    """Make facts with something in every place that the document has room for."""
    source = Source("root", Digest.of(b"root"), "log.example")
    identity = IdentitySigner("https://issuer.example", "ci@acme.example", {"sourceRepository": "https://git.example/acme/app"})
    return altered(
        facts("a"),
        signature=altered(facts("a").signature, annotations={"build": "7", "odd": "\x1b[2J\n\u202e"}),
        signer=SignerFact(identity, Source("root", Digest.of(b"root"), "ca.example")),
        inclusions=(InclusionFact("log.example", 27246492, source),),
        times=(TimeFact(NOW - timedelta(days=1, microseconds=7), "tsa.example", source),),
        unchecked=(Unchecked("timestamp 2", "unknown authority"),),
    )


def refused() -> RefusedEvidence:
    return RefusedEvidence(HERE, Reason.of_error(BadSignature("bad", place=HERE, expected="x", got="y", remedy="z")))


DECISIONS = {
    "allow": decide([facts("a"), full_facts()], [refused()], request(), policy(RULES + GRANT, "a", "b"), NOW),
    "warn": decide([full_facts()], [refused()], request(), policy(RULES + "    mode: warn\n", "a", "b"), NOW),
    "deny": decide([full_facts()], [refused()], request(), policy(RULES, "a", "b"), NOW),
    "no-rule": decide([], [], request("other.example/x@" + str(IMAGE)), policy(RULES, "a", "b"), NOW),
    "unverified": decide([], [], request(), policy("  - images: '**'\n    unverified: {reason: r}\n", "a"), NOW),
}


def test_the_examples_are_of_every_outcome():
    assert [type(decision) for decision in DECISIONS.values()] == [Allow, Warn, Deny, Deny, Allow]


@pytest.mark.parametrize("decision", DECISIONS.values(), ids=DECISIONS)
def test_a_decision_is_read_back_to_the_same_record_and_the_same_bytes(decision):
    raw = encode_json(encode_decision(decision))
    record = parse_record(raw, Place("stored"))
    assert encode_json(encode_record(record)) == raw
    assert record == parse_record(raw, Place("stored"))
    assert record.exit_status() == record_of(decision).exit_status()


def test_the_documents_shape_is_pinned():
    fingerprint = str(private("a").public.fingerprint)
    assert encode_decision(
        decide(
            [facts("a")], [], request(), policy(RULES.replace("atLeast: {n: 1, of: [{key: a}, {anyOf: [{key: b}]}]}", "key: a"), "a"), NOW
        )
    ) == {
        "schema": "sigkit.decision/1",
        "outcome": "allow",
        "decidedAt": "2026-11-25T12:00:00.000000+00:00",
        "request": {
            "reference": "registry.example/acme/app:v1",
            "registry": "registry.example",
            "path": "acme/app",
            "tag": "v1",
            "top": str(IMAGE),
            "chain": [str(IMAGE)],
            "manifest": str(IMAGE),
            "config": str(Digest.of(b"config")),
            "platform": "linux/amd64",
        },
        "policy": {
            "name": "policy.yaml",
            "digest": str(policy(RULES.replace("atLeast: {n: 1, of: [{key: a}, {anyOf: [{key: b}]}]}", "key: a"), "a").digest),
        },
        "rule": {"images": "registry.example/acme/**", "place": {"source": "policy.yaml", "inside": "6:5"}},
        "tree": {
            "demand": "a signature by key a",
            "place": {"source": "policy.yaml", "inside": "7:20"},
            "met": True,
            "by": [{"type": "key", "fingerprint": fingerprint, "kind": "ecdsa-p256", "name": "a"}],
            "children": [],
            "evidence": [{"source": facts("a").place.source, "inside": ""}],
        },
        "reasons": [],
        "facts": [
            {
                "place": {"source": facts("a").place.source, "inside": ""},
                "form": "bundle",
                "signature": {
                    "artifact": str(IMAGE),
                    "predicateType": "https://sigstore.dev/cosign/sign/v1",
                    "payloadDigest": str(Digest.of(b"payload")),
                    "repository": "registry.example/acme/app",
                    "annotations": {},
                },
                "signer": {
                    "signer": {"type": "key", "fingerprint": fingerprint, "kind": "ecdsa-p256", "name": "a"},
                    "source": {"root": "test", "rootDigest": str(Digest.of(b"root")), "authority": "a"},
                },
                "inclusions": [],
                "promises": [],
                "certificateLogs": [],
                "times": [],
                "unchecked": [],
            }
        ],
        "refused": [],
        "unchecked": [
            {"what": "tag v1", "why": "a tag is not signed; everything is about the digest it had"},
            {"what": "transparency log", "why": "nothing proves that the signature was logged"},
            {"what": "time of signing", "why": "nothing attests it"},
        ],
        "grant": {
            "command": "image",
            "environment": [],
            "mounts": [],
            "network": "none",
            "capabilities": [
                *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE"),
                *("CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"),
            ],
            "user": "image",
            "readOnly": False,
            "memoryBytes": None,
            "pids": None,
            "cpus": None,
        },
        "acceptedBy": [str(IMAGE)],
        "hints": [],
    }


def test_identities_logs_and_times_have_their_places_with_root_and_authority():
    document = encode_decision(DECISIONS["deny"])
    found = json.loads(encode_json(document))["facts"][0]
    assert found["signer"]["signer"]["issuer"] == "https://issuer.example"
    assert found["signer"]["source"] == {"root": "root", "rootDigest": str(Digest.of(b"root")), "authority": "ca.example"}
    assert found["inclusions"] == [
        {
            "log": "log.example",
            "index": 27246492,
            "operator": "",
            "source": {"root": "root", "rootDigest": str(Digest.of(b"root")), "authority": "log.example"},
        }
    ]
    assert found["times"][0]["time"] == "2026-11-24T11:59:59.999993+00:00"


def paths(value, path=()):
    """Give the path of every value of a document."""
    yield path
    if isinstance(value, dict):
        for name, member in value.items():
            yield from paths(member, (*path, name))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from paths(member, (*path, index))


def changed(document, path, value):
    copy = json.loads(json.dumps(document))
    at = copy
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return copy


@given(st.data())
def test_a_document_of_another_shape_is_refused_or_read_back_as_it_is(data):
    document = json.loads(encode_json(encode_decision(data.draw(st.sampled_from(list(DECISIONS.values()))))))
    path = data.draw(st.sampled_from([path for path in paths(document) if path]))
    odd = changed(document, path, data.draw(st.sampled_from([None, 7, -1, 0.5, "", "x", [], {}, True, [[]], {"a": 1}])))
    raw = encode_json(odd)
    try:
        record = parse_record(raw, Place("stored"))
    except SigkitError:
        return
    assert encode_json(encode_record(record)) == raw


@pytest.mark.parametrize("member", ["schema", "facts", "grant", "outcome"])
def test_an_unknown_member_or_version_is_refused(member):
    document = json.loads(encode_json(encode_decision(DECISIONS["allow"])))
    with pytest.raises(SigkitError):
        parse_record(encode_json({**document, "extra": 1}), Place("stored"))
    with pytest.raises(SigkitError):
        parse_record(encode_json({**document, "schema": "sigkit.decision/2"}), Place("stored"))
    document.pop(member)
    with pytest.raises(SigkitError):
        parse_record(encode_json(document), Place("stored"))


def test_a_record_is_no_decision():
    record = parse_record(encode_json(encode_decision(DECISIONS["allow"])), Place("stored"))
    assert type(record) is Record


def test_a_refusal_of_evidence_keeps_code_place_and_remedy():
    error = UnsupportedKey("weak curve", place=HERE, expected="P-256", got="secp192r1", remedy="make a new key")
    reason = Reason.of_error(error)
    assert (reason.code, reason.problem, reason.place, reason.expected, reason.got, reason.remedy) == (
        UnsupportedKey.code,
        "weak curve",
        HERE,
        "P-256",
        "secp192r1",
        "make a new key",
    )


@pytest.mark.parametrize("member", ["acceptedBy", "hints"])
def test_a_decision_stored_before_a_member_was_derived_is_read_and_one_that_lies_in_it_is_not(member):
    decision = DECISIONS["allow"]
    document = encode_decision(decision)
    lie = {**document, member: ["something else"]}
    with pytest.raises(ParseError):
        parse_record(json.dumps(lie).encode(), Place("stored"))
    del document[member]
    assert parse_record(encode_json(document), Place("stored")) == record_of(decision)
