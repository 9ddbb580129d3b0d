"""What cosign's older forms carry beside a signature."""

from __future__ import annotations

import json

import pytest

from sigkit import limits
from sigkit.errors import MalformedBase64, MalformedJson, MalformedPem, NotUtf8, ParseError, Place, TooLarge, TooMany, WrongShape
from sigkit.evidence.form import CERTIFICATE_PART, REKOR_BUNDLE_PART, SIGNATURE_PART, Form, Found
from sigkit.evidence.legacy import parse_blob_bundle, parse_certificate, parse_chain, parse_rekor_bundle, parse_rfc3161
from sigkit.keys.pem import encode_pem
from sigkit.limits import Limits
from sigkit.tlog.entry import LogEntry
from tests.simulators.evidence_maker import b64

HERE = Place("layer")
BODY = b'{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{}}'
CERTIFICATE = encode_pem("CERTIFICATE", b"one")
FOUND = Found("b.json", None, "file")


def promise(**changes):
    payload = {"body": b64(BODY), "integratedTime": 1_700_000_000, "logIndex": 7, "logID": "c0d2", **changes}
    return {"SignedEntryTimestamp": b64(b"set"), "Payload": {name: value for name, value in payload.items() if value is not None}}


def parse(document):
    return parse_rekor_bundle(json.dumps(document).encode(), limits.DEFAULT, HERE)


def test_a_promise_is_an_entry_without_a_proof():
    assert parse(promise()) == LogEntry(
        index=7,
        log_id=b"\xc0\xd2",
        kind="hashedrekord",
        version="0.0.1",
        integrated_time=1_700_000_000,
        promise=b"set",
        proof=None,
        body=BODY,
    )


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"Payload": promise()["Payload"]}, id="no promise"),
        pytest.param({"SignedEntryTimestamp": "c2V0"}, id="no payload"),
        pytest.param({**promise(), "extra": 1}, id="unknown member"),
        pytest.param(promise(extra=1), id="unknown member of the payload"),
        pytest.param(promise(body={"kind": "x"}), id="a body that is no text"),
        pytest.param(promise(body=b64(b'{"kind":"x"}')), id="a body without a version"),
        pytest.param(promise(body=b64(b"[]")), id="a body that is no object"),
        pytest.param(promise(logID="C0D2"), id="upper-case hex"),
        pytest.param(promise(logID="c0d"), id="half a byte"),
        pytest.param(promise(logID=""), id="no log"),
        pytest.param(promise(logIndex=-1), id="a negative index"),
        pytest.param(promise(integratedTime=1.5), id="half a second"),
        pytest.param(promise(logIndex=None), id="no index"),
    ],
)
def test_a_promise_of_another_shape_is_refused_as_PARSE(document):
    with pytest.raises(WrongShape):
        parse(document)


def test_a_body_that_two_readers_could_see_otherwise_is_refused():
    with pytest.raises(MalformedJson):
        parse(promise(body=b64(b'{"kind":"a","kind":"b","apiVersion":"1"}')))
    with pytest.raises(MalformedBase64):
        parse(promise(body="c2ln\nc2ln"))


def test_a_timestamp_is_the_authoritys_whole_response():
    assert parse_rfc3161(json.dumps({"SignedRFC3161Timestamp": b64(b"der")}).encode(), limits.DEFAULT, HERE) == b"der"


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"SignedRFC3161Timestamp":"x"}', b'{"SignedRFC3161Timestamp":"MAA=","a":1}', b"\xff"])
def test_a_timestamp_of_another_shape_is_refused_as_PARSE(raw):
    with pytest.raises(ParseError):
        parse_rfc3161(raw, limits.DEFAULT, HERE)


def test_limits_apply_before_parsing():
    for parser in (parse_rekor_bundle, parse_rfc3161):
        with pytest.raises(TooLarge):
            parser(b"{" * 11, Limits(bundle_bytes=10), HERE)
    with pytest.raises(TooLarge):
        parse_chain(b" " * (limits.CERTIFICATES * limits.KEY_FILE_BYTES + 1), HERE)


def test_certificates_are_read_in_their_order():
    two = CERTIFICATE + encode_pem("CERTIFICATE", b"two" * 100)
    assert parse_chain(two, HERE) == (b"one", b"two" * 100)
    assert parse_chain(b"\r\n" + two.replace(b"\n", b"\r\n") + b"\n\n", HERE) == (b"one", b"two" * 100)
    assert parse_certificate(CERTIFICATE.rstrip(), HERE) == b"one"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"text", id="no PEM"),
        pytest.param(b"text\n" + CERTIFICATE, id="text before it"),
        pytest.param(CERTIFICATE + b"text", id="text after it"),
        pytest.param(CERTIFICATE + b"text\n" + CERTIFICATE, id="text between"),
        pytest.param(encode_pem("PUBLIC KEY", b"one"), id="another label"),
        pytest.param(CERTIFICATE + encode_pem("PRIVATE KEY", b"one"), id="a key after it"),
        pytest.param(CERTIFICATE.replace(b"END CERTIFICATE", b"END PUBLIC KEY"), id="another end"),
        pytest.param(CERTIFICATE[:-5], id="cut off"),
        pytest.param(CERTIFICATE.replace(b"b25l", b"b25"), id="lenient base64"),
        pytest.param(CERTIFICATE.replace(b"b25l", b"b2.l"), id="no base64"),
    ],
)
def test_what_is_no_certificate_in_pem_is_refused_as_PARSE(raw):
    with pytest.raises(MalformedPem):
        parse_chain(raw, HERE)
    with pytest.raises(MalformedPem):
        parse_certificate(raw, HERE)


def test_two_certificates_where_one_is_expected_and_an_endless_chain_are_refused():
    with pytest.raises(MalformedPem):
        parse_certificate(CERTIFICATE * 2, HERE)
    with pytest.raises(TooMany):
        parse_chain(CERTIFICATE * 11, HERE)
    with pytest.raises(NotUtf8):
        parse_chain(b"\xff", HERE)


def blob(**members):
    return parse_blob_bundle(json.dumps(members).encode(), limits.DEFAULT, FOUND)


def test_a_blobs_older_bundle_becomes_parts_of_the_annotations_names():
    evidence = blob(base64Signature="c2ln", cert=b64(CERTIFICATE), rekorBundle=promise())
    assert (evidence.form, evidence.found) == (Form.BLOB_SIGNATURE, FOUND)
    assert set(evidence.parts) == {SIGNATURE_PART, CERTIFICATE_PART, REKOR_BUNDLE_PART}
    assert evidence.parts[SIGNATURE_PART] == b"c2ln"
    assert parse_certificate(evidence.parts[CERTIFICATE_PART], HERE) == b"one"
    assert parse_rekor_bundle(evidence.parts[REKOR_BUNDLE_PART], limits.DEFAULT, HERE) == parse(promise())


@pytest.mark.parametrize("cert", [None, "", b64(encode_pem("PUBLIC KEY", b"key"))])
def test_a_public_key_in_the_place_of_the_certificate_names_no_signer(cert):
    assert set(blob(base64Signature="c2ln", cert=cert, rekorBundle=None).parts) == {SIGNATURE_PART}


@pytest.mark.parametrize(
    "members", [{}, {"base64Signature": 1}, {"base64Signature": "c2ln", "extra": 1}, {"base64Signature": "c2ln", "rekorBundle": {}}]
)
def test_a_blobs_older_bundle_of_another_shape_is_refused_as_PARSE(members):
    with pytest.raises(WrongShape):
        blob(**members)
