"""Sigstore bundles."""

from __future__ import annotations

import copy
import json

import pytest

from sigkit import limits
from sigkit.errors import MalformedBase64, MalformedJson, Place, TooLarge, TooMany, UnsupportedEvidence, WrongShape
from sigkit.evidence.bundle import Bundle, CertificateMaterial, KeyMaterial, LogClaim, encode_key_bundle, parse_bundle
from sigkit.evidence.envelope import IN_TOTO_TYPE, Envelope
from sigkit.keys.private import generate
from sigkit.limits import Limits
from tests.simulators.evidence_maker import signed

HERE = Place("bundle")
KEY = generate("ed25519")


def parse(document):
    return parse_bundle(json.dumps(document).encode(), limits.DEFAULT, HERE)


def bundle(**changes):
    return {**signed(KEY), **changes}


def with_material(**material):
    return bundle(verificationMaterial={"publicKey": {"hint": "h"}, **material})


def test_a_bundle_by_key_reads_back_as_written():
    envelope = Envelope(b"payload", IN_TOTO_TYPE, b"sig")
    assert parse_bundle(encode_key_bundle("hint", envelope), limits.DEFAULT, HERE) == Bundle(KeyMaterial("hint"), envelope)


def test_members_stand_in_cosigns_order():
    written = json.loads(encode_key_bundle("h", Envelope(b"p", IN_TOTO_TYPE, b"s")))
    assert list(written) == ["mediaType", "verificationMaterial", "dsseEnvelope"]
    assert list(written["dsseEnvelope"]) == ["payload", "payloadType", "signatures"]


def test_both_spellings_of_version_03_are_read():
    older_spelling = bundle(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.3")
    assert parse(older_spelling) == parse(bundle())


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.dev.sigstore.bundle+json;version=0.1",
        "application/vnd.dev.sigstore.bundle+json;version=0.2",
        "application/vnd.dev.sigstore.bundle.v0.3.1+json",
        "application/vnd.dev.sigstore.bundle.v0.4+json",
        "application/vnd.dev.sigstore.bundle+json;version=99.9",
        "",
    ],
)
def test_another_version_is_refused_by_its_name(media_type):
    with pytest.raises(UnsupportedEvidence) as caught:
        parse(bundle(mediaType=media_type))
    assert caught.value.got == media_type


def test_a_message_signature_is_refused_by_its_name():
    document = bundle(messageSignature={"messageDigest": {}, "signature": ""})
    with pytest.raises(WrongShape):
        parse(document)
    del document["dsseEnvelope"]
    with pytest.raises(UnsupportedEvidence):
        parse(document)


def test_a_hint_may_be_absent():
    assert parse(bundle(verificationMaterial={"publicKey": {}})).material == KeyMaterial("")


def test_a_certificate_is_kept_as_it_is():
    assert parse(bundle(verificationMaterial={"certificate": {"rawBytes": "MAA="}})).material == CertificateMaterial(b"0\x00")


@pytest.mark.parametrize(
    "material",
    [
        pytest.param({}, id="none"),
        pytest.param({"publicKey": {"hint": "h"}, "certificate": {"rawBytes": "MAA="}}, id="two"),
        pytest.param({"x509CertificateChain": {"certificates": [{"rawBytes": "MAA="}]}}, id="chain"),
        pytest.param({"publicKey": {"hint": 7}}, id="hint no string"),
        pytest.param({"publicKey": {"hint": "h", "rawBytes": ""}}, id="unknown member"),
        pytest.param({"public_key": {"hint": "h"}}, id="snake case"),
        pytest.param({"publicKey": {"hint": "h"}, "tlog_entries": []}, id="snake case beside it"),
        pytest.param([], id="no object"),
    ],
)
def test_anything_but_one_key_or_certificate_is_refused_as_PARSE(material):
    with pytest.raises(WrongShape):
        parse(bundle(verificationMaterial=material))


def test_a_certificate_chain_is_refused_by_its_name():
    with pytest.raises(WrongShape) as caught:
        parse(bundle(verificationMaterial={"x509CertificateChain": {"certificates": []}}))
    assert caught.value.place.inside == "$.verificationMaterial.x509CertificateChain"
    assert caught.value.expected == "certificate"


def test_log_entries_are_named_and_not_believed():
    entries = [{"logIndex": "27246492", "logId": {"keyId": "AAAA"}}, {"logIndex": 5}, {}]
    found = parse(with_material(tlogEntries=entries)).log_entries
    assert found == (LogClaim("AAAA", 27246492), LogClaim("", 5), LogClaim("", 0))


@pytest.mark.parametrize("index", ["-1", -1, "1e3", "01", "", " 1", "٣", 1.0, "9223372036854775808", 2**63, "9" * 5000, True, []])
def test_an_index_that_is_no_int64_of_a_log_is_refused_as_PARSE(index):
    with pytest.raises((WrongShape, MalformedJson)):
        parse(with_material(tlogEntries=[{"logIndex": index}]))


def test_timestamps_are_kept_as_they_are():
    data = {"rfc3161Timestamps": [{"signedTimestamp": "MAA="}]}
    assert parse(with_material(timestampVerificationData=data)).timestamps == (b"0\x00",)
    assert parse(with_material(timestampVerificationData={})).timestamps == ()


@pytest.mark.parametrize(
    "material",
    [
        pytest.param({"tlogEntries": {}}, id="entries no list"),
        pytest.param({"tlogEntries": [{"foo": 1}]}, id="unknown member of an entry"),
        pytest.param({"timestampVerificationData": {"rfc3161": []}}, id="unknown member of the timestamps"),
        pytest.param({"timestampVerificationData": {"rfc3161Timestamps": [{}]}}, id="no timestamp in a timestamp"),
    ],
)
def test_claims_of_another_shape_are_refused_as_PARSE(material):
    with pytest.raises(WrongShape):
        parse(with_material(**material))


def test_a_timestamp_in_lenient_base64_is_refused_as_PARSE():
    with pytest.raises(MalformedBase64):
        parse(with_material(timestampVerificationData={"rfc3161Timestamps": [{"signedTimestamp": "MAA"}]}))


@pytest.mark.parametrize(
    "material",
    [
        pytest.param({"tlogEntries": [{}] * 33}, id="entries"),
        pytest.param({"timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": "MAA="}] * 33}}, id="timestamps"),
    ],
)
def test_claims_beyond_the_limit_are_refused_as_LIMIT(material):
    with pytest.raises(TooMany):
        parse(with_material(**material))


def test_bytes_beyond_the_limit_are_refused_before_parsing():
    with pytest.raises(TooLarge):
        parse_bundle(b"{" * 11, Limits(bundle_bytes=10), HERE)


@pytest.mark.parametrize("name", ["mediaType", "verificationMaterial", "dsseEnvelope"])
def test_a_member_that_is_missing_or_null_is_refused_as_PARSE(name):
    document = copy.deepcopy(bundle())
    document[name] = None
    with pytest.raises(WrongShape):
        parse(document)
    del document[name]
    with pytest.raises(WrongShape):
        parse(document)


def test_an_unknown_member_is_refused_as_PARSE():
    with pytest.raises(WrongShape):
        parse(bundle(extra=None))
