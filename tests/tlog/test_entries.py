"""Log entries of both generations: what a body says, what is refused, and the leaf that is made anew."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import (
    BadPromise,
    MalformedBase64,
    MalformedDigest,
    MalformedJson,
    Place,
    SigkitError,
    TooDeep,
    TooLarge,
    TooMany,
    UnsupportedEntry,
    WrongShape,
)
from sigkit.keys.pem import encode_pem
from sigkit.keys.private import generate
from sigkit.keys.public import of_library, parse_public_key
from sigkit.strict import INT64_MAX
from sigkit.tlog.entry import LogEntry
from sigkit.tlog.entry_v1 import LoggedBy, LoggedSignature, Over, parse_body, verify_promise
from sigkit.tlog.entry_v1 import encode_hashedrekord as encode_body
from sigkit.tlog.entry_v2 import CertificateVerifier, KeyVerifier, encode_hashedrekord, scheme_of

PLACE = Place("entry")
SIGNATURE, PEM = b"a signature", b"-----BEGIN PUBLIC KEY-----\n"
DIGEST = Digest.of(b"what was signed")
OTHER = Digest.of(b"something else")
LOG_KEY = ec.derive_private_key(7, ec.SECP256R1())
LOG_PUBLIC = of_library(LOG_KEY.public_key())
LOG_ID = LOG_PUBLIC.fingerprint.value
TIME = 1_780_000_000


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def hash_of(digest):
    return {"algorithm": digest.algorithm, "value": digest.value.hex()}


def specs():
    """Return the part of a body that differs, of each kind."""
    signed_by = {"content": b64(SIGNATURE), "publicKey": {"content": b64(PEM)}}
    inner = {"sig": b64(b64(SIGNATURE).encode()), "publicKey": b64(PEM)}
    envelope = {"payloadType": "application/vnd.in-toto+json", "signatures": [inner]}
    return {
        "hashedrekord": ("0.0.1", {"data": {"hash": hash_of(DIGEST)}, "signature": signed_by}),
        "rekord": ("0.0.1", {"data": {"hash": hash_of(DIGEST)}, "signature": {"format": "x509", **signed_by}}),
        "dsse": (
            "0.0.1",
            {
                "envelopeHash": hash_of(OTHER),
                "payloadHash": hash_of(DIGEST),
                "signatures": [{"signature": b64(SIGNATURE), "verifier": b64(PEM)}],
            },
        ),
        "intoto": ("0.0.2", {"content": {"envelope": envelope, "hash": hash_of(OTHER), "payloadHash": hash_of(DIGEST)}}),
    }


KINDS = list(specs())


def entry_of(body, kind="hashedrekord", version="0.0.1", promise=None, time=TIME):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return LogEntry(1234, LOG_ID, kind, version, time, promise, None, raw)


def body_of(kind, *path, to=None):
    """Return a body, with the value at `path` in its spec changed; Ellipsis takes it away."""
    version, spec = specs()[kind]
    if path:
        outer = spec
        for step in path[:-1]:
            outer = outer[step]
        if to is ...:
            del outer[path[-1]]
        else:
            outer[path[-1]] = to
    return {"apiVersion": version, "kind": kind, "spec": spec}


def read(kind, *path, to=None):
    return parse_body(entry_of(body_of(kind, *path, to=to), kind, specs()[kind][0]), PLACE, limits.DEFAULT)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_says_what_was_signed_and_by_whom(kind):
    over = Over.ARTIFACT if kind in {"hashedrekord", "rekord"} else Over.PAYLOAD
    assert read(kind) == LoggedSignature(over, DIGEST, (LoggedBy(SIGNATURE, PEM),))


def test_several_signatures_in_a_body_are_all_told():
    both = [{"signature": b64(value), "verifier": b64(PEM)} for value in (b"one", b"two")]
    assert [item.signature for item in read("dsse", "signatures", to=both).signatures] == [b"one", b"two"]


@pytest.mark.parametrize(
    ("kind", "version"),
    [("hashedrekord", "0.0.2"), ("dsse", "0.0.2"), ("intoto", "0.0.1"), ("tuf", "0.0.1"), ("", ""), ("hashedrekord", "0.0.1 ")],
)
def test_a_kind_that_is_not_read_is_refused_with_those_that_are(kind, version):
    with pytest.raises(UnsupportedEntry) as caught:
        parse_body(entry_of(body_of("hashedrekord"), kind, version), PLACE, limits.DEFAULT)
    assert "intoto 0.0.2" in caught.value.expected


@pytest.mark.parametrize("member", ["kind", "apiVersion"])
def test_a_body_of_another_kind_than_the_entry_says_is_refused(member):
    body = body_of("hashedrekord") | {member: "other"}
    with pytest.raises(UnsupportedEntry):
        parse_body(entry_of(body), PLACE, limits.DEFAULT)


H = "hashedrekord"


@pytest.mark.parametrize(
    ("kind", "path", "to", "error"),
    [
        pytest.param(H, ("x",), 1, WrongShape, id="an unknown member"),
        pytest.param(H, ("data", "x"), 1, WrongShape, id="an unknown member of the data"),
        pytest.param(H, ("data", "hash", "x"), 1, WrongShape, id="an unknown member of the hash"),
        pytest.param(H, ("signature", "x"), 1, WrongShape, id="an unknown member of the signature"),
        pytest.param("rekord", ("x",), 1, WrongShape, id="an unknown member of an older record"),
        pytest.param("rekord", ("signature", "x"), 1, WrongShape, id="an unknown member of an older signature"),
        pytest.param("dsse", ("x",), 1, WrongShape, id="an unknown member of an envelope's record"),
        pytest.param("intoto", ("x",), 1, WrongShape, id="an unknown member beside the content"),
        pytest.param("intoto", ("content", "x"), 1, WrongShape, id="an unknown member of the content"),
        pytest.param("intoto", ("content", "envelope", "signatures", 0, "x"), 1, WrongShape, id="an unknown member of an inner signature"),
        pytest.param(H, ("data",), ..., WrongShape, id="no data"),
        pytest.param(H, ("data", "hash", "value"), "AB" * 32, MalformedDigest, id="a hash in capitals"),
        pytest.param(H, ("data", "hash", "value"), "ab" * 31, MalformedDigest, id="a short hash"),
        pytest.param(H, ("data", "hash", "algorithm"), "sha1", MalformedDigest, id="a weak hash"),
        pytest.param(H, ("signature", "content"), "YQ", MalformedBase64, id="base64 without padding"),
        pytest.param(H, ("signature", "content"), 1, WrongShape, id="a number as signature"),
        pytest.param(H, ("signature", "publicKey", "url"), "https://keys.example", WrongShape, id="a key elsewhere"),
        pytest.param(H, ("signature", "publicKey"), ..., WrongShape, id="no key"),
        pytest.param("rekord", ("signature", "format"), "pgp", WrongShape, id="another format"),
        pytest.param("rekord", ("data", "content"), "YQ==", WrongShape, id="content beside the hash"),
        pytest.param("dsse", ("payloadHash",), ..., WrongShape, id="an envelope without its payload's hash"),
        pytest.param("dsse", ("envelopeHash",), ..., WrongShape, id="an envelope without its own hash"),
        pytest.param("dsse", ("envelopeHash", "value"), "x", MalformedDigest, id="an envelope's hash that is none"),
        pytest.param("dsse", ("signatures",), {}, WrongShape, id="no list of signatures"),
        pytest.param("dsse", ("signatures", 0, "keyid"), "x", WrongShape, id="an unknown member of a signature"),
        pytest.param("dsse", ("signatures",), [{}] * 200, TooMany, id="two hundred signatures"),
        pytest.param("intoto", ("content", "hash", "value"), "x", MalformedDigest, id="a hash that is none"),
        pytest.param("intoto", ("content", "payloadHash"), ..., WrongShape, id="no hash of the payload"),
        pytest.param("intoto", ("content", "envelope", "x"), 1, WrongShape, id="an unknown member of the envelope"),
        pytest.param("intoto", ("content", "envelope", "signatures", 0, "sig"), b64(SIGNATURE), MalformedBase64, id="base64 once"),
        pytest.param("intoto", ("content", "envelope", "signatures", 0, "sig"), b64(b"\xff"), SigkitError, id="not UTF-8"),
        pytest.param("intoto", ("content", "envelope", "signatures", 0, "publicKey"), ..., WrongShape, id="a signature by nobody"),
    ],
)
def test_a_body_that_could_mean_something_else_is_refused_with_the_place(kind, path, to, error):
    with pytest.raises(error) as caught:
        read(kind, *path, to=to)
    assert caught.value.place.source == PLACE.source
    assert caught.value.place.inside.startswith("$.spec")


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        pytest.param(b"", MalformedJson, id="nothing"),
        pytest.param(b"[]", WrongShape, id="a list"),
        pytest.param(json.dumps(body_of(H)).replace('"data"', '"data": {}, "data"').encode(), MalformedJson, id="a member twice"),
        pytest.param(json.dumps(body_of(H) | {"x": 1}).encode(), WrongShape, id="an unknown member"),
        pytest.param(b"[" * 10_000, TooDeep, id="deep"),
        pytest.param(b" " * (limits.DEFAULT.bundle_bytes + 1), TooLarge, id="large"),
    ],
)
def test_a_body_is_strict_json_within_limits(raw, error):
    with pytest.raises(error):
        parse_body(entry_of(raw), PLACE, limits.DEFAULT)


@given(st.sampled_from(KINDS), st.data())
def test_nothing_but_a_refusal_leaves_the_parser_of_bodies(kind, data):
    raw = bytearray(json.dumps(body_of(kind)).encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        parse_body(entry_of(bytes(raw), kind, specs()[kind][0]), PLACE, limits.DEFAULT)
    except SigkitError as err:
        assert err.place.source == PLACE.source  # noqa: PT017 - a change that alters no meaning raises nothing


def promised(entry):
    """Return the bytes that a log signs: RFC 8785 by hand."""
    return (
        f'{{"body":"{b64(entry.body)}","integratedTime":{entry.integrated_time},"logID":"{entry.log_id.hex()}","logIndex":{entry.index}}}'
    ).encode()


def with_promise(entry, promise=None):
    signature = promise if promise is not None else LOG_KEY.sign(promised(entry), ec.ECDSA(hashes.SHA256()))
    return LogEntry(entry.index, entry.log_id, entry.kind, entry.version, entry.integrated_time, signature, entry.proof, entry.body)


GOOD = with_promise(entry_of(body_of(H)))


def test_a_promise_is_proved_and_gives_its_time():
    assert verify_promise(GOOD, LOG_PUBLIC, PLACE) == datetime.fromtimestamp(TIME, UTC)


@pytest.mark.parametrize("time", [0, -1, 253_402_300_800, INT64_MAX])
def test_a_promise_at_no_time_is_refused_even_if_the_log_signed_it(time):
    with pytest.raises(BadPromise):
        verify_promise(with_promise(entry_of(body_of(H), time=time)), LOG_PUBLIC, PLACE)


def test_no_promise_and_one_of_another_log_are_refused():
    for entry, key in ((entry_of(body_of(H)), LOG_PUBLIC), (GOOD, generate("ecdsa-p256").public)):
        with pytest.raises(BadPromise):
            verify_promise(entry, key, PLACE)


@given(st.data())
def test_a_flipped_bit_in_anything_that_was_promised_is_refused(data):
    fields = {"index": GOOD.index, "log_id": GOOD.log_id, "time": GOOD.integrated_time, "promise": GOOD.promise, "body": GOOD.body}
    name = data.draw(st.sampled_from(sorted(fields)))
    value = fields[name]
    if isinstance(value, int):
        fields[name] = value ^ (1 << data.draw(st.integers(0, 31)))
    else:
        raw = bytearray(value)
        bit = data.draw(st.integers(0, len(raw) * 8 - 1))
        raw[bit // 8] ^= 1 << (bit % 8)
        fields[name] = bytes(raw)
    changed = LogEntry(
        fields["index"], fields["log_id"], GOOD.kind, GOOD.version, fields["time"], fields["promise"], GOOD.proof, fields["body"]
    )
    with pytest.raises(BadPromise):
        verify_promise(changed, LOG_PUBLIC, PLACE)


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [
        pytest.param("ecdsa-p256", ("PKIX_ECDSA_P256_SHA_256", "sha256"), id="P-256"),
        pytest.param("ecdsa-p384", ("PKIX_ECDSA_P384_SHA_384", "sha384"), id="P-384"),
        pytest.param("ecdsa-p521", ("PKIX_ECDSA_P521_SHA_512", "sha512"), id="P-521"),
        pytest.param("ed25519", ("PKIX_ED25519_PH", "sha512"), id="Ed25519"),
    ],
)
def test_the_scheme_of_a_key_is_the_one_that_logs_of_the_second_generation_take(kind, scheme):
    assert scheme_of(generate(kind).public, PLACE) == scheme


def test_an_RSA_key_of_a_size_that_those_logs_do_not_take_is_refused():
    for bits, taken in ((2048, True), (2304, False)):
        key = of_library(rsa.generate_private_key(65537, bits).public_key())
        if taken:
            assert scheme_of(key, PLACE) == (f"PKIX_RSA_PKCS1V15_{bits}_SHA256", "sha256")
        else:
            with pytest.raises(UnsupportedEntry):
                scheme_of(key, PLACE)


def test_a_leaf_is_written_in_canonical_json():
    leaf = encode_hashedrekord(DIGEST, SIGNATURE, KeyVerifier(b"spki"), "PKIX_ECDSA_P256_SHA_256")
    assert leaf == (
        b'{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":"%s"},'
        b'"signature":{"content":"%s","verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","publicKey":{"rawBytes":"%s"}}}}}}'
        % tuple(base64.b64encode(item) for item in (DIGEST.value, SIGNATURE, b"spki"))
    )


V2_FOLDERS = ("rekor2-happy-path", "rekor2-dsse-happy-path", "rekor2-checkpoint-cosigned")


@pytest.mark.parametrize("name", V2_FOLDERS)
def test_the_leaf_of_a_real_entry_is_made_byte_for_byte(name, vectors):
    folder = vectors / "sigstore-conformance/test/assets/bundle-verify" / name
    bundle = json.loads((folder / "bundle.sigstore.json").read_text())
    der = base64.b64decode(bundle["verificationMaterial"]["certificate"]["rawBytes"])
    spki = (
        x509.load_der_x509_certificate(der)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    if envelope := bundle.get("dsseEnvelope"):
        payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
        message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
        digest, signature = hashlib.sha256(message).digest(), envelope["signatures"][0]["sig"]
    else:
        digest = base64.b64decode(bundle["messageSignature"]["messageDigest"]["digest"])
        signature = bundle["messageSignature"]["signature"]
    details, algorithm = scheme_of(parse_public_key(spki, PLACE), PLACE)
    leaf = encode_hashedrekord(Digest(algorithm, digest), base64.b64decode(signature), CertificateVerifier(der), details)
    assert leaf == base64.b64decode(bundle["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"])


def test_a_body_that_is_written_for_a_file_is_read_again():
    body = encode_body(DIGEST, SIGNATURE, PEM)
    assert body == json.dumps(body_of("hashedrekord"), separators=(",", ":")).encode()
    assert parse_body(entry_of(body), PLACE, limits.DEFAULT) == LoggedSignature(Over.ARTIFACT, DIGEST, (LoggedBy(SIGNATURE, PEM),))


@pytest.mark.parametrize("name", ["happy-path-v0.1", "happy-path-v0.2", "happy-path-v0.3"])
def test_the_body_of_a_real_entry_is_made_byte_for_byte(name, vectors):
    bundle = json.loads((vectors / "sigstore-conformance/test/assets/bundle-verify" / name / "bundle.sigstore.json").read_text())
    material, signed = bundle["verificationMaterial"], bundle["messageSignature"]
    chain = material.get("x509CertificateChain", {}).get("certificates") or [material["certificate"]]
    digest = Digest("sha256", base64.b64decode(signed["messageDigest"]["digest"]))
    pem = encode_pem("CERTIFICATE", base64.b64decode(chain[0]["rawBytes"]))
    (entry,) = material["tlogEntries"]
    assert encode_body(digest, base64.b64decode(signed["signature"]), pem) == base64.b64decode(entry["canonicalizedBody"])
