"""`sigkit inspect` says what evidence says, goes as far as it can be read, and never calls anything verified."""

from __future__ import annotations

import base64
import io
import json
import random
import sys

import pytest

from sigkit import limits
from sigkit.cli.claims import claims_of
from sigkit.cli.inspect import BANNER
from sigkit.cli.main import run
from sigkit.errors import WrongShape
from sigkit.evidence.form import BUNDLE_PART, CERTIFICATE_PART, LAYER_PART, REKOR_BUNDLE_PART, TIMESTAMP_PART, Evidence, Form, Found
from sigkit.evidence.local import detached_signature, evidence_of_file
from sigkit.keys.private import generate
from tests.simulators.evidence_maker import b64, bundle_evidence, log_entry, log_proof, signed, simple_evidence, statement
from tests.simulators.sigstore import Simulator

KEY = generate("ecdsa-p256")


@pytest.fixture
def conformance(vectors):
    return vectors / "sigstore-conformance/test/assets/bundle-verify"


def shown(path, capsys, status: int = 0):
    assert run(["inspect", str(path)]) == status
    return capsys.readouterr().out


def document(path, capsys):
    assert run(["inspect", "-o", "json", str(path)]) == 0
    return json.loads(capsys.readouterr().out)


def rows(claims, kind: str) -> dict[str, object]:
    return {label: value for section in claims.sections if section.kind == kind for label, value in section.rows}


def claims(evidence: Evidence):
    return claims_of(evidence, limits.DEFAULT)


def stops(found) -> list[str]:
    return [stop.code for section in found.sections for stop in section.stops]


def test_the_first_line_says_that_nothing_was_verified(tmp_path, capsys):
    path = tmp_path / "b.json"
    path.write_text(json.dumps(signed(KEY)))
    assert shown(path, capsys).splitlines()[0] == BANNER
    told = document(path, capsys)
    assert (told["schema"], told["verified"], told["note"]) == ("sigkit.inspect/1", False, BANNER)
    assert list(told) == ["schema", "verified", "note", "file", "evidence"]


def test_an_identitys_bundle_is_told_whole(conformance, capsys):
    (told,) = document(conformance / "rekor2-checkpoint-cosigned/bundle.sigstore.json", capsys)["evidence"]
    claimed = {(section["title"], claim["label"]): claim["value"] for section in told["sections"] for claim in section["claims"]}
    assert told["malformed"] is None
    assert claimed["certificate", "identity"][0].startswith("URI https://github.com/sigstore-conformance/")
    assert claimed["certificate", "issuer"] == "https://token.actions.githubusercontent.com"
    assert claimed["certificate", "buildTrigger"] == "workflow_dispatch"
    assert claimed["certificate", "valid until"] == "2025-06-12T12:12:16Z"
    assert claimed["log entry 1", "kind"] == "hashedrekord 0.0.2"
    assert claimed["log entry 1", "checkpoint signed by"] == ["log2025-alpha1.rekor.sigstage.dev", "witness.example"]
    assert claimed["timestamp 1", "time"] == "2025-06-12T12:02:20Z"
    assert told["summary"]["when"] == "2025-06-12T12:02:20Z"
    assert told["summary"]["what"] == "the signature of a file"


def test_every_bundle_of_the_suite_is_shown_however_broken(conformance, capsys):
    for path in sorted(conformance.glob("*/bundle.sigstore.json")):
        assert BANNER in shown(path, capsys)


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("bundle-malformed-json_fail", "stops here: SK-PARSE-001"),
        ("bundle-negative-log-index_fail", "malformed  SK-PARSE-002"),
        ("bundle-unknown-version_fail", "version=99.9"),
        ("bundle-invalid-base64-signature_fail", "SK-PARSE-003 not standard base64 with padding at $.messageSignature.signature"),
        ("bundle-with-root-cert_fail", "email a@tny.town"),
    ],
)
def test_broken_evidence_is_told_as_far_as_it_is_readable_with_where_it_stops(conformance, capsys, case, told):
    assert told in shown(conformance / case / "bundle.sigstore.json", capsys)


def test_an_attestation_is_told_by_its_subjects_type_and_members():
    predicate = {"text": "x" * 1000, "object": {"a": 1, "b": 2}, "list": [1, 2], "number": 7, "nothing": None}
    found = claims(bundle_evidence(signed(KEY, statement(predicateType="https://example.com/t", predicate=predicate))))
    assert rows(found, "statement")["predicate type"] == "https://example.com/t"
    assert rows(found, "predicate") == {
        "text": "x" * 200 + "… (1000 characters)",
        "object": "{a, b}",
        "list": "a list of 2",
        "number": "7",
        "nothing": "null",
    }
    assert rows(found, "subject")["name"] == "registry.example/acme/app"
    assert dict(found.summary())["about"].startswith("sha256:")


def test_a_large_predicate_is_only_glanced_at():
    found = claims(bundle_evidence(signed(KEY, statement(predicate={str(number): 1 for number in range(100)}))))
    assert len(rows(found, "predicate")) == 13
    assert rows(found, "predicate")["…"] == "88 more members"


def test_a_payload_that_is_no_statement_is_told_by_its_beginning():
    found = claims(bundle_evidence(signed(KEY, b"\xffno statement")))
    assert rows(found, "statement") == {"begins": "\\xffno statement"}
    assert found.refused


def test_a_log_entry_is_told_member_by_member():
    bundle = signed(KEY)
    bundle["verificationMaterial"]["tlogEntries"] = [
        log_entry(inclusionProof=log_proof(checkpoint={"envelope": "log.example\n5\nroot\n\n— log.example sig\n— witness.example sig\n"})),
        log_entry(logIndex="-5", integratedTime=str(2**62), inclusionProof=None, inclusionPromise=None),
        "no entry",
    ]
    found = claims(bundle_evidence(bundle))
    first, second, third = [section for section in found.sections if section.kind == "log entry"]
    assert dict(first.rows)["checkpoint"] == "log.example"
    assert dict(first.rows)["checkpoint signed by"] == ["log.example", "witness.example"]
    assert dict(second.rows) == {
        "log": b64(b"log"),
        "index": "-5",
        "kind": "dsse 0.0.1",
        "integrated": str(2**62),
        "promise": "none",
        "proof": "none",
    }
    assert (third.rows, {stop.code for stop in third.stops}) == ([], {"SK-PARSE-002"})


def test_the_older_forms_are_told_with_what_stands_beside_them():
    body = b64(b'{"apiVersion":"0.0.1","kind":"hashedrekord"}')
    promise = {"SignedEntryTimestamp": "c2V0", "Payload": {"body": body, "integratedTime": 1700000000, "logIndex": 7, "logID": "c0d2"}}
    evidence = simple_evidence(
        KEY, None, **{REKOR_BUNDLE_PART: json.dumps(promise).encode(), TIMESTAMP_PART: b"{}", CERTIFICATE_PART: b"none"}
    )
    found = claims(evidence)
    assert rows(found, "signed")["name"] == "registry.example/acme/app"
    assert rows(found, "log entry") == {
        "log": "c0d2",
        "index": "7",
        "integrated": "2023-11-14T22:13:20Z",
        "promise": "a signed entry timestamp",
        "proof": "none",
    }
    assert sorted(stops(found)) == ["SK-PARSE-002", "SK-PARSE-007"]
    assert found.refused is None


def test_envelopes_and_detached_signatures_are_told(tmp_path):
    envelope = evidence_of_file(json.dumps(signed(KEY)["dsseEnvelope"]).encode(), "e.json", limits.DEFAULT)
    assert rows(claims(envelope), "subject")["name"] == "registry.example/acme/app"
    detached = claims(detached_signature(b"c2ln", None, None, "s"))
    assert rows(detached, "signature") == {"signature": "3 bytes", "signed by": "a key that is not named"}
    assert stops(claims(detached_signature(b"c2l", None, None, "s"))) == ["SK-PARSE-003"]


def test_a_part_that_is_missing_is_told():
    found = claims(Evidence(Form.ENVELOPE, {}, Found("r", None, "att-tag")))
    assert found.refused
    assert stops(found)


def test_outside_text_is_escaped(tmp_path, capsys):
    bundle = signed(KEY, statement(predicateType="https://example.com/\x1b[2J", predicate={"\x1b]0;x\x07": "a\nverified"}))
    bundle["verificationMaterial"]["publicKey"]["hint"] = "\x1b[31m\u202e"
    path = tmp_path / "b.json"
    path.write_text(json.dumps(bundle))
    out = shown(path, capsys)
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "\nverified" not in out


@pytest.mark.parametrize("name", ["b.json", "./image", "/absent/x", "b.sigstore"])
def test_a_bundle_that_is_not_there_is_not_looked_for_on_a_registry(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert run(["inspect", name]) == 2


@pytest.mark.parametrize("content", ["-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n", "plain text", ""])
def test_what_is_no_document_at_all_is_refused(tmp_path, capsys, content):
    (tmp_path / "x.pub").write_text(content)
    assert run(["inspect", str(tmp_path / "x.pub")]) == 2
    said = capsys.readouterr().err
    assert "not JSON" in said
    assert ("it looks like PEM, 'PUBLIC KEY'" in said) == content.startswith("-----")


def test_an_identity_token_is_told_from_evidence_and_not_shown(tmp_path, capsys):
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (b'{"alg":"ES256"}', b'{"sub":"somebody"}', b"signature")]
    (tmp_path / "token").write_text(".".join(parts) + "\n")
    assert run(["inspect", str(tmp_path / "token")]) == 2
    said = "".join(capsys.readouterr())
    assert "this is an identity token" in said
    assert "sigkit sign --identity-token" in said
    assert not [part for part in parts if part in said]


def test_standard_input_is_a_bundle(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(signed(KEY)).encode())))
    assert document("-", capsys)["file"] == "standard input"


def test_standard_input_beyond_the_limit_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b" " * (limits.BUNDLE_BYTES + 1))))
    assert run(["inspect", "-"]) == 2
    assert "SK-LIMIT-001" in capsys.readouterr().err


def test_all_evidence_about_an_image_is_told(image, capsys):
    assert "nothing that sigkit reads is attached" in shown(image, capsys)
    assert run(["sign", "--key", "release.key", image]) == 0
    assert run(["attest", "--key", "release.key", "--predicate", "p.json", "--type", "https://example.com/t", image]) == 0
    capsys.readouterr()
    told = document(image, capsys)
    assert told["reference"] == image
    assert {item["summary"]["what"] for item in told["evidence"]} == {"https://example.com/t", "https://sigstore.dev/cosign/sign/v1"}
    assert {item["found"]["via"] for item in told["evidence"]} == {"referrers"}


def test_evidence_in_a_layout_is_told_as_that_in_the_registry(image, capsys):
    assert run(["sign", "--key", "release.key", image]) == 0
    assert run(["copy", image, "oci:saved"]) == 0
    capsys.readouterr()
    assert run(["inspect", "-o", "json", "--layout", "saved", image]) == 0
    saved = json.loads(capsys.readouterr().out)
    assert [item["sections"] for item in saved["evidence"]] == [item["sections"] for item in document(image, capsys)["evidence"]]


def test_no_change_to_evidence_makes_it_fail(conformance):
    """Whatever a byte is changed to, what can be read is told: only the package's own errors are met, and they are kept."""
    choose = random.Random(5)  # noqa: S311 - not for secrets
    for case in ("happy-path-v0.2", "rekor2-timestamp-with-embedded-cert", "happy-path-intoto-in-dsse-v3"):
        good = json.loads((conformance / case / "bundle.sigstore.json").read_bytes())
        for _ in range(150):
            claims(bundle_evidence(changed(good, choose)))


def changed(document, choose: random.Random):
    """Return the document with one text changed: a character of it, or, where it is base64, a bit of what it holds."""
    import base64

    copy = json.loads(json.dumps(document))
    texts = []

    def walk(value) -> None:
        for key in value if isinstance(value, dict) else range(len(value)):
            if isinstance(value[key], (dict, list)):
                walk(value[key])
            elif isinstance(value[key], str):
                texts.append((value, key))

    walk(copy)
    holder, key = choose.choice(texts)
    try:
        raw = bytearray(base64.b64decode(holder[key], validate=True))
        raw[choose.randrange(len(raw))] ^= 1 << choose.randrange(8)
        holder[key] = b64(bytes(raw))
    except (ValueError, IndexError):
        holder[key] = holder[key][: choose.randrange(len(holder[key]) + 1)]
    return copy


def test_a_name_in_a_certificate_that_the_library_gives_up_on_stops_no_other_line():
    case = Simulator().make()
    document = json.loads(case.parts["bundle"])
    slot = document["verificationMaterial"]["certificate"]
    raw = base64.b64decode(slot["rawBytes"])
    slot["rawBytes"] = b64(raw.replace(b"\x06\x03\x55\x04\x03\x0c", b"\x06\x03\x55\x04\x03\x03"))  # a BIT STRING for a common name
    found = claims(Evidence(Form.BUNDLE, {BUNDLE_PART: json.dumps(document).encode()}, Found("b.json", None, "file")))
    assert "identity" in rows(found, "certificate")
    assert stops(found) == [WrongShape.code]


def test_the_layer_of_another_document_is_told_as_such():
    found = claims(Evidence(Form.SIMPLE_SIGNING, {LAYER_PART: b"[]"}, Found("r", None, "sig-tag")))
    assert found.refused
    assert stops(found) == ["SK-PARSE-002"]
