"""Attacks on verification, fed from the outside: attached to an image in a registry, and judged under a key."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from sigkit import limits
from sigkit.digest import Digest
from sigkit.errors import (
    AmbiguousArtifact,
    BadSignature,
    EvidenceUnlistable,
    MalformedBase64,
    MalformedJson,
    MalformedPem,
    NoCertificateAuthority,
    NotASignature,
    NotUtf8,
    OtherKey,
    Place,
    RefusedKeyEncryption,
    SigError,
    SigkitError,
    TooDeep,
    TooLarge,
    TooMany,
    UnsupportedKey,
    WrongShape,
)
from sigkit.evidence.attach import attach
from sigkit.evidence.statement import REPOSITORY_ANNOTATION
from sigkit.gate.admit import judge
from sigkit.keys.cosign_pem import WRITTEN_LABEL, encode_private
from sigkit.keys.load import load_private
from sigkit.keys.pem import encode_pem
from sigkit.keys.private import generate
from sigkit.keys.public import parse_public_key
from sigkit.oci.descriptor import Descriptor
from sigkit.oci.manifest import OCI_CONFIG, OCI_EMPTY, OCI_MANIFEST, encode_manifest
from sigkit.oci.reference import Repository, parse_reference
from sigkit.oci.resolve import resolve
from sigkit.policy.decision import Allow, Deny
from sigkit.policy.flags import policy_for_keys
from sigkit.signing.keyed import KeySignatory
from sigkit.signing.session import sign_image
from sigkit.trust.root import TrustedKey
from tests.simulators.evidence_maker import b64, log_entry, signed, statement, subject
from tests.simulators.images import AMD64, small_image
from tests.simulators.memory_registry import MemoryRegistry

HERE = Repository("registry.example", "acme/app")
KEY, OTHER = generate("ecdsa-p256"), generate("ecdsa-p256")
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
BUNDLE_LAYER = "application/vnd.dev.sigstore.bundle.v0.3+json"


class Clock:
    def now(self) -> datetime:
        return datetime(2026, 11, 25, tzinfo=UTC)


class Shop:
    """A registry with one image, and whatever an attacker attached to it."""

    def __init__(self) -> None:
        self.registry = MemoryRegistry()
        self.image = small_image().push(self.registry, HERE, "v1")
        self.reference = parse_reference(f"{HERE}:v1")

    def statement(self, **changes):
        return statement(**{"subject": [self.subject()], **changes})

    def subject(self, **changes):
        return subject(**{"digest": {"sha256": self.image.hex}, "annotations": {REPOSITORY_ANNOTATION: str(HERE)}, **changes})

    def attach(self, bundle) -> None:
        raw = bundle if isinstance(bundle, bytes) else json.dumps(bundle).encode()
        attach(self.registry, resolve(self.registry, self.reference), raw, "any", Clock().now())

    def judge(self, *keys):
        policy = policy_for_keys(tuple(TrustedKey(f"key-{n}", key.public) for n, key in enumerate(keys or (KEY,))))
        return judge(self.reference, AMD64, policy, self.registry, Clock(), limits.DEFAULT).decision

    def assert_refused_as(self, *errors: type[SigkitError]) -> None:
        """Judge: the image is denied, and each piece of evidence was refused for one of these reasons."""
        decision = self.judge()
        assert isinstance(decision, Deny)
        assert decision.facts == ()
        assert {refused.reason.code for refused in decision.refused} == {error.code for error in errors}


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_the_same_evidence_without_the_attack_is_allowed(shop):
    shop.attach(signed(KEY, shop.statement()))
    assert isinstance(shop.judge(), Allow)


@pytest.mark.attack("TOB-SIGSTORE-9")
@pytest.mark.parametrize("second", [KEY, OTHER], ids=["both good", "one good"])
def test_two_signatures_in_an_envelope_are_refused_as_PARSE(shop, second):
    bundle, other = signed(KEY, shop.statement()), signed(second, shop.statement())
    bundle["dsseEnvelope"]["signatures"] += other["dsseEnvelope"]["signatures"]
    shop.attach(bundle)
    shop.assert_refused_as(WrongShape)


@pytest.mark.attack("CVE-2022-35929, CVE-2022-35930")
@pytest.mark.parametrize("kind", ["https://spdx.dev/Document", "https://sigstore.dev/cosign/sign/v1/", "https://slsa.dev/provenance/v1"])
def test_an_attestation_by_the_key_is_no_signature(shop, kind):
    shop.attach(signed(KEY, shop.statement(predicateType=kind)))
    decision = shop.judge()
    assert isinstance(decision, Deny)
    assert [reason.code for reason in decision.reasons] == [NotASignature.code]


@pytest.mark.attack("CVE-2026-39395")
@pytest.mark.parametrize(
    ("payload", "error"),
    [
        pytest.param(b"{", MalformedJson, id="malformed"),
        pytest.param(b"null", WrongShape, id="null"),
        pytest.param(b"", MalformedJson, id="empty"),
        pytest.param(b'{"_type":"https://in-toto.io/Statement/v1"}', WrongShape, id="no subject"),
        pytest.param(json.dumps(statement(predicate="text")).encode(), WrongShape, id="predicate of another type"),
        pytest.param(json.dumps(statement(_type="https://in-toto.io/Link/v1")).encode(), WrongShape, id="another type"),
    ],
)
def test_a_signed_statement_that_is_malformed_is_refused_as_PARSE(shop, payload, error):
    shop.attach(signed(KEY, payload))
    shop.assert_refused_as(error)


@pytest.mark.attack("CVE-2026-44309")
def test_the_same_statement_in_other_bytes_is_refused_as_SIG(shop):
    bundle = signed(KEY, shop.statement())
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    bundle["dsseEnvelope"]["payload"] = b64(json.dumps(payload, indent=1).encode())
    shop.attach(bundle)
    shop.assert_refused_as(BadSignature)


@pytest.mark.attack("sigstore-rust#119")
@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"0\x06\x02\x01\0\x02\x01\0", b"0\x06\x02\x01\x01\x02\x01\x01"])
def test_a_bad_signature_is_refused_as_SIG_with_or_without_a_log(shop, signature):
    bundle = signed(KEY, shop.statement())
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = b64(signature)
    shop.attach(bundle)
    bundle["verificationMaterial"]["tlogEntries"] = [log_entry()]
    shop.attach(bundle)
    shop.assert_refused_as(BadSignature)


@pytest.mark.attack("GHSA-r2xv-vpr2-42m9")
def test_evidence_by_nobody_trusted_lends_nothing_to_evidence_that_is_good(shop):
    shop.attach(signed(KEY, shop.statement(predicateType="https://spdx.dev/Document")))  # good, but no signature
    shop.attach(signed(OTHER, shop.statement()))  # a signature, but by another key
    decision = shop.judge()
    assert isinstance(decision, Deny)
    assert [refused.reason.code for refused in decision.refused] == [OtherKey.code]


@pytest.mark.attack("CVE-2024-45395")
@pytest.mark.parametrize(("count", "error"), [(33, TooMany), (1_000_000, TooMany), (4_000_000, TooLarge)])
def test_endless_log_entries_are_refused_as_LIMIT(shop, count, error):
    bundle = json.dumps(signed(KEY, shop.statement())).encode()
    shop.attach(bundle.replace(b'"verificationMaterial": {', b'"verificationMaterial": {"tlogEntries":[' + b"{}," * (count - 1) + b"{}],"))
    shop.assert_refused_as(error)


@pytest.mark.attack("CVE-2023-46737, CVE-2024-29902, CVE-2024-29903, CVE-2023-33957, CVE-2023-33958")
def test_endless_older_signatures_are_could_not_check(shop):
    layer = Descriptor("application/vnd.dev.cosign.simplesigning.v1+json", Digest.of(b"x"), 1)
    raw = encode_manifest(Descriptor(OCI_CONFIG, Digest.of(b"{}"), 2), [layer] * 10_000)
    shop.registry.lies[f"sha256-{shop.image.hex}.sig"] = raw
    with pytest.raises(EvidenceUnlistable) as caught:
        shop.judge()
    assert caught.value.status() == 3


@pytest.mark.attack("CVE-2023-46737, CVE-2024-29902, CVE-2024-29903, CVE-2023-33957, CVE-2023-33958")
def test_endless_bundles_are_could_not_check_and_none_is_fetched(shop):
    shop.registry.list_referrers = lambda *_: tuple(Descriptor(OCI_MANIFEST, Digest.of(b"%d" % n), 1) for n in range(1001))
    with pytest.raises(EvidenceUnlistable):
        shop.judge()
    assert len(shop.registry.asked) == 4  # the image and three tags


@pytest.mark.attack("CVE-2023-46737, CVE-2024-29902, CVE-2024-29903, CVE-2023-33957, CVE-2023-33958")
def test_a_bundle_of_a_gigabyte_is_not_fetched(shop):
    config, layer = Descriptor(OCI_EMPTY, Digest.of(b"{}"), 2), Descriptor(BUNDLE_LAYER, Digest.of(b"huge"), 2**30)
    raw = encode_manifest(config, [layer], subject=Descriptor(OCI_MANIFEST, shop.image, 1))
    shop.registry.push_manifest(HERE, Digest.of(raw), raw, OCI_MANIFEST)
    with pytest.raises(EvidenceUnlistable) as caught:
        shop.judge()
    assert caught.value.status() == 3


@pytest.mark.attack("ECDSA malleability")
def test_a_second_valid_signature_of_the_same_bytes_is_still_one_signer(shop):
    bundle = signed(KEY, shop.statement())
    twin = json.loads(json.dumps(bundle))
    r, s = decode_dss_signature(base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"]))
    twin["dsseEnvelope"]["signatures"][0]["sig"] = b64(encode_dss_signature(r, ORDER - s))
    shop.attach(bundle)
    shop.attach(twin)
    decision = shop.judge()
    assert isinstance(decision, Allow)
    assert len(decision.facts) == 2  # both verify …
    assert len({fact.signer.signer for fact in decision.facts}) == 1  # … and are one
    assert not sign_image(shop.registry, resolve(shop.registry, shop.reference), KeySignatory(KEY), {}, Clock()).added


@pytest.mark.attack("Ed25519 low-order keys")
def test_every_low_order_key_of_the_published_vectors_is_refused_as_SIG(vectors):
    head = bytes.fromhex("302a300506032b6570032100")
    for case in json.loads((vectors / "cctv/ed25519/ed25519vectors.json").read_text()):
        spki = head + bytes.fromhex(case["key"])
        if "low_order_A" in (case["flags"] or ()):
            with pytest.raises(UnsupportedKey):
                parse_public_key(spki, Place("key"))
        else:
            parse_public_key(spki, Place("key"))


@pytest.mark.attack("Ed25519 low-order keys")
@pytest.mark.parametrize("point", ["00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ee" + "ff" * 31])
def test_a_low_order_key_is_refused_as_SIG(point):
    with pytest.raises(UnsupportedKey):
        parse_public_key(bytes.fromhex("302a300506032b6570032100" + point), Place("key"))


def spki_on(curve: str, coordinate_bytes: int) -> bytes:
    """Return a key on the curve with this object identifier, in hexadecimal DER; the point is of the right size."""
    algorithm = bytes.fromhex("06072a8648ce3d0201" + curve)
    point = b"\x00\x04" + b"\x01" * (2 * coordinate_bytes)
    body = bytes([0x30, len(algorithm)]) + algorithm + b"\x03" + der_length(len(point)) + point
    return b"\x30" + der_length(len(body)) + body


def der_length(size: int) -> bytes:
    return bytes([size]) if size < 128 else bytes([0x81, size])


@pytest.mark.attack("CVE-2026-26007")
@pytest.mark.parametrize(
    "spki",
    [
        pytest.param(spki_on("06052b81040001", 21), id="sect163k1"),
        pytest.param(spki_on("06052b8104001b", 30), id="sect233r1"),
        pytest.param(spki_on("06052b81040026", 72), id="sect571k1"),
        pytest.param(spki_on("06082a8648ce3d030101", 24), id="P-192"),
        pytest.param(
            ec.derive_private_key(7, ec.SECP256K1())
            .public_key()
            .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
            id="secp256k1",
        ),
    ],
)
def test_a_key_on_another_curve_is_refused_as_SIG(spki):
    for raw in (spki, encode_pem("PUBLIC KEY", spki)):
        with pytest.raises(SigError):
            parse_public_key(raw, Place("key"))


@pytest.mark.attack("JSON ambiguity")
@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param(lambda raw: raw.replace(b'"payload":', b'"payload":"e30=","payload":'), MalformedJson, id="payload twice"),
        pytest.param(lambda raw: raw.replace(b'"hint":', b'"hint":NaN,"hint":'), MalformedJson, id="NaN"),
        pytest.param(lambda raw: b"\xef\xbb\xbf" + raw, NotUtf8, id="byte-order mark"),
        pytest.param(lambda raw: raw.decode().encode("utf-16"), NotUtf8, id="UTF-16"),
        pytest.param(lambda raw: raw + b"{}", MalformedJson, id="trailing data"),
        pytest.param(lambda raw: raw.replace(b'"hint": "', b'"hint": "\\ud800'), MalformedJson, id="lone surrogate"),
        pytest.param(lambda raw: raw.replace(b'"dsseEnvelope"', b'"DsseEnvelope"'), WrongShape, id="another case"),
    ],
)
def test_a_bundle_that_two_readers_see_differently_is_refused_as_PARSE(shop, change, error):
    raw = json.dumps(signed(KEY, shop.statement())).encode()
    assert change(raw) != raw
    shop.attach(change(raw))
    shop.assert_refused_as(error)


@pytest.mark.attack("JSON ambiguity")
def test_a_signed_statement_with_a_digest_twice_is_refused_as_PARSE(shop):
    other = Digest.of(b"other").hex.encode()
    payload = json.dumps(shop.statement()).encode().replace(b'{"sha256":', b'{"sha256":"' + other + b'","sha256":')
    shop.attach(signed(KEY, payload))
    shop.assert_refused_as(MalformedJson)


@pytest.mark.attack("deep nesting")
def test_deep_nesting_is_refused_as_LIMIT_in_a_bundle_and_in_what_it_signs(shop):
    shop.attach(b"[" * 100_000)
    shop.attach(signed(KEY, b'{"predicate":' + b"[" * 100_000))
    shop.assert_refused_as(TooDeep)


@pytest.mark.attack("lenient base64")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text[:8] + "\n" + text[8:], id="line break"),
        pytest.param(lambda text: text[:8] + "!" + text[8:], id="junk"),
        pytest.param(lambda text: text.rstrip("=") if text.endswith("=") else text + "=", id="padding"),
        pytest.param(lambda _: "INVALID!!!BASE64!!!", id="sigstore-conformance"),
    ],
)
@pytest.mark.parametrize("member", ["payload", "sig"])
def test_lenient_base64_is_refused_as_PARSE(shop, change, member):
    bundle = signed(KEY, shop.statement())
    holder = bundle["dsseEnvelope"] if member == "payload" else bundle["dsseEnvelope"]["signatures"][0]
    holder[member] = change(holder[member])
    shop.attach(bundle)
    shop.assert_refused_as(MalformedBase64)


@pytest.mark.attack("mixed digests")
def test_a_digest_that_matches_beside_one_that_was_not_compared_is_refused_as_BIND(shop):
    digests = {"sha256": shop.image.hex, "sha512": Digest.of(b"another image", "sha512").hex}
    shop.attach(signed(KEY, shop.statement(subject=[shop.subject(digest=digests)])))
    shop.assert_refused_as(AmbiguousArtifact)


@pytest.mark.attack("two keys in a file")
def test_a_public_key_file_with_two_keys_is_refused_as_PARSE():
    with pytest.raises(MalformedPem):
        parse_public_key(OTHER.public.encode_pem() + KEY.public.encode_pem(), Place("both.pub"))


@pytest.mark.attack("scrypt parameters")
def test_a_key_file_that_asks_for_a_terabyte_is_refused_before_anything_is_derived(tmp_path):
    lines = encode_private(KEY, "pw").split(b"\n")
    content = json.loads(base64.b64decode(b"".join(lines[1:-2])))
    content["kdf"]["params"]["N"] = 2**30
    (tmp_path / "evil.key").write_bytes(encode_pem(WRITTEN_LABEL, json.dumps(content).encode()))
    with pytest.raises(RefusedKeyEncryption):
        load_private(str(tmp_path / "evil.key"), lambda: "pw")


@pytest.mark.attack("certificate evidence under a key")
def test_evidence_by_certificate_is_refused_under_its_own_code_and_not_called_unsigned(shop):
    bundle = signed(KEY, shop.statement())
    bundle["verificationMaterial"] = {"certificate": {"rawBytes": "MAA="}}
    shop.attach(bundle)
    shop.assert_refused_as(NoCertificateAuthority)
