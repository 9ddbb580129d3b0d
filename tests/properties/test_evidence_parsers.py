"""Whatever bytes come, nothing but the package's own refusals leaves the parsers of evidence."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigkit import limits
from sigkit.digest import SIZES, Digest
from sigkit.errors import NOWHERE, SigkitError
from sigkit.evidence.bundle import V03, Bundle, KeyMaterial, MessageSignature, encode_bundle, parse_bundle
from sigkit.evidence.envelope import parse_envelope_document
from sigkit.evidence.form import Found
from sigkit.evidence.legacy import parse_blob_bundle, parse_chain, parse_rekor_bundle, parse_rfc3161
from sigkit.evidence.local import evidence_of_file
from sigkit.keys.pem import encode_pem
from sigkit.keys.private import generate
from tests.simulators.evidence_maker import b64, log_entry, signed

FOUND = Found("file", None, "file")
BODY = b64(b'{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{}}')
PROMISE = {"SignedEntryTimestamp": "c2V0", "Payload": {"body": BODY, "integratedTime": 1, "logIndex": 7, "logID": "c0d2"}}
CERTIFICATE = encode_pem("CERTIFICATE", b"certificate" * 20)
WHOLE = {**signed(generate("ed25519")), "mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.2"}
WHOLE["verificationMaterial"] = {
    "x509CertificateChain": {"certificates": [{"rawBytes": "MAA="}]},
    "tlogEntries": [log_entry()],
    "timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": "MAA="}]},
}
PARSERS = {
    "bundle": (lambda raw: parse_bundle(raw, limits.DEFAULT, NOWHERE), json.dumps(WHOLE).encode()),
    "envelope": (lambda raw: parse_envelope_document(raw, limits.DEFAULT, NOWHERE), json.dumps(WHOLE["dsseEnvelope"]).encode()),
    "promise": (lambda raw: parse_rekor_bundle(raw, limits.DEFAULT, NOWHERE), json.dumps(PROMISE).encode()),
    "timestamp": (lambda raw: parse_rfc3161(raw, limits.DEFAULT, NOWHERE), b'{"SignedRFC3161Timestamp":"MAA="}'),
    "chain": (lambda raw: parse_chain(raw, NOWHERE), CERTIFICATE * 2),
    "blob": (
        lambda raw: parse_blob_bundle(raw, limits.DEFAULT, FOUND),
        json.dumps({"base64Signature": "c2ln", "cert": b64(CERTIFICATE), "rekorBundle": PROMISE}).encode(),
    ),
    "file": (lambda raw: evidence_of_file(raw, "file", limits.DEFAULT), json.dumps(WHOLE).encode()),
}
every = pytest.mark.parametrize("name", PARSERS)


@every
def test_what_is_good_is_read(name):
    parse, good = PARSERS[name]
    parse(good)


@every
@given(st.data())
@settings(deadline=None)
def test_bytes_cut_or_patched_are_read_or_refused(name, data):
    parse, good = PARSERS[name]
    start, length = data.draw(st.integers(0, len(good))), data.draw(st.integers(0, 20))
    with contextlib.suppress(SigkitError):
        parse(good[:start] + data.draw(st.binary(max_size=20)) + good[start + length :])


@every
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(name, raw):
    parse, _ = PARSERS[name]
    with contextlib.suppress(SigkitError):
        parse(raw)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


@given(st.data(), values)
@settings(deadline=None)
def test_a_member_of_any_other_value_is_read_or_refused(data, value):
    document = json.loads(json.dumps(WHOLE))
    holder = document
    while True:
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
        if not isinstance(holder[key], (dict, list)) or not holder[key] or data.draw(st.booleans()):
            break
        holder = holder[key]
    holder[key] = value
    with contextlib.suppress(SigkitError):
        parse_bundle(json.dumps(document).encode(), limits.DEFAULT, NOWHERE)


digests = st.sampled_from(sorted(SIZES)).flatmap(
    lambda algorithm: st.binary(min_size=SIZES[algorithm], max_size=SIZES[algorithm]).map(lambda raw: Digest(algorithm, raw))
)


@given(st.text(st.characters(codec="utf-8"), max_size=20), st.binary(max_size=80), st.none() | digests)
def test_a_files_signature_reads_back_as_written(hint, signature, digest):
    content = MessageSignature(signature, digest)
    assert parse_bundle(encode_bundle(hint, content), limits.DEFAULT, NOWHERE) == Bundle(V03, KeyMaterial(hint), content)
