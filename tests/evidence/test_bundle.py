"""Sigstore bundles."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import MalformedBase64, MalformedDigest, MalformedJson, Place, TooLarge, TooMany, UnsupportedEvidence, WrongShape
from sigkit.evidence.bundle import V03, Bundle, CertificateMaterial, Content, KeyMaterial, MessageSignature, encode_bundle, parse_bundle
from sigkit.evidence.envelope import IN_TOTO_TYPE, Envelope
from sigkit.keys.private import generate
from sigkit.limits import Limits
from sigkit.tlog.entry import InclusionProof, LogEntry
from tests.simulators.evidence_maker import b64, log_entry, log_proof, signed

HERE = Place("bundle")
KEY = generate("ed25519")
VERSIONS = {
    "0.1": "application/vnd.dev.sigstore.bundle+json;version=0.1",
    "0.2": "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "0.3": "application/vnd.dev.sigstore.bundle.v0.3+json",
}


def certificate(version: int = 2) -> bytes:
    """Return a self-issued certificate in DER, whose version field is `version`."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root")])
    key = ec.generate_private_key(ec.SECP256R1())
    start = datetime(2026, 1, 1, tzinfo=UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), 7, start, start + timedelta(days=1)).sign(key, hashes.SHA256())
    der = built.public_bytes(serialization.Encoding.DER)
    written = b"\xa0\x03\x02\x01"
    assert der.count(written + b"\x02") == 1
    return der.replace(written + b"\x02", written + bytes([version]))


def parse(document):
    return parse_bundle(json.dumps(document).encode(), limits.DEFAULT, HERE)


def bundle(**changes):
    return {**signed(KEY), **changes}


def of_message(**members):
    document = bundle(messageSignature=members)
    del document["dsseEnvelope"]
    return document


def with_material(**material):
    return bundle(verificationMaterial={"publicKey": {"hint": "h"}, **material})


def test_a_bundle_by_key_reads_back_as_written():
    contents: tuple[Content, ...] = (
        Envelope(b"payload", IN_TOTO_TYPE, b"sig"),
        MessageSignature(b"sig", None),
        *(MessageSignature(b"sig", Digest.of(b"file", algorithm)) for algorithm in ("sha256", "sha384", "sha512")),
    )
    for content in contents:
        written = encode_bundle("hint", content)
        assert parse_bundle(written, limits.DEFAULT, HERE) == Bundle(V03, KeyMaterial("hint"), content)


def test_members_stand_in_cosigns_order():
    written = json.loads(encode_bundle("h", Envelope(b"p", IN_TOTO_TYPE, b"s")))
    assert list(written) == ["mediaType", "verificationMaterial", "dsseEnvelope"]
    assert list(written["dsseEnvelope"]) == ["payload", "payloadType", "signatures"]


def test_both_spellings_of_version_03_are_read():
    older_spelling = bundle(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.3")
    assert parse(older_spelling) == parse(bundle())


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.dev.sigstore.bundle.v0.2+json",
        "application/vnd.dev.sigstore.bundle.v0.3.1+json",
        "application/vnd.dev.sigstore.bundle.v0.4+json",
        "application/vnd.dev.sigstore.bundle+json;version=99.9",
        "",
    ],
)
def test_another_version_is_refused_by_its_name(media_type):
    with pytest.raises(UnsupportedEvidence) as caught:
        parse(bundle(mediaType=media_type))
    assert caught.value.got == (media_type or "nothing")
    assert caught.value.place.inside == "$.mediaType"


@pytest.mark.parametrize(
    ("digest", "expected"),
    [
        pytest.param({"algorithm": "SHA2_256", "digest": b64(b"d" * 32)}, Digest("sha256", b"d" * 32), id="by name"),
        pytest.param({"algorithm": 3, "digest": b64(b"d" * 64)}, Digest("sha512", b"d" * 64), id="by number"),
        pytest.param({}, None, id="empty, as cosign writes it for Ed25519"),
        pytest.param(None, None, id="null"),
    ],
)
def test_a_message_signature_is_read_with_what_the_bundle_says_of_the_file(digest, expected):
    found = parse(of_message(messageDigest=digest, signature=b64(b"sig"))).content
    assert found == MessageSignature(b"sig", expected)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param({"messageDigest": {}}, id="no signature"),
        pytest.param({"signature": "c2ln", "extra": 1}, id="unknown member"),
        pytest.param({"signature": "c2ln", "messageDigest": {"algorithm": "SHA3_256", "digest": b64(b"d" * 32)}}, id="another hash"),
        pytest.param({"signature": "c2ln", "messageDigest": {"algorithm": True, "digest": b64(b"d" * 32)}}, id="true for 1"),
        pytest.param({"signature": "c2ln", "messageDigest": {"algorithm": 1.0, "digest": b64(b"d" * 32)}}, id="a float for 1"),
        pytest.param({"signature": "c2ln", "messageDigest": {"algorithm": [], "digest": b64(b"d" * 32)}}, id="a list"),
        pytest.param({"signature": "c2ln", "messageDigest": {"algorithm": "SHA2_256"}}, id="no digest"),
        pytest.param({"signature": "c2ln", "messageDigest": {"digest": b64(b"d" * 32)}}, id="no algorithm"),
    ],
)
def test_a_malformed_message_signature_is_refused_as_PARSE(message):
    with pytest.raises(WrongShape):
        parse(of_message(**message))


def test_a_message_digest_of_another_length_is_refused_as_DIGEST():
    with pytest.raises(MalformedDigest) as caught:
        parse(of_message(signature="c2ln", messageDigest={"algorithm": "SHA2_256", "digest": b64(b"d" * 31)}))
    assert caught.value.place.inside == "$.messageSignature.messageDigest.digest"


def test_two_contents_or_none_are_refused_as_PARSE():
    with pytest.raises(WrongShape):
        parse(bundle(messageSignature={"signature": "c2ln"}))
    neither = bundle()
    del neither["dsseEnvelope"]
    with pytest.raises(WrongShape):
        parse(neither)


def test_a_hint_may_be_absent():
    assert parse(bundle(verificationMaterial={"publicKey": {}})).material == KeyMaterial("")


def test_a_certificate_is_kept_as_it_is():
    assert parse(bundle(verificationMaterial={"certificate": {"rawBytes": "MAA="}})).material == CertificateMaterial((b"0\x00",))


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


@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_an_older_version_holds_a_chain_and_no_certificate_alone(version):
    chain = {"x509CertificateChain": {"certificates": [{"rawBytes": "MAA="}]}}
    read = parse(bundle(mediaType=VERSIONS[version], verificationMaterial=chain))
    assert (read.version, read.material) == (version, CertificateMaterial((b"0\x00",)))
    with pytest.raises(WrongShape) as caught:
        parse(bundle(mediaType=VERSIONS[version], verificationMaterial={"certificate": {"rawBytes": "MAA="}}))
    assert caught.value.place.inside == "$.verificationMaterial.certificate"


@pytest.mark.parametrize(
    "certificates",
    [
        pytest.param([], id="none"),
        pytest.param([{"rawBytes": ""}], id="an empty one"),
        pytest.param([{}], id="no bytes"),
        pytest.param([{"rawBytes": "MAA="}, {"rawBytes": "MAA="}], id="an intermediate that is none"),
        pytest.param([{"rawBytes": "MAA="}, {"rawBytes": b64(certificate(version=66))}], id="an intermediate of another version"),
        pytest.param([{"rawBytes": "MAA="}, {"rawBytes": b64(certificate())}], id="a root"),
    ],
)
def test_a_chain_of_something_else_is_refused_as_PARSE(certificates):
    with pytest.raises(WrongShape):
        parse(bundle(mediaType=VERSIONS["0.2"], verificationMaterial={"x509CertificateChain": {"certificates": certificates}}))


def test_an_endless_chain_is_refused_as_LIMIT():
    chain = {"x509CertificateChain": {"certificates": [{"rawBytes": "MAA="}] * 11}}
    with pytest.raises(TooMany):
        parse(bundle(mediaType=VERSIONS["0.2"], verificationMaterial=chain))


def test_log_entries_are_read_whole_and_not_believed():
    (found,) = parse(with_material(tlogEntries=[log_entry()])).entries
    assert found == LogEntry(
        index=7,
        log_id=b"log",
        kind="dsse",
        version="0.0.1",
        integrated_time=1_700_000_000,
        promise=b"promise",
        proof=InclusionProof(index=3, size=5, root=b"r" * 32, hashes=(b"h" * 32,) * 3, checkpoint="note"),
        body=b"body",
    )


def test_what_protojson_leaves_out_is_zero_or_empty():
    proof = log_proof(logIndex=None, hashes=None)
    (found,) = parse(
        with_material(tlogEntries=[log_entry(logIndex=None, integratedTime=None, canonicalizedBody=None, inclusionProof=proof)])
    ).entries
    assert (found.index, found.integrated_time, found.body) == (0, 0, b"")
    assert found.proof
    assert (found.proof.index, found.proof.hashes) == (0, ())


@pytest.mark.parametrize(
    ("version", "changes", "accepted"),
    [
        pytest.param("0.1", {"inclusionProof": None}, True, id="0.1: a promise alone"),
        pytest.param("0.1", {"inclusionProof": log_proof(checkpoint=None)}, True, id="0.1: a proof without a checkpoint"),
        pytest.param("0.1", {"inclusionPromise": None}, False, id="0.1: no promise"),
        *(
            pytest.param(version, changes, accepted, id=f"{version}: {name}")
            for version in ("0.2", "0.3")
            for name, changes, accepted in (
                ("no promise", {"inclusionPromise": None}, True),
                ("no proof", {"inclusionProof": None}, False),
                ("no checkpoint", {"inclusionProof": log_proof(checkpoint=None)}, False),
                ("an empty checkpoint", {"inclusionProof": log_proof(checkpoint={"envelope": ""})}, False),
            )
        ),
    ],
)
def test_each_version_has_its_own_rule_for_promise_proof_and_checkpoint(version, changes, accepted):
    document = with_material(tlogEntries=[log_entry(**changes)])
    document["mediaType"] = VERSIONS[version]
    if accepted:
        assert len(parse(document).entries) == 1
        return
    with pytest.raises(WrongShape) as caught:
        parse(document)
    assert caught.value.place.inside.startswith("$.verificationMaterial.tlogEntries[0]")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"foo": 1}, id="unknown member"),
        pytest.param({"logId": None}, id="no log"),
        pytest.param({"logId": {"keyId": ""}}, id="an empty log id"),
        pytest.param({"kindVersion": None}, id="no kind"),
        pytest.param({"kindVersion": {"kind": "dsse"}}, id="no version"),
        pytest.param({"inclusionPromise": {"signedEntryTimestamp": ""}}, id="an empty promise"),
        pytest.param({"inclusionPromise": {}}, id="no promise in a promise"),
        pytest.param({"inclusionProof": log_proof(extra=1)}, id="unknown member of the proof"),
        pytest.param({"inclusionProof": log_proof(rootHash=None)}, id="no root"),
        pytest.param({"inclusionProof": log_proof(rootHash=b64(b"r" * 31))}, id="a short root"),
        pytest.param({"inclusionProof": log_proof(hashes=[b64(b"h" * 33)])}, id="a long hash"),
        pytest.param({"inclusionProof": log_proof(treeSize="-1")}, id="a negative size"),
        pytest.param({"inclusionProof": log_proof(checkpoint={"note": "x"})}, id="unknown member of the checkpoint"),
    ],
)
def test_an_entry_of_another_shape_is_refused_as_PARSE(changes):
    with pytest.raises(WrongShape) as caught:
        parse(with_material(tlogEntries=[log_entry(**changes)]))
    assert caught.value.place.inside.startswith("$.verificationMaterial.tlogEntries[0]")


def test_a_proof_longer_than_any_trees_is_refused_as_LIMIT():
    with pytest.raises(TooMany):
        parse(with_material(tlogEntries=[log_entry(inclusionProof=log_proof(hashes=[b64(b"h" * 32)] * 64))]))


def test_one_entry_twice_is_refused_and_one_index_of_two_logs_is_not():
    with pytest.raises(WrongShape) as caught:
        parse(with_material(tlogEntries=[log_entry(), log_entry(integratedTime="1")]))
    assert caught.value.place.inside == "$.verificationMaterial.tlogEntries[1]"
    assert len(parse(with_material(tlogEntries=[log_entry(), log_entry(logId={"keyId": "AAAA"})])).entries) == 2


@pytest.mark.parametrize("member", ["logIndex", "integratedTime"])
@pytest.mark.parametrize("index", ["-1", -1, "1e3", "01", "", " 1", "٣", 1.0, "9223372036854775808", 2**63, "9" * 5000, True, []])
def test_a_number_that_is_no_int64_of_a_log_is_refused_as_PARSE(member, index):
    with pytest.raises((WrongShape, MalformedJson)):
        parse(with_material(tlogEntries=[log_entry(**{member: index})]))


@pytest.mark.parametrize("index", [5, "5", 2**63 - 1, "9223372036854775807"])
def test_an_int64_is_read_as_text_and_as_number(index):
    assert parse(with_material(tlogEntries=[log_entry(logIndex=index)])).entries[0].index == int(index)


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


def rich(version: str):
    """Return two bundles that have, between them, every member that the version knows."""
    proved = {"tlogEntries": [log_entry()], "timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": "MAA="}]}}
    one = {"certificate": {"rawBytes": "MAA="}} if version == "0.3" else {"x509CertificateChain": {"certificates": [{"rawBytes": "MAA="}]}}
    yield bundle(mediaType=VERSIONS[version], verificationMaterial={**proved, **one})
    message = of_message(messageDigest={"algorithm": "SHA2_256", "digest": b64(b"d" * 32)}, signature="c2ln")
    yield {**message, "mediaType": VERSIONS[version]}


def objects(value):
    """Yield every object in a document."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(item)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unknown_member_is_refused_as_PARSE_wherever_it_stands(version):
    for document in rich(version):
        parse(document)
        for number in range(len(list(objects(document)))):
            changed = copy.deepcopy(document)
            list(objects(changed))[number]["extra"] = None
            with pytest.raises(WrongShape) as caught:
                parse(changed)
            assert caught.value.got == "'extra'"
